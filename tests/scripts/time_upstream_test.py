#!/usr/bin/env python3
"""benchmarks/time_upstream.py with a stand-in of PyTorch: what it has written when a step does not end."""

import contextlib
import io
import json
import pathlib
import sys
import tempfile
import types
import unittest
from unittest import mock

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "benchmarks"))


class Work:
    tokens = 524288

    def __init__(self, ends_at):
        self.ends_at, self.steps = ends_at, 0

    def __call__(self):
        self.steps += 1
        if self.steps == self.ends_at:
            raise KeyboardInterrupt
        return 7.0 - self.steps

    warm_up = __call__


class TimeUpstreamTest(unittest.TestCase):
    def run_until(self, step, *options):
        torch = mock.MagicMock()
        torch.__version__ = "2.11.0"
        torch.get_num_threads.return_value = 2
        torch.backends.cpu.get_cpu_capability.return_value = "AVX2"
        work = Work(step)
        with tempfile.TemporaryDirectory() as folder, mock.patch.dict(sys.modules, torch=torch):
            sys.modules.pop("time_upstream", None)
            import time_upstream

            time_upstream.load = lambda _: types.ModuleType("upstream")
            time_upstream.Training = time_upstream.Validation = lambda *_: work
            file = pathlib.Path(folder) / "times.json"
            printed = io.StringIO()
            arguments = ["time_upstream.py", "train_gpt.py", "--json", str(file), *options]
            with mock.patch.object(sys, "argv", arguments), contextlib.redirect_stdout(printed):
                with contextlib.suppress(KeyboardInterrupt):
                    time_upstream.main()
            self.assertEqual([path.name for path in pathlib.Path(folder).iterdir()], ["times.json"])
            return json.loads(file.read_text()), printed.getvalue()

    def test_all_steps(self):
        result, printed = self.run_until(0, "--warmup", "2", "--steps", "3")
        self.assertEqual(result["losses"], [6.0, 5.0, 4.0, 3.0, 2.0])
        self.assertEqual((result["first_loss"], len(result["warmup_ms"]), len(result["ms"]["total"]["samples"])), (6.0, 2, 3))
        self.assertGreaterEqual(result["cpu_share"], 0)
        self.assertRegex(printed, r"^warmup 1: [\d.]+ ms, loss 6.000000\nwarmup 2: .*\nstep 1: .*\nstep 2: .*\nstep 3: .*")

    def test_an_end_in_the_middle(self):
        result, _ = self.run_until(4, "--warmup", "2", "--steps", "3")
        self.assertEqual((result["losses"], len(result["ms"]["total"]["samples"])), ([6.0, 5.0, 4.0], 1))
        result, _ = self.run_until(2, "--warmup", "2", "--steps", "3")
        self.assertEqual((result["losses"], result["ms"]["total"]["samples"], result["cpu_share"]), ([6.0], [], None))

    def test_validations(self):
        result, _ = self.run_until(0, "--eval-tokens", "1024", "--warmup", "1", "--steps", "1")
        self.assertEqual((result["losses"], result["first_loss"]), ([5.0], 5.0))


if __name__ == "__main__":
    unittest.main()
