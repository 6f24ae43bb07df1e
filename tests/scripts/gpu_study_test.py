#!/usr/bin/env python3
"""scripts/gpu_study.sh with a fake of train_gpt, alone and in a package of gpu_check.sh."""

import io
import sys
import tarfile
import unittest

from gpu_package import PackageTest
from sandbox import SCRIPTS

sys.dont_write_bytecode = True

TRAIN = r"""#!/bin/bash
echo "train_gpt $* for $MAX_WALLCLOCK_SECONDS on $DATA_PATH with $LD_LIBRARY_PATH" >>"$HOME/calls"
while [ $# -gt 0 ]; do
  case $1 in --out-dir) out=$2 ;; --run-id) id=$2 ;; esac
  shift
done
mkdir -p "$out/$id"
printf '{"kind":"end","step":20,"train_time_ms":4000.0}\n{"kind":"final","val_loss":2.0,"val_bpb":1.25}\n' >"$out/$id/metrics.jsonl"
"""


class GpuStudyTest(PackageTest):
    def study(self, *options):
        return self.run_script(SCRIPTS / "gpu_study.sh", *map(str, options))

    def check_table(self, result):
        self.assertEqual(result.returncode, 0, result.stderr)
        lines = [line.split() for line in result.stdout.splitlines()]
        self.assertEqual(lines[1:], [[arm, "20", "1.2500", "200.0"] for arm in ("full", "partial_16", "p_rope_16", "none")])

    def test_a_folder_of_programs(self):
        folder = self.root / "bin"
        folder.mkdir()
        (folder / "train_gpt").write_text(TRAIN)
        (folder / "train_gpt").chmod(0o755)
        self.environment["DATA_PATH"] = "mine"
        self.check_table(self.study("--seconds", "7", "--programs", folder, "--seed", "3"))
        calls = self.called("train_gpt")
        self.assertEqual(len(calls), 4)
        self.assertIn("--rope-dims 16 --rope-select high --seed 3 for 7 on mine with /the/machines/own", calls[2])
        self.check_table(self.study("--programs", folder))
        self.assertEqual(len(self.called("train_gpt")), 4, "what is done is not run again")

    def test_a_package(self):
        with tarfile.open(self.package / "programs.tar.xz", "w:xz", preset=0) as tar:
            info = tarfile.TarInfo("bin/train_gpt")
            info.size, info.mode = len(TRAIN), 0o755
            tar.addfile(info, io.BytesIO(TRAIN.encode()))
        self.check_table(self.study("--programs", self.package))
        for call in self.called("train_gpt"):
            self.assertRegex(call, rf" for 150 on {self.package}/data with /.*/lib:{self.root}/site/torch/lib:/the/machines/own$")
        self.assertEqual(list((self.root / "tmp").iterdir()), [], "nothing is left behind")


if __name__ == "__main__":
    unittest.main()
