"""A package of scripts/gpu_check.sh with fakes of the GPU, PyTorch and the programs."""

import array
import io
import json
import shutil
import struct
import sys
import tarfile

from sandbox import SCRIPTS, SandboxTest

# What every fake of the package does first. A test turns "hang" or "fail" on for some of them, or for some of their calls.
BEGIN = r"""
name=${0##*/}
printf '%s %s\n' "$name" "$*" >>"$HOME/calls"
printf '%s %s\n' "$name" "$LD_LIBRARY_PATH" >>"$HOME/paths"
case " $HANG " in *" $name "*) echo $$ >"$HOME/hanging"; sleep 60 & echo $! >>"$HOME/hanging"; wait ;; esac
case " $FAIL " in *" $name "*) echo "${FAILURE-error: out of luck}"; exit 3 ;; esac
# Some calls fail.
if [ -n "$REFUSE" ] && [[ "$name $*" =~ $REFUSE ]]; then echo "error: no such kernel"; exit 4; fi
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
loss=5.5 norm=0.5 ms=300
[ "$id" != "$OTHER" ] || { loss=${LOSS:-5.5}; norm=${NORM:-0.5}; }
case "${arguments[*]}" in *"--ops reference"*) ms=800 ;; esac
for i in 1 2 3; do
  record='{"kind":"train","step":%d,"train_loss":%s,"grad_norm":%s,"tokens":%d,"train_time_ms":%d}\n'
  printf "$record" $i $loss $norm $((i * 1000)) $((i * ms))
done >"$out/$id/metrics.jsonl"
case "${arguments[*]}" in *--profile*) say "profile: 3 steps of 190.5 ms each, operations on 1 CPU thread(s)" ;; esac
say "peak memory allocated: 7000 MiB reserved: 9000 MiB"
say "final_int8_zlib_roundtrip_exact val_loss:2.80000000 val_bpb:1.65000000"
echo weights >"$out/$id/final_model.pt"; echo weights >"$out/$id/final_model.int8.ptz"
echo weights >"$out/$id/checkpoints/step_00000008.safetensors"
"""
BENCH = r"""
ms=200; case "${arguments[*]}" in *"off"*) ms=250 ;; *reference*) ms=800 ;; esac
printf '{"ms":{"total":{"samples":[%s,%s]}},"peak_bytes":1048576000,"first_loss":6.9365,' $ms $ms >"$json"
echo '"flops":1e14,"peak_flops_per_s":1e15}' >>"$json"
"""
OPS = r"""
echo "Benchmark  Time  CPU  Iterations UserCounters..."
echo "rms_norm/9x512/bfloat16/fast/forward/manual_time       13.4 us         13.0 us         2100 bytes/s=2.0T/s of_copy=0.7"
echo "linear_qkv/9x512/bfloat16/fast/forward/manual_time   ${OPS-93.4 us         93.0 us          300 FLOP/s=0.3P/s of_peak=0.5}"
"""
TESTS = r"""
case "${arguments[*]}" in *list_tests*)
  printf 'Running main()\nA.\n  CudaB\nDevices/C.  # TypeParam\n  D/Cuda  # GetParam() = cuda\n  E/Cuda\n'
  exit ;;
esac
printf '[ RUN      ] A.CudaB\n[  SKIPPED ] A.CudaB (0 ms)\n'
for i in 1 2 3 4 5; do printf '[ RUN      ] Devices/C.%s/Cuda\n[       OK ] Devices/C.%s/Cuda (7 ms)\n' $i $i; done
if [ -n "$CRASH" ] && [[ "${arguments[*]}" =~ $CRASH ]]; then
  printf '[ RUN      ] Devices/C.D/Cuda\nCUDA error: an illegal memory access\n'; exit 134
fi
printf '[  PASSED  ] 5 tests.\n[  SKIPPED ] 1 test, listed below:\n[  SKIPPED ] A.CudaB\n%s\n' "$TESTS"
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
import json, os, pathlib, sys, time
with open(pathlib.Path.home() / "paths", "a") as file:
    print("upstream", os.environ.get("LD_LIBRARY_PATH"), file=file)
with open(pathlib.Path.home() / "calls", "a") as file:
    print("time_upstream", *sys.argv[1:], file=file)
result = {"ms": {"total": {"samples": [390, 400, 410]}}, "peak_bytes": 2 << 30, "peak_reserved_bytes": 3 << 30,
          "first_loss": 6.9375}
with open(sys.argv[sys.argv.index("--json") + 1], "w") as file:
    json.dump(result, file)
if os.environ.get("HANG") == "time_upstream":
    time.sleep(60)
"""
LIBRARIES = 'echo "  libtorch_cuda.so => $HOME/site/torch/lib/libtorch_cuda.so (0x0)"'


def write_shard(path, tokens):
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack("<3i", 20240520, 1, len(tokens)).ljust(1024, b"\0")
    path.write_bytes(header + array.array("H", tokens).tobytes())


def read_shard(path):
    content = path.read_bytes()
    return struct.unpack_from("<3i", content), list(array.array("H", content[1024:]))


class PackageTest(SandboxTest):
    def setUp(self):
        super().setUp()
        self.package, self.report = self.root / "package", self.root / "report"
        (self.package / "data").mkdir(parents=True)
        for path in SCRIPTS.glob("gpu_*"):
            shutil.copy(path, self.package)
        (self.package / "time_upstream.py").write_text(UPSTREAM)
        self.upstream = self.root / "train_gpt.py"
        self.upstream.touch()
        programs = {"train_gpt": TRAIN, "bench_step": BENCH, "bench_ops": OPS, "eval_gpt": EVAL}
        programs.update((f"test_{area}", TESTS) for area in ("ops", "model", "optim", "train"))
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
