#!/usr/bin/env python3
"""scripts/gpu_check.sh with fakes of the GPU, PyTorch and the programs: stages, limits, report, and what is packed."""

import array
import io
import json
import os
import pathlib
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import types
import unittest
from unittest import mock

from sandbox import SCRIPTS, SandboxTest, alive, wait_until

sys.dont_write_bytecode = True
sys.path.insert(0, str(SCRIPTS))
import gpu_run

# What every fake of the package does first. A test turns "hang" or "fail" on for one of them.
BEGIN = r"""
name=${0##*/}
printf '%s %s\n' "$name" "$*" >>"$HOME/calls"
printf '%s %s\n' "$name" "$LD_LIBRARY_PATH" >>"$HOME/paths"
case " $HANG " in *" $name "*) echo $$ >"$HOME/hanging"; sleep 60 & echo $! >>"$HOME/hanging"; wait ;; esac
case " $FAIL " in *" $name "*) echo "error: out of luck"; exit 3 ;; esac
out=. id=x resume='' json=''
arguments=("$@")
while [ $# -gt 0 ]; do
  case $1 in --out-dir) out=$2 ;; --run-id) id=$2 ;; --resume) resume=$2 ;; --json) json=$2 ;; esac
  shift
done
"""
TRAIN = r"""
mkdir -p "$out/$id/checkpoints"
say() { echo "$*" | tee -a "$out/$id/log.txt"; }
[ -z "$BACKEND" ] || say "attention_backend:$BACKEND"
if [ "$id" = resume ] && [ -z "$resume" ]; then
  trap 'say "interrupted: signal:15"; exit 130' TERM
  for step in 7 8; do say "step:$step/24 train_loss:5.0"; done
  for i in {1..200}; do sleep 0.05; done
fi
[ -z "$resume" ] || { say "resumed:step:8 train_time:800ms"; say "step:24/24 val_loss:4.0 val_bpb:2.4"; }
[ "$id" != smoke ] || { say "step:7/7 val_loss:6.1 val_bpb:3.6"; echo "$SMOKE"; }
for i in 1 2 3; do echo '{"kind":"train","step":'$i',"train_loss":'${LOSS:-5.5}',"train_time_ms":'$((i * 300))'}'; done >"$out/$id/metrics.jsonl"
say "peak memory allocated: 7000 MiB reserved: 9000 MiB"
say "final_int8_zlib_roundtrip_exact val_loss:2.80000000 val_bpb:1.65000000"
echo weights >"$out/$id/final_model.pt"; echo weights >"$out/$id/final_model.int8.ptz"
echo weights >"$out/$id/checkpoints/step_00000008.safetensors"
"""
BENCH = r"""
ms=200; case "${arguments[*]}" in *"off"*) ms=250 ;; *reference*) ms=800 ;; esac
printf '{"ms":{"total":{"samples":[%s,%s]}},"peak_bytes":1048576000,"flops":1e14,"peak_flops_per_s":1e15}' $ms $ms >"$json"
"""
TESTS = r"""
printf '[  SKIPPED ] A.CudaB (0 ms)\n[  PASSED  ] 5 tests.\n[  SKIPPED ] 1 test, listed below:\n%s\n' "$TESTS"
"""
EVAL = r"""
case ${arguments[0]} in
  score) echo "train val_loss:2.8000 val_bpb:1.6500 stderr_bpb:0.01" ;;
  generate) echo "[1] The end"; echo "200 tokens after 2, the first in 0.1s, the others at 500.0 tokens/s" >&2 ;;
esac
"""
TORCH = """
import types
cuda = types.SimpleNamespace(
    is_available=lambda: {available},
    get_device_properties=lambda _: types.SimpleNamespace(
        name="NVIDIA Stand-in", multi_processor_count=132, total_memory=80 << 30, major=9, minor=0))
version = types.SimpleNamespace(cuda="13.0")
backends = types.SimpleNamespace(cudnn=types.SimpleNamespace(version=lambda: 91002))
__version__ = "2.11.0+cu130"
"""
UPSTREAM = """
import json, os, pathlib, sys
with open(pathlib.Path.home() / "paths", "a") as file:
    print("upstream", os.environ.get("LD_LIBRARY_PATH"), file=file)
with open(pathlib.Path.home() / "calls", "a") as file:
    print("time_upstream", *sys.argv[1:], file=file)
result = {"ms": {"total": {"samples": [390, 400, 410]}}, "peak_bytes": 2 << 30, "peak_reserved_bytes": 3 << 30}
json.dump(result, open(sys.argv[sys.argv.index("--json") + 1], "w"))
"""
LIBRARIES = 'echo "  libtorch_cuda.so => $HOME/site/torch/lib/libtorch_cuda.so (0x0)"'
PART_1 = (
    "machine libraries smoke step_graphs test_ops test_model test_optim test_train test_eval nccl profile step_parts operations train"
    " evaluate resume generate"
).split()
PART_2 = "machine libraries ours_before upstream ours_after memcheck racecheck reference".split()


