#!/usr/bin/env python3
"""The stages of scripts/gpu_check.sh, each with fakes of what it runs."""

import re
import sys
import unittest

from gpu_package import LIBRARIES, PackageTest
from sandbox import SCRIPTS

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
        self.assertEqual(self.statuses()["smoke"], ("FAILED", "CUDA_GRAPHS: a step could not be recorded"))
        self.assertEqual(self.statuses()["test_model"], ("FAILED", "5 passed, 1 skipped: the tests saw no GPU"))

    def test_the_first_way_that_works(self):
        for refused, way in (("smoke", "--cuda-graphs off"), ("smoke|fallback_0|blocking", "--deterministic 1"),
                             ("smoke|fallback_[01]|blocking", "--ops reference"),
                             ("smoke|fallback_[012]|blocking", "--ops reference --dtype float32")):  # fmt: skip
            with self.subTest(way=way):
                self.report = self.root / way.replace(" ", "")
                self.calls.unlink(missing_ok=True)
                names = "smoke,fallback,step_graphs,step_parts,profile,nccl,evaluate,generate"
                result = self.check("--only", names, REFUSE=f"--run-id ({refused}) ")
                self.assertIn("failed: smoke; see", result.stderr)
                self.assertEqual(self.statuses()["fallback"], ("ok", f"{way} works"))
                self.assertIn(f"\ninstead of the default options: {way} (from fallback on)\n", self.summary())
                for stage in ("step_graphs", "step_parts", "profile", "nccl", "evaluate", "generate"):
                    self.assertEqual(self.statuses()[stage][0], "ok", (stage, self.summary()))
                for begin in ("bench_step --total-only", "train_gpt --data-path .*--run-id nccl", "train_gpt .*--run-id profile"):
                    call = next(line for line in self.called("") if re.match(begin, line))
                    self.assertIn(f" {way}", call)
                profile = next(line for line in self.called("train_gpt") if "--run-id profile" in line)
                self.assertEqual(profile.split().count("--cuda-graphs"), 1)
                evaluated = " ".join(self.called("eval_gpt"))
                self.assertNotIn("--cuda-graphs", evaluated)
                self.assertNotIn("--deterministic", evaluated)
                self.assertEqual("--ops reference" in evaluated, "--ops" in way)
                blocking = [line for line in self.called("train_gpt") if "--run-id blocking" in line]
                self.assertEqual(len(blocking), 0 if way == "--cuda-graphs off" else 1)

    def test_no_way_works(self):
        self.check("--only", "smoke,fallback,ours_before,ours_fallback", FAIL="train_gpt bench_step")
        tries = ("--cuda-graphs off", "--deterministic 1", "--ops reference", "--ops reference --dtype float32")
        note = "; ".join(f"{way}: exit 3: error: out of luck" for way in tries)
        self.assertEqual(self.statuses()["fallback"], ("FAILED", note))
        self.assertEqual(self.statuses()["ours_fallback"][0], "FAILED")
        self.assertIn("+ CUDA_LAUNCH_BLOCKING=1 ", self.archive()["fallback.txt"])
        self.assertIn("\ninstead of the default options: -\n", self.summary())

    def test_a_way_for_the_second_part(self):
        (self.package / "train_gpt.py").touch()
        self.check("--part", "2", "--only", "ours_before,ours_fallback,ours_after", REFUSE="--warmup 4 --json ours_before")
        self.assertEqual(self.statuses()["ours_before"][0], "FAILED")
        self.assertEqual(self.statuses()["ours_fallback"], ("ok", "--cuda-graphs off works"))
        self.assertEqual(self.cells(self.summary())["train_gpt before upstream"][0], "250.00")
        self.assertTrue(self.called("bench_step")[-1].endswith(" --cuda-graphs off"))

    def test_no_fallback_is_needed(self):
        self.check("--only", "smoke,fallback,step_graphs", SMOKE="cuDNN attention kernel not used because: reasons")
        self.assertEqual(self.statuses()["smoke"], ("FAILED", "cuDNN attention kernel not used because: reasons"))
        self.assertEqual(self.statuses()["fallback"], ("SKIPPED", "not needed"))

    def test_any_model_will_do(self):
        self.check("--only", "smoke,evaluate")
        self.assertEqual(self.statuses()["evaluate"][0], "ok")
        self.assertIn("eval_gpt score runs/smoke ", self.called("eval_gpt")[0])

    def test_the_rate_of_short_runs_and_of_training(self):
        self.check("--only", "smoke,reference,train,resume")
        for call in self.called("train_gpt"):
            decay = "--warmdown-frac 0.4" if "--run-id train " in call else "--warmdown-iters 0"
            self.assertEqual(re.findall(r"--warmdown-\S+ \S+", call), [decay])
        self.assertRegex(self.called("train_gpt")[2], "--run-id train .*--max-wallclock-seconds 30 ")

    def test_another_training(self):
        for changes, reason in (
            ({"LOSS": "5.9"}, "off by 4.0e-01 at first"), ({"LOSS": "5.52"}, "off by 2.0e-02 at first"),
            ({"LOSS": "NaN"}, "off by nan"), ({"NORM": "0.53"}, "norm off by 6.00 %"), ({"NORM": "0.51", "LOSS": "5.505"}, None),
        ):  # fmt: skip
            for name in ("reference", "nccl"):
                with self.subTest(name=name, **changes):
                    self.report = self.root / f"{name}{changes}"
                    self.check("--only", f"smoke,{name}", OTHER=name, **{"LOSS": "", "NORM": "", **changes})
                    status, note = self.statuses()[name]
                    self.assertEqual(status, "FAILED" if reason else "ok")
                    self.assertIn(reason or "3 losses of smoke, off by 5.0e-03 at first, later by up to 5.0e-03", note)
        self.report = self.root / "alone"
        self.check("--only", "nccl")
        self.assertEqual(self.statuses()["nccl"], ("SKIPPED", "nothing to compare with: needs the stage smoke"))

    def test_the_steps_of_upstream_until_the_limit(self):
        self.check("--only", "upstream", "--upstream", self.upstream, HANG="time_upstream", GPU_CHECK_SCALE="0.02")
        self.assertEqual(self.statuses()["upstream"][0], "TIMEOUT")
        self.assertEqual(self.cells(self.summary())["upstream, compiled"][0], "400.00")

    def test_short_questions_of_the_second_part(self):
        names = "micro_batches,rope_dims,deterministic,gptq,graphs_profile"
        self.check("--only", names, REFUSE="micro-batch-tokens 262144|run-id gptq", OTHER="deterministic_2", NORM="0.51")
        self.assertEqual(self.statuses()["micro_batches"], (
            "FAILED", "131072: 200.00 ms, 524288: 200.00 ms, 262144: exit 4: error: no such kernel"))  # fmt: skip
        self.assertIn("\nmicro_batches: 131072: 200.00 ms, 524288: 200.00 ms\n", self.summary())
        self.assertIn("\nrope_dims: 16: 200.00 ms, none: 200.00 ms\n", self.summary())
        self.assertEqual(self.statuses()["deterministic"], ("FAILED", "300.00 ms per step; two runs differ in 3 of 3 steps"))
        self.assertEqual(self.statuses()["gptq"][0], "FAILED")
        self.assertEqual(self.statuses()["graphs_profile"], ("ok", "3 steps of 190.5 ms each"))
        self.report = self.root / "again"
        self.check("--only", f"smoke,fallback,{names}", REFUSE="--run-id smoke")
        self.assertEqual(self.statuses()["graphs_profile"], ("SKIPPED", "graphs were not tried with --cuda-graphs off"))
        self.assertEqual(self.statuses()["gptq"], ("ok", "val_loss:2.80000000 val_bpb:1.65000000"))

    def test_every_suite_again_after_a_crash(self):
        error = "exit 134: CUDA error: an illegal memory access"
        crash = f"5 passed, 1 skipped, 0 failed, stopped in Devices/C.D/Cuda: {error}; by suite: "
        for number, (pattern, suites) in enumerate((("\\*", "2 passed"), ("\\*|D/Cuda", f"Devices/C {error}, 1 passed"))):
            self.report = self.root / f"report{number}"
            self.check("--only", "test_ops,test_model", CRASH=pattern)
            self.assertEqual(self.statuses()["test_ops"], ("FAILED", f"{crash}{suites}"))
        self.assertIn("+ CUDA_LAUNCH_BLOCKING=1 ", self.archive()["test_ops.txt"])
        filters = [line.split("gtest_filter=")[1] for line in self.called("test_ops")]
        self.assertEqual(filters[2:4], ["A.CudaB", "Devices/C.D/Cuda:Devices/C.E/Cuda"])

    def test_sanitizers(self):
        tests = '[[ $PYTORCH_NO_CUDA_MEMORY_CACHING$GOMP_SPINCOUNT == 11000 ]] && while [[ $1 == --* ]]; do shift 2; done; "$@"'
        self.fake("compute-sanitizer", f'{tests}; echo "========= ERROR SUMMARY: 0 errors"')
        self.check("--only", "memcheck,racecheck")
        self.assertEqual(self.statuses()["memcheck"], ("ok", "ERROR SUMMARY: 0 errors"))
        self.assertIn("compute-sanitizer --tool racecheck ", self.called("")[2])
        self.assertIn("--target-processes all", self.called("")[0])
        names = self.called("test_ops")[0].split("=")[1].split(":")
        self.assertIn("Cuda.EveryKernelOnce", names)
        sources = "".join((SCRIPTS.parent / f"tests/ops/{file}_test.cpp").read_text() for file in ("cuda", "exclusive"))
        for name in names:
            self.assertRegex(sources, r"TEST_[FP]\({0}, {1}\)".format(*name.split("/")[1 if "/" in name else 0].split(".")))
        self.report = self.root / "none"
        self.fake("compute-sanitizer", 'echo "========= ERROR SUMMARY: 0 errors"')
        self.check("--only", "memcheck")
        self.assertEqual(self.statuses()["memcheck"], ("FAILED", "no test ran"))

    def test_operations(self):
        self.check("--only", "operations")
        self.assertEqual(self.statuses()["operations"], ("ok", "2 cases"))
        self.assertTrue(self.called("bench_ops")[0].endswith("min_time=0.02"))
        self.report = self.root / "failed"
        self.check("--only", "operations", OPS="ERROR OCCURRED: 'CUDA error: no such kernel'")
        status, note = self.statuses()["operations"]
        self.assertEqual(status, "FAILED")
        self.assertRegex(note, "^1 of 2 cases failed: linear_qkv.* 'CUDA error: no such kernel'$")

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
        self.fake("ldd", "echo 'ldd: exited with unknown exit code (139)' >&2; exit 1")
        self.check("--only", "libraries")
        status, note = self.statuses()["libraries"]
        self.assertEqual(status, "FAILED")
        self.assertIn("exit 1: gpu_check: error: bench_ops: ldd: exit 1", note)
        self.assertIn("train_gpt: ldd: exit 1: ldd: exited with unknown exit code (139)\n", self.archive()["libraries.txt"])

    def test_a_program_that_does_not_start(self):
        self.check("--only", "libraries")
        self.assertEqual(self.statuses()["libraries"], ("ok", "all libraries of 8 programs found"))
        self.assertEqual(self.called("train_gpt"), ["train_gpt --version"])
        self.assertIn("\n  libtorch_cuda.so => ", self.archive()["libraries.txt"])
        self.report = self.root / "failed"
        self.calls.unlink()
        self.check("--only", "libraries", FAIL="train_gpt", FAILURE="symbol lookup error: LD_DEBUG is $LD_DEBUG")
        self.assertEqual(self.statuses()["libraries"][0], "FAILED")
        self.assertEqual(self.called("train_gpt"), ["train_gpt --version"] * 2)

    def test_a_machine_with_few_tools(self):
        self.fake("nvidia-smi", 'echo "no driver"; exit 9')
        self.check("--only", "machine")
        status, note = self.statuses()["machine"]
        self.assertEqual(status, "ok")
        self.assertRegex(note, "^NVIDIA Stand-in, .*; nvidia-smi: exit 9$")
        text = self.archive()["machine.txt"]
        for line in ("no driver", "Mem:", "Filesystem", "compute-sanitizer", "software: PyTorch"):
            self.assertIn(line, text)


if __name__ == "__main__":
    unittest.main()
