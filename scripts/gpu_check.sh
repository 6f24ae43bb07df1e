#!/usr/bin/env bash
# Proves the CUDA side on a machine that this project is not built on.
#
#   scripts/gpu_check.sh pack [PACKAGE]     build here (needs nvcc, no GPU) and collect programs, their few libraries, a
#                                           small data set and this script in PACKAGE (default build/gpu_check)
#   PACKAGE/gpu_check.sh libraries TORCH    every library of every program, resolved with the LibTorch in TORCH (the
#                                           "torch" folder of a wheel); fails and names what is missing
#   PACKAGE/gpu_check.sh run REPORT [--upstream TRAIN_GPT_PY] [--seconds N]
#                                           on a machine with a GPU and Python with PyTorch 2.11.0+cu130: GPU tests,
#                                           compute-sanitizer where it is installed, one optimiser step of the 9x512
#                                           baseline at 524,288 tokens, the compiled Python program's on the same card, and N
#                                           seconds of training (default 60); everything into the folder REPORT
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

usage() {
  sed -n '2,/^set/p' "$0" | sed -n 's/^# \{0,1\}//p'
}
say() { printf 'gpu_check: %s\n' "$*"; }
die() {
  say "error: $*" >&2
  exit 1
}

programs=(train_gpt eval_gpt prepare_data bench_step test_ops test_model test_optim test_train)

pack() {
  # shellcheck source=scripts/lib.sh
  source "$here/lib.sh"
  local package=${1:-build/gpu_check} program library
  command -v nvcc >/dev/null || die "no nvcc here; the package is for machines with a GPU and needs the CUDA toolkit to build"
  build_release "${programs[@]}"
  ldd build/bin/train_gpt | grep -q libtorch_cuda || die "build/ is configured without CUDA: cmake -B build -DPGOLF_CUDA=ON"
  rm -rf "$package"
  mkdir -p "$package/lib" "$package/data"
  "$cmake" --install build --component gpu_check --prefix "$package" --strip >/dev/null
  # What neither LibTorch, CUDA nor any Linux brings.
  for program in "$package"/bin/*; do
    ldd "$program"
  done | awk '$3 ~ /^\// && $1 ~ /^lib(spdlog|fmt|sentencepiece|sentencepiece_train|crypto|z|gtest|benchmark)[.-]/ {print $3}' | sort -u |
    while read -r library; do cp -L "$library" "$package/lib/"; done
  # The rest must be what every Linux has, or come with LibTorch.
  local base='^(lib(c|m|dl|rt|pthread|stdc\+\+|gcc_s|gomp|cuda|torch|torch_cpu|torch_cuda|c10|c10_cuda|cudart)|ld-linux-x86-64)[.-]?so'
  objdump -p "$package"/bin/* "$package"/lib/* | awk '$1 == "NEEDED" {print $2}' | sort -u | grep -vE "$base" |
    while read -r library; do [ -e "$package/lib/$library" ] || die "$library is needed and not carried"; done
  local dataset=data/datasets/sample_sp1024 tokenizer=data/tokenizers/sample_1024_bpe.model
  if [ -s data/tokenizers/fineweb_1024_bpe.model ] && compgen -G "data/datasets/fineweb10B_sp1024/fineweb_train_*.bin" >/dev/null; then
    dataset=data/datasets/fineweb10B_sp1024 tokenizer=data/tokenizers/fineweb_1024_bpe.model
  fi
  [ -s "$tokenizer" ] || die "no data to take along: run scripts/quickstart.sh or scripts/download_fineweb.sh first"
  cp "$tokenizer" "$package/data/tokenizer.model"
  # 4 million training and 1 million validation tokens: a shard is 256 int32 (word 2: number of tokens), then uint16 tokens.
  "$deps/bin/python" - "$package/data" "$(printf '%s\n' "$dataset"/fineweb_train_*.bin | head -n 1)" \
    "$(printf '%s\n' "$dataset"/fineweb_val_*.bin | head -n 1)" <<'PYTHON'
import struct, sys
out, train, val = sys.argv[1:]
for source, name, limit in ((train, "fineweb_train_000000.bin", 4_000_000), (val, "fineweb_val_000000.bin", 1_000_000)):
    with open(source, "rb") as file:
        header = bytearray(file.read(1024))
        count = min(limit, struct.unpack_from("<i", header, 8)[0])
        struct.pack_into("<i", header, 8, count)
        with open(f"{out}/{name}", "wb") as shard:
            shard.write(header + file.read(2 * count))
PYTHON
  cp "$here/gpu_check.sh" "$package/"
  cp "$root/benchmarks/time_upstream.py" "$package/"
  say "$package: $(du -sm "$package" | cut -f1) MB; try it with: $package/gpu_check.sh libraries TORCH_FOLDER"
}

# The folders that a program needs beside its own, for the LibTorch in $1.
library_path() {
  local torch=$1 folder path=$here/lib:$1/lib
  for folder in "$torch"/../nvidia/*/lib; do
    [ ! -d "$folder" ] || path=$path:$(cd "$folder" && pwd)
  done
  printf '%s' "$path"
}