class GpuCheckTest(SandboxTest):
    def setUp(self):
        super().setUp()
        self.package, self.report = self.root / "package", self.root / "report"
        (self.package / "data").mkdir(parents=True)
        for name in ("gpu_check.sh", "gpu_run.py", "gpu_stages.py", "gpu_report.py"):
            shutil.copy(SCRIPTS / name, self.package)
        (self.package / "time_upstream.py").write_text(UPSTREAM)
        self.upstream = self.root / "train_gpt.py"
        self.upstream.touch()
        programs = {"train_gpt": TRAIN, "bench_step": BENCH, "bench_ops": "echo operations", "eval_gpt": EVAL}
        programs.update((f"test_{area}", TESTS) for area in ("ops", "model", "optim", "train", "eval"))
        with tarfile.open(self.package / "programs.tar.xz", "w:xz", preset=0) as tar:
            for name, body in programs.items():
                content = f"#!/bin/bash\n{BEGIN}{body}".encode()
                info = tarfile.TarInfo(f"bin/{name}")
                info.size, info.mode = len(content), 0o755
                tar.addfile(info, io.BytesIO(content))
        self.torch()
        self.fake("ldd", LIBRARIES)
        self.fake("nvidia-smi", 'echo "Driver Version: 580"')
        self.fake("compute-sanitizer", 'echo "Error: Device not supported" >&2; exit 1')
        temporary = self.root / "tmp"
        temporary.mkdir()
        self.environment.update(
            PYTHONPATH=str(self.root / "site"), PYTHON=sys.executable, GPU_CHECK_SCALE="0.1", TMPDIR=str(temporary),
            LD_LIBRARY_PATH="/the/machines/own",
        )  # fmt: skip

    def torch(self, available=True):
        library = self.root / "site/torch/lib/libtorch_cuda.so"
        library.parent.mkdir(parents=True, exist_ok=True)
        library.touch()
        (self.root / "site/torch/__init__.py").write_text(TORCH.format(available=available))

    def command(self, *options):
        return [str(self.package / "gpu_check.sh"), "run", str(self.report), *map(str, options)]

    def check(self, *options, **environment):
        self.environment.update(environment)
        return self.run_script(*self.command(*options))

    def summary(self):
        return (self.report / "summary.txt").read_text()

    def statuses(self):
        """{stage: (status, note)} as the archive has them."""
        return {stage["name"]: (stage["status"], stage["note"]) for stage in json.loads(self.archive()["stages.json"])}

    def archive(self):
        with tarfile.open(self.report / "report.tar.gz") as tar:
            return {member.name: tar.extractfile(member).read().decode() for member in tar if member.isfile()}

    def cells(self, text):
        lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]
        return {line[0]: line[1:] for line in lines}

    def test_all_stages_in_order_and_the_table(self):
        result = self.check("--upstream", self.upstream, BACKEND="cudnn")
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        statuses = self.statuses()
        self.assertEqual(list(statuses), PART_1 + PART_2[2:])
        self.assertEqual({name for name, (status, _) in statuses.items() if status != "ok"}, {"memcheck", "racecheck"})
        self.assertEqual(statuses["memcheck"], ("SKIPPED", "compute-sanitizer does not support this device"))
        self.assertEqual(statuses["test_ops"][1], "5 passed, 1 skipped")
        self.assertIn("then step:24/24 val_loss:4.0", statuses["resume"][1])
        self.assertTrue(self.called("eval_gpt generate"))
        cells = self.cells(self.summary())
        self.assertEqual(self.cells(result.stdout), cells)
        # 1e14 operations in 200 ms are half of 1e15 a second; Python's median is 400 ms.
        self.assertEqual(cells["step, graphs"], ["200.00", "200.00", "200.00", "2.00", "1000", "-", "50.0 %", "-", "cudnn"])
        self.assertEqual(cells["step, no graphs"][:4], ["250.00", "250.00", "250.00", "1.60"])
        self.assertEqual(cells["training"][:1] + cells["training"][4:6], ["300.00", "7000", "9000"])
        self.assertEqual(cells["training"][7:], ["1.65000000", "cudnn"])
        self.assertEqual(cells["upstream, compiled"], ["400.00", "392.00", "408.00", "-", "2048", "3072", "25.0 %", "-", "-"])
        self.assertEqual(cells["reference operations"][3], "0.50")
        self.assertIn("GPU: NVIDIA Stand-in, 132 SMs", self.summary())
        self.assertIn("failed: none", self.summary())
        self.assertRegex(self.summary(), r"skipped: memcheck \(.*\), racecheck \(")
        self.assertFalse([name for name in self.archive() if name.endswith((".pt", ".ptz", ".safetensors"))])
        self.assertIn("runs/train/metrics.jsonl", self.archive())
        self.assertEqual(list((self.root / "tmp").iterdir()), [], "nothing is left behind")
        # Programs see their libraries and the machine's, Python only the machine's.
        paths = dict(line.split(" ", 1) for line in (self.root / "paths").read_text().splitlines())
        self.assertEqual(paths.pop("upstream"), "/the/machines/own")
        for path in paths.values():
            self.assertRegex(path, r"/programs/lib:.*/site/torch/lib.*:/the/machines/own$")
        calls = [line.split()[0] for line in self.called("") if line.startswith(("bench_step", "time_upstream"))]
        self.assertEqual(calls, ["bench_step"] * 3 + ["time_upstream", "bench_step", "bench_step"], "ours, theirs, ours again")

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

    def test_nothing_to_compare_with(self):
        result = self.check("--only", "upstream,ours_after,ours_before")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(
            {name: status for name, (status, _) in self.statuses().items()},
            {"ours_before": "ok", "upstream": "SKIPPED", "ours_after": "SKIPPED"},
        )

    def test_a_failure_does_not_end_the_run(self):
        result = self.check("--only", "smoke,step_graphs,test_ops,evaluate", FAIL="bench_step")
        self.assertEqual(result.returncode, 1)
        self.assertIn("failed: step_graphs; see", result.stderr)
        self.assertEqual(self.statuses()["step_graphs"], ("FAILED", "exit 3"))
        self.assertEqual(self.statuses()["evaluate"], ("SKIPPED", "no model: needs the stage train"))
        self.assertIn("    error: out of luck\n", self.summary())
        self.assertIn("failed: step_graphs\n", self.summary())

    def test_a_slow_way_is_a_failure(self):
        self.check("--only", "smoke,test_model", SMOKE="CUDA_GRAPHS: a step could not be recorded", TESTS="no CUDA device")
        self.assertEqual(self.statuses()["smoke"], ("FAILED", 'output has "could not be recorded"'))
        self.assertEqual(self.statuses()["test_model"], ("FAILED", "5 passed, 1 skipped: the tests saw no GPU"))

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

    def test_mistakes(self):
        self.report.mkdir()
        script = self.package / "gpu_check.sh"
        taken = self.root / "taken"
        taken.mkdir()
        (taken / "report.tar.gz").touch()
        for arguments, reason in (
            ([], "pack, libraries or run"),
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


def write_shard(path, tokens):
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack("<3i", 20240520, 1, len(tokens)).ljust(1024, b"\0")
    path.write_bytes(header + array.array("H", tokens).tobytes())


def read_shard(path):
    content = path.read_bytes()
    return struct.unpack_from("<3i", content), list(array.array("H", content[1024:]))


class PackTest(SandboxTest):
    def setUp(self):
        super().setUp()
        self.copy_scripts()
        (self.root / "benchmarks").mkdir()
        (self.root / "benchmarks/time_upstream.py").touch()
        self.fake("setup.sh", folder=self.root / "scripts")
        self.fake("nvcc")
        self.fake("cmake", 'case "$*" in --install*) mkdir -p "$6/bin"; cp build/bin/train_gpt "$6/bin" ;; esac')
        self.fake("train_gpt", folder=self.root / "build/bin")
        library = self.root / "libspdlog.so.1"
        library.touch()
        self.fake("ldd", f'echo "libtorch_cuda.so => /torch/libtorch_cuda.so (0)"; echo "libspdlog.so.1 => {library} (0)"')
        self.fake("objdump", 'for lib in libc.so.6 libtorch_cuda.so libspdlog.so.1; do echo "  NEEDED  $lib"; done')
        python = self.root / "build/deps/bin/python"
        python.parent.mkdir(parents=True)
        python.symlink_to(sys.executable)
        self.data = self.root / "mine"
        self.environment["DATA_PATH"] = str(self.data)
        self.environment["TOKENIZER_PATH"] = str(self.root / "mine.model")
        (self.root / "mine.model").write_text("model")

    def pack(self, *arguments):
        return self.run_script(self.root / "scripts/gpu_check.sh", "pack", *arguments)

    def test_a_package(self):
        write_shard(self.data / "fineweb_train_000000.bin", [1] * 3000)
        write_shard(self.data / "fineweb_train_000001.bin", [2] * 2000)
        write_shard(self.data / "fineweb_val_000000.bin", [3] * 100)
        package = self.root / "package"
        result = self.pack("package")
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertIn("5,000 training and 100 validation tokens from ", result.stdout)
        self.assertRegex(result.stdout, r"warning: the dataset has no more training tokens; 2\d,\d{3},\d{3} would fit")
        self.assertIn("60 s of training would be about 20400.0 epochs", result.stdout)
        self.assertEqual(read_shard(package / "data/fineweb_train_000000.bin"), ((20240520, 1, 5000), [1] * 3000 + [2] * 2000))
        self.assertEqual((package / "data/tokenizer.model").read_text(), "model")
        with tarfile.open(package / "programs.tar.xz") as tar:
            self.assertEqual({member.name for member in tar if member.isfile()}, {"bin/train_gpt", "lib/libspdlog.so.1"})
        names = {path.name for path in package.iterdir()}
        scripts = {"gpu_check.sh", "gpu_run.py", "gpu_stages.py", "gpu_report.py", "time_upstream.py"}
        self.assertEqual(names, {"data", "programs.tar.xz", *scripts})
        self.assertEqual(self.called("cmake --build")[0].split()[-1], "gpu_check_programs")
        self.assertEqual(self.pack("package").returncode, 0, "a new package replaces the old one")

    def test_what_fineweb_needs(self):
        del self.environment["DATA_PATH"], self.environment["TOKENIZER_PATH"]
        result = self.pack()
        self.assertEqual(result.returncode, 1)
        self.assertIn("no data to pack in data/datasets/sample_sp1024", result.stderr)
        for name in ("sample_sp1024", "fineweb10B_sp1024"):
            for kind in ("train", "val"):
                write_shard(self.root / "data/datasets" / name / f"fineweb_{kind}_000000.bin", [5, 6, 7])
            tokenizer = self.root / "data/tokenizers" / f"{name.split('_')[0].replace('10B', '')}_1024_bpe.model"
            tokenizer.parent.mkdir(exist_ok=True)
            tokenizer.write_text("model")
            result = self.pack()
            self.assertIn(f"tokens from data/datasets/{name}\n", result.stdout, result.stderr)

    def test_another_folder_is_left_alone(self):
        (self.root / "mine").mkdir()
        (self.root / "mine/thesis.txt").touch()
        result = self.pack("mine")
        self.assertEqual(result.returncode, 1)
        self.assertTrue((self.root / "mine/thesis.txt").exists())

    def cut(self, train, val=2):
        script = SCRIPTS / "cut_shards.py"
        return self.run_script(script, self.data, self.root, str(train), str(val), "60", "100")

    def test_cutting(self):
        write_shard(self.data / "fineweb_train_000000.bin", [1, 2, 3])
        write_shard(self.data / "fineweb_train_000001.bin", [4, 5, 6])
        write_shard(self.data / "fineweb_train_000002.bin", [7])
        write_shard(self.data / "fineweb_val_000000.bin", [8, 9, 10])
        result = self.cut(5)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(read_shard(self.root / "fineweb_train_000000.bin"), ((20240520, 1, 5), [1, 2, 3, 4, 5]))
        self.assertEqual(read_shard(self.root / "fineweb_val_000000.bin"), ((20240520, 1, 2), [8, 9]))
        self.assertNotIn("warning", result.stdout)
        self.assertIn("60 s of training would be about 1200.0 epochs at 100 tokens/s", result.stdout)

    def test_damaged_data(self):
        for content, reason in (
            (b"no shard", "is not a shard"),
            (struct.pack("<3i", 20240520, 1, 9).ljust(1024, b"\0") + b"1234", "ends before its 9 tokens"),
            (struct.pack("<3i", 20240520, 1, 1).ljust(1024, b"\0") + b"\xff\xff", "has token 65535"),
        ):
            write_shard(self.data / "fineweb_val_000000.bin", [1])
            (self.data / "fineweb_train_000000.bin").write_bytes(content)
            result = self.cut(100)
            self.assertEqual(result.returncode, 1)
            self.assertIn(reason, result.stderr)


if __name__ == "__main__":
    unittest.main()
