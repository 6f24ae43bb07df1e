#!/usr/bin/env python3
"""benchmarks/compare_steps.py with a fake bench_step whose times are known."""

import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from sandbox import SandboxTest

PROGRAM = pathlib.Path(__file__).resolve().parents[2] / "benchmarks/compare_steps.py"
# A step takes as many milliseconds as dims rotate, twice that in every second run.
BENCH = """
while [ "$1" != --json ]; do shift; done
runs=$(grep -c . "$CALLS")
echo "{\\"ms\\": {\\"total\\": {\\"median\\": $((ROPE_DIMS * (1 + (runs - 1) / 2 % 2)))}}}" >"$2"
"""


class CompareSteps(SandboxTest):
    def compare(self, *arguments):
        self.environment["CALLS"] = str(self.calls)
        return self.run_script(PROGRAM, "--bench-step", self.fakes / "bench_step", *arguments)

    def test_ratios_are_taken_within_a_round(self):
        self.fake("bench_step", BENCH)
        result = self.compare("ROPE_DIMS", "16,8", "--rounds", "4", "--", "--config", "some file.env")
        self.assertEqual(result.returncode, 0, result.stderr)
        first, second = [line.split() for line in result.stdout.splitlines()[1:]]
        self.assertEqual(first, ["16", "24.00", "1.000", "1.000", "to", "1.000"])
        self.assertEqual(second, ["8", "12.00", "0.500", "0.500", "to", "0.500"])
        self.assertEqual(len(self.called("bench_step")), 8)
        self.assertTrue(all(call.endswith("-- --config some file.env") for call in self.called("bench_step")))

    def test_a_failing_run_and_too_few_values_are_named(self):
        self.fake("bench_step", "echo 'error: no such data' >&2; exit 3")
        result = self.compare("ROPE_DIMS", "16,8")
        self.assertEqual(result.returncode, 1)
        self.assertIn("ROPE_DIMS=16: bench_step failed: error: no such data", result.stderr)
        self.assertEqual(self.compare("ROPE_DIMS", "16").returncode, 2)


if __name__ == "__main__":
    unittest.main()
