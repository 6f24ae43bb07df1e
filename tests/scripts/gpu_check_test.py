#!/usr/bin/env python3
"""scripts/gpu_check.sh with fakes of the GPU, PyTorch and the programs: order, limits, report and table."""

import os
import signal
import subprocess
import sys
import tarfile
import types
import unittest
from unittest import mock

from gpu_package import PackageTest, write_shard
from sandbox import SCRIPTS, alive, wait_until

sys.dont_write_bytecode = True
sys.path.insert(0, str(SCRIPTS))
import gpu_run

PART_1 = (
    "machine libraries smoke fallback reference step_graphs step_parts test_ops test_model test_train operations profile"
    " test_optim train evaluate resume generate nccl"
).split()
PART_2 = "machine libraries ours_before ours_fallback upstream ours_after".split()
PART_2 += "micro_batches rope_dims deterministic gptq graphs_profile memcheck racecheck".split()


class GpuCheckTest(PackageTest):
    def test_all_stages_in_order_and_the_table(self):
        write_shard(self.package / "data/fineweb_train_000000.bin", [1] * 1200)
        (self.package / "predicted_h200.json").write_text('{"step_ms": 253.559}')
        result = self.check("--upstream", self.upstream, BACKEND="cudnn")
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        statuses = self.statuses()
        self.assertEqual(list(statuses), PART_1 + PART_2[2:])
        self.assertEqual({name for name, (status, _) in statuses.items() if status != "ok"},
                         {"fallback", "ours_fallback", "memcheck", "racecheck"})
        self.assertEqual(statuses["memcheck"], ("SKIPPED", "compute-sanitizer does not support this device"))
        self.assertEqual(statuses["test_ops"][1], "5 passed, 1 skipped")
        self.assertIn("then step:24/24 val_loss:4.0", statuses["resume"][1])
        self.assertTrue(self.called("eval_gpt generate"))
        cells = self.cells(self.summary())
        self.assertEqual(self.cells(result.stdout), cells)
        self.assertEqual(cells["predicted for h200"], ["253.56"] + ["-"] * 8)
        # 1e14 operations in 200 ms are half of 1e15 a second; Python's median is 400 ms.
        self.assertEqual(cells["step, graphs"], ["200.00", "200.00", "200.00", "2.00", "1000", "-", "50.0 %", "-", "cudnn"])
        self.assertEqual(cells["step, no graphs"][:4], ["250.00", "250.00", "250.00", "1.60"])
        self.assertEqual(cells["training"][:1] + cells["training"][4:6], ["300.00", "7000", "9000"])
        self.assertEqual(cells["training"][7:], ["1.65000000", "cudnn"])
        self.assertEqual(cells["upstream, compiled"], ["400.00", "392.00", "408.00", "-", "2048", "3072", "25.0 %", "-", "-"])
        self.assertEqual(cells["reference operations"][3], "0.50")
        self.assertIn("GPU: NVIDIA Stand-in, 132 SMs", self.summary())
        self.assertIn("\nepochs of the packed data: 2.50\n", self.summary())
        self.assertIn("\nloss of step 1: train_gpt 6.9365, upstream 6.9375\n", self.summary())
        self.assertIn("\nmicro_batches: 131072: 200.00 ms, 262144: 200.00 ms, 524288: 200.00 ms\n", self.summary())
        self.assertIn("\ndeterministic: 300.00 ms per step, 200.00 by default; two runs are equal\n", self.summary())
        self.assertRegex(self.summary(), r"\nreference: 3 losses of smoke, off by 0.0e\+00")
        self.assertIn("failed: none", self.summary())
        self.assertRegex(self.summary(), r"skipped: fallback \(not needed\), .*memcheck \(.*\), racecheck \(")
        self.assertFalse([name for name in self.archive() if name.endswith((".pt", ".ptz", ".safetensors"))])
        self.assertIn("runs/train/metrics.jsonl", self.archive())
        self.assertEqual(list((self.root / "tmp").iterdir()), [], "nothing is left behind")
        # Programs see their libraries and the machine's, Python only the machine's.
        paths = dict(line.split(" ", 1) for line in (self.root / "paths").read_text().splitlines())
        self.assertEqual(paths.pop("upstream"), "/the/machines/own")
        for path in paths.values():
            self.assertRegex(path, r"/programs/lib:.*/site/torch/lib.*:/the/machines/own$")
        calls = [line.split()[0] for line in self.called("") if line.startswith(("bench_step", "time_upstream"))]
        self.assertEqual(calls, ["bench_step"] * 3 + ["time_upstream"] + ["bench_step"] * 6, "ours, theirs, ours again")

    def test_parts_make_one_table(self):
        first = self.check("--part", "1")
        self.assertEqual((first.returncode, list(self.statuses())), (0, PART_1), first.stderr)
        self.assertEqual(self.cells(first.stdout)["upstream, compiled"], ["-"] * 9)
        self.assertEqual(self.cells(first.stdout)["step, graphs"][3], "-")
        (self.package / "train_gpt.py").touch()
        report, self.report = self.report, self.root / "report2"
        second = self.check("--part", "2")
        self.assertEqual((second.returncode, list(self.statuses())), (0, PART_2), second.stderr)
        both = self.run_script(self.package / "gpu_report.py", report, self.report)
        self.assertEqual(self.cells(both.stdout)["training"][3], "1.33")
        self.assertEqual(self.cells(both.stdout)["train_gpt after upstream"][3], "2.00")

    def test_a_failure_does_not_end_the_run(self):
        result = self.check("--only", "step_graphs,test_ops,evaluate", FAIL="bench_step")
        self.assertEqual(result.returncode, 1)
        self.assertIn("failed: step_graphs; see", result.stderr)
        self.assertEqual(self.statuses()["step_graphs"], ("FAILED", "exit 3: error: out of luck"))
        self.assertEqual(self.statuses()["evaluate"], ("SKIPPED", "no model: no stage has trained one"))
        self.assertIn("    error: out of luck\n", self.summary())
        self.assertIn("failed: step_graphs\n", self.summary())

    def test_what_is_shown_of_a_failure(self):
        frames = "\n".join(f"frame #{i}: torch::somewhere() + 0x{i}" for i in range(40))
        thrown = "terminate called\n  what():  CUDA error: no kernel\nException raised from launch (most recent call first):"
        error = f"step 1\n{thrown}\n{frames}"
        result = self.check("--only", "smoke,step_graphs,test_ops", FAIL="bench_step", FAILURE=error)
        self.assertEqual(self.statuses()["step_graphs"], ("FAILED", "exit 3: terminate called"))
        self.assertIn("    step 1\n    terminate called\n      what():  CUDA error: no kernel\nok ", self.summary())
        self.assertIn("frame #39", self.archive()["step_graphs.txt"])
        table, overview = result.stdout.rsplit("skipped: none\n", 1)
        lines = overview.splitlines()
        self.assertRegex(lines[1], r"^ok smoke \d+ s step:7/7 ")
        self.assertRegex(lines[2], r"^FAILED step_graphs \d+ s exit 3: terminate called$")

    def test_an_error_in_the_report(self):
        for file, code in (("gpu_report.py", 'def table(files, stages):\n    raise ValueError("no such row")\n'),
                           ("gpu_run.py", 'def pack_results(*_):\n    raise OSError("no such row")\n')):  # fmt: skip
            with self.subTest(file=file):
                self.report = self.root / file.split(".")[0]
                path = self.package / file
                text = path.read_text()
                path.write_text(text.replace('\nif __name__ == "__main__":', f'\n{code}\n\nif __name__ == "__main__":')
                                if "__main__" in text else f"{text}\n{code}")  # fmt: skip
                result = self.check("--only", "smoke,test_ops")
                path.write_text(text)
                self.assertEqual(result.returncode, 0, result.stderr)
                self.assertIn("no such row", result.stdout)
                self.assertRegex(result.stdout, r"\nok test_ops \d+ s 5 passed")

    def test_limits(self):
        result = self.check("--only", "smoke,step_graphs", HANG="train_gpt", GPU_CHECK_SCALE="0.02")
        self.assertEqual(result.returncode, 1)
        self.assertEqual(self.statuses()["smoke"], ("TIMEOUT", "after 75 s"))
        self.assertEqual(self.statuses()["step_graphs"][0], "ok")
        for pid in (self.root / "hanging").read_text().split():
            wait_until(lambda pid=int(pid): not alive(pid))

    def test_budget(self):
        result = self.check("--only", "smoke,step_graphs", "--budget", "25", HANG="train_gpt", GPU_CHECK_SCALE="0.05")
        self.assertEqual(result.returncode, 1)
        self.assertEqual(self.statuses()["smoke"][0], "TIMEOUT")
        self.assertEqual(self.statuses()["step_graphs"][0], "SKIPPED")
        self.assertIn("of the budget left", self.summary())
        self.report = self.root / "another"
        self.assertEqual(self.check("--only", "smoke", "--budget", "5").returncode, 1, "nothing has run")

    def test_killed_in_the_middle(self):
        for number in (signal.SIGTERM, signal.SIGKILL):
            with self.subTest(signal=number):
                self.report = self.root / f"report{number}"
                hanging = self.root / "hanging"
                hanging.unlink(missing_ok=True)
                command = self.command("--only", "smoke,step_graphs,test_ops")
                quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
                with subprocess.Popen(command, env={**self.environment, "HANG": "bench_step"}, **quiet) as process:
                    wait_until(lambda: hanging.exists() and hanging.read_text().count("\n") == 2)
                    self.assertEqual(self.statuses()["smoke"][0], "ok", "published before the next stage")
                    process.send_signal(number)
                self.assertIn("ok       smoke", self.summary())
                self.assertIn("step:7/7", self.archive()["smoke.txt"])
                program, child = map(int, hanging.read_text().split())
                wait_until(lambda: not alive(program))
                if number == signal.SIGKILL:
                    self.assertEqual(process.returncode, -number)
                    os.kill(child, signal.SIGKILL)
                else:
                    self.assertEqual(process.returncode, 128 + number)
                    self.assertEqual(self.statuses()["step_graphs"], ("INTERRUPTED", "SIGTERM"))
                    self.assertNotIn("test_ops", self.statuses())
                    wait_until(lambda: not alive(child))

    def test_mistakes(self):
        self.report.mkdir()
        script = self.package / "gpu_check.sh"
        taken = self.root / "taken"
        taken.mkdir()
        (taken / "report.tar.gz").touch()
        for arguments, reason in (
            ([], "pack, libraries, unpack or run"),
            (["check"], "unknown command check"),
            (["run"], "REPORT"),
            (["libraries"], "TORCH"),
            (["run", self.report, "--seconds", "1m"], "an integer"),
            (["run", self.report, "--budget"], "--budget"),
            (["run", self.report, "--part", "3"], "--part"),
            (["run", self.report, "--only", "smoke,smke"], 'not "smke"'),
            (["run", self.report, "--part", "2", "--only", "smoke"], 'not "smoke"'),
            (["run", self.report, "--upstream", "nowhere"], "nowhere is not a file"),
            (["run", self.report, "--speed", "9"], "--speed"),
            (["run", taken], "already has a report"),
            (["pack", "a", "b"], "one folder"),
            (["pack"], "not in a package"),
        ):
            with self.subTest(arguments=arguments):
                result = self.run_script(script, *arguments)
                self.assertEqual((result.returncode, result.stderr.count("\n")), (2, 1), result.stderr)
                self.assertIn(reason, result.stderr)
        self.assertEqual(self.run_script(script, "--help").returncode, 0)
        self.assertEqual(list(self.report.iterdir()), [])

    def test_size_of_the_report(self):
        self.report.mkdir()
        options = types.SimpleNamespace(began=0, budget=600)
        run = gpu_run.Run(options, self.root, self.report, self.root / "tmp")
        (run.results / "runs").mkdir()
        for name, content in (
            ("noise.bin", os.urandom(300_000)), ("little.txt", b"little"), ("model.pt", b"m"),
            ("profile.json", b"[" + b"1," * 600_000 + b"1]"), ("endless.txt", b"line\n" * 400_000),
        ):  # fmt: skip
            (run.results / "runs" / name).write_bytes(content)
        with mock.patch.object(gpu_run, "REPORT_BYTES", 200_000):
            run.publish()
        files = set()
        with tarfile.open(self.report / "report.tar.gz") as tar:
            files = {member.name: member.size for member in tar}
        self.assertLess((self.report / "report.tar.gz").stat().st_size, 200_000)
        self.assertEqual(set(files) - {"summary.txt", "stages.json"}, {"runs/little.txt", "runs/profile.json.gz"})
        self.assertIn("not in report.tar.gz because of its size: runs/noise.bin", self.summary())


if __name__ == "__main__":
    unittest.main()
