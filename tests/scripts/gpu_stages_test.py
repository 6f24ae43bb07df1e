#!/usr/bin/env python3
"""The stages of scripts/gpu_check.sh, each with fakes of what it runs."""

import sys
import unittest

from gpu_package import LIBRARIES, PackageTest

sys.dont_write_bytecode = True


class GpuStagesTest(PackageTest):
    def test_nothing_to_compare_with(self):
        result = self.check("--only", "upstream,ours_after,ours_before")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(
            {name: status for name, (status, _) in self.statuses().items()},
            {"ours_before": "ok", "upstream": "SKIPPED", "ours_after": "SKIPPED"},
        )

    def test_a_slow_way_is_a_failure(self):
        self.check("--only", "smoke,test_model", SMOKE="CUDA_GRAPHS: a step could not be recorded", TESTS="no CUDA device")
        self.assertEqual(self.statuses()["smoke"], ("FAILED", 'output has "could not be recorded"'))
        self.assertEqual(self.statuses()["test_model"], ("FAILED", "5 passed, 1 skipped: the tests saw no GPU"))

    def test_no_gpu(self):
        self.torch(available=False)
        result = self.check("--part", "2")
        self.assertEqual(result.returncode, 1)
        self.assertEqual(self.statuses()["machine"], ("FAILED", "exit 7"))
        self.assertEqual({status for name, status in self.statuses().items() if name != "machine"}, {("SKIPPED", "no GPU")})

    def test_a_missing_library(self):
        self.fake("ldd", f'{LIBRARIES}; echo "  libz.so.1 => not found"; echo "  libcuda.so.1 => not found"')
        result = self.run_script(self.package / "gpu_check.sh", "libraries", self.root / "site/torch")
        self.assertEqual(result.returncode, 1)
        self.assertIn("train_gpt: libz.so.1 => not found\n", result.stderr)


if __name__ == "__main__":
    unittest.main()