libraries() {
  local torch=${1:?the torch folder of a PyTorch installation} program missing=0
  [ -e "$torch/lib/libtorch_cuda.so" ] || die "$torch has no lib/libtorch_cuda.so: not the torch folder of a CUDA build of PyTorch"
  local found
  for program in "$here"/bin/*; do
    found=$(LD_LIBRARY_PATH=$(library_path "$torch") ldd "$program")
    # The driver comes with the GPU.
    if grep 'not found' <<<"$found" | grep -v '^[[:space:]]*libcuda\.so'; then
      say "missing: the above, for $(basename "$program")" >&2
      missing=1
    elif grep -q libtorch <<<"$found" && ! grep -q "libtorch_cuda.so => $torch/" <<<"$found"; then
      say "$(basename "$program") does not take libtorch_cuda.so from $torch" >&2
      missing=1
    fi
  done
  [ $missing = 0 ] || return 1
  say "every library of $(find "$here/bin" -type f | wc -l) programs is there"
}

run() {
  local report=${1:?a folder for the report} upstream= seconds=60
  shift
  while [ $# -gt 0 ]; do
    [ $# -ge 2 ] || die "$1 needs a value"
    case $1 in
      --upstream) upstream=$(realpath "$2") ;;
      --seconds) seconds=$2 ;;
      *) die "unknown option $1; see $0 --help" ;;
    esac
    shift 2
  done
  [[ $seconds =~ ^[0-9]+$ ]] || die "--seconds takes a whole number, not \"$seconds\""
  local python=${PYTHON:-python3} torch failures=0
  torch=$("$python" -c 'import torch; print(torch.__path__[0])' 2>/dev/null) || die "$python has no torch"
  mkdir -p "$report"
  report=$(cd "$report" && pwd)
  "$python" -c 'import torch; print("PyTorch", torch.__version__, torch.cuda.get_device_name())' 2>/dev/null |
    tee "$report/machine.txt" || die "no GPU is usable here"
  nvidia-smi >>"$report/machine.txt" 2>&1 || true
  libraries "$torch" | tee "$report/libraries.txt"
  export LD_LIBRARY_PATH
  LD_LIBRARY_PATH=$(library_path "$torch")${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
  cd "$report"

  # A step's output goes to its own file; a failure is counted and the rest goes on.
  step() {
    local name=$1
    shift
    say "$name"
    if "$@" >"$name.txt" 2>&1; then
      tail -n 4 "$name.txt"
    else
      say "FAILED (exit $?): $name"
      tail -n 15 "$name.txt"
      failures=$((failures + 1))
    fi
  }
  local test
  for test in test_ops test_model test_optim; do step $test "$here/bin/$test" --gtest_brief=1; done
  step test_train "$here/bin/test_train" --gtest_filter='Trainer.*' --gtest_brief=1
  if command -v compute-sanitizer >/dev/null; then
    step sanitizer compute-sanitizer --error-exitcode 9 --kernel-name kernel_substring=pgolf "$here/bin/test_ops" \
      --gtest_filter='Cuda*' --gtest_brief=1
  fi
  local data=(--data-path "$here/data" --tokenizer-path "$here/data/tokenizer.model" --device cuda)
  local ops
  for ops in fast reference; do
    step "bench_step_$ops" "$here/bin/bench_step" --steps 8 --warmup 3 --json "bench_step_$ops.json" -- "${data[@]}" --ops $ops
  done
  step bench_step_without_graphs "$here/bin/bench_step" --total-only --steps 8 --warmup 3 --json bench_step_without_graphs.json \
    -- "${data[@]}" --cuda-graphs off
  if [ -n "$upstream" ]; then
    step upstream_compiled env DATA_PATH="$here/data" TOKENIZER_PATH="$here/data/tokenizer.model" \
      "$python" "$here/time_upstream.py" "$upstream" --device cuda --compile --steps 8 --warmup 3 --json upstream_compiled.json
  fi
  step train "$here/bin/train_gpt" "${data[@]}" --out-dir "$report" --run-id train --max-wallclock-seconds "$seconds" \
    --val-loss-every 0 --rope-dims 16
  [ $failures = 0 ] || die "$failures steps failed; see $report"
  say "all done; see $report"
}

case ${1:-} in
  pack | libraries | run) "$@" ;;
  --help | -h) usage ;;
  *)
    usage >&2
    exit 2
    ;;
esac
