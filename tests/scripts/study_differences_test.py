#!/usr/bin/env python3
"""scripts/study_differences.py on small tables."""

import pathlib
import subprocess
import sys
import tempfile
import unittest

PROGRAM = pathlib.Path(__file__).resolve().parents[2] / "scripts/study_differences.py"


def table_of(losses):
    with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
        print("requested,seed,final_val_loss,eval_seq_len,train_seq_len,length_val_loss", file=file)
        for arm, seed, loss in losses:
            for factor in (1, 4):
                print(f"{arm},{seed},{loss},{256 * factor},256,{loss * factor}", file=file)
        file.flush()
        return subprocess.run([sys.executable, PROGRAM, file.name], capture_output=True, text=True, check=False)


class StudyDifferencesTest(unittest.TestCase):
    def test_differences_are_taken_by_seed(self):
        full = [("ROPE_DIMS=full", seed, 3 + seed / 10) for seed in (1, 2, 3)]
        other = [("ROPE_DIMS=16", seed, 3.1 + seed / 10 + (seed - 2) / 100) for seed in (1, 2, 3)]
        result = table_of(full + other)
        self.assertEqual(result.returncode, 0, result.stderr)
        lines = result.stdout.splitlines()
        self.assertEqual(lines[2], "| `ROPE_DIMS=full` | 3.200 \u00b1 0.100 |  | 12.800 \u00b1 0.400 |")
        # 4.303 * 0.01 / sqrt(3) = 0.0248
        self.assertIn("+0.100 [+0.075, +0.125]", lines[3])

    def test_an_arm_without_its_baseline_is_an_error(self):
        for losses in ([("ROPE_DIMS=16", 1, 3.0), ("ROPE_DIMS=16", 2, 3.1)],
                       [("ROPE_DIMS=full", 1, 3.0), ("ROPE_DIMS=full", 2, 3.0), ("ROPE_DIMS=16", 1, 3.0)]):  # fmt: skip
            result = table_of(losses)
            self.assertEqual(result.returncode, 1)
            self.assertIn("needs the same 2 to 6 seeds", result.stderr)


if __name__ == "__main__":
    unittest.main()
