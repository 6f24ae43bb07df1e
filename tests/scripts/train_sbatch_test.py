#!/usr/bin/env python3
"""scripts/train.sbatch with fakes for Slurm's programs: what it starts, and the address at which the processes meet."""

import unittest

from sandbox import SandboxTest


class TrainSbatchTest(SandboxTest):
    def submit(self, *arguments, **variables):
        self.copy_scripts()
        self.fake("scontrol", "printf 'gpu03\\ngpu04\\n'")
        self.fake("srun", 'echo "$MASTER_ADDR:$MASTER_PORT $RUN_ID threads:$OMP_NUM_THREADS | $*"')
        self.environment |= {"SLURM_JOB_ID": "70123", "SLURM_JOB_NODELIST": "gpu[03-04]", "SLURM_CPUS_PER_TASK": "8"}
        self.environment |= variables
        return self.run_script(self.root / "scripts" / "train.sbatch", *arguments)

    def test_one_place_to_meet_and_a_run_named_after_the_job(self):
        result = self.submit("--rope-dims", "16")
        self.assertEqual(result.returncode, 0, result.stderr)
        words = "--cpus-per-task=8 --kill-on-bad-exit=1 build/bin/train_gpt --rope-dims 16"
        self.assertEqual(result.stdout, f"gpu03:29623 job-70123 threads:8 | {words}\n")

    def test_a_run_id_of_the_user_stays(self):
        self.assertIn(" mine threads:4 | ", self.submit(RUN_ID="mine", OMP_NUM_THREADS="4").stdout)


if __name__ == "__main__":
    unittest.main()
