#!/usr/bin/env bash
# Times upstream's train_gpt.py and train_gpt alternately on the same machine, and prints a table.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
die() {
  printf 'bench_vs_python: error: %s\n' "$*" >&2
  exit 2
}

usage() {
  cat <<'USAGE'
Usage: scripts/bench_vs_python.sh [OPTION...] PATH_TO/train_gpt.py

Compares the speed of train_gpt with that of upstream's train_gpt.py (from https://github.com/openai/parameter-golf). Every
round runs the programs in turn on the same shards: train_gpt, upstream eager, upstream compiled, and so on. All do the same
arithmetic (Muon in bfloat16) with the same number of threads, except for `own`: train_gpt with its defaults for DTYPE,
MUON_DTYPE and threads, once per round. Upstream's default is one thread per physical core, too, so with the default of
--threads its runs also serve for that comparison: the table ends with the fastest of them against `own`.

PYTHON is an interpreter with PyTorch, NumPy and SentencePiece (default: python3). A compiled variant takes minutes to compile in
the first round, and needs setuptools and, on the CPU, g++. An upstream variant that fails is reported and skipped, as is
any program that exceeds the time limit.

PGOLF_CPU_LEVEL (portable, avx2, avx512, avx512bf16 or amx) limits the instruction set of all programs: train_gpt reads it,
and for upstream the script sets its libraries' variables (ATEN_CPU_CAPABILITY, ONEDNN_MAX_CPU_ISA, MKL_ENABLE_INSTRUCTIONS).
The vector code of torch.compile respects it too, but g++ may use all instructions elsewhere (-march=native).

  --configs LIST        4x128 (4 blocks of width 128, sequences of 128 tokens), 9x512 (the baseline, sequences of 1,024), and
                        eval: a validation of --eval-tokens tokens by an untrained 7x384 model (default: 4x128,9x512)
  --programs LIST       of train_gpt: fast (OPS=fast), own (its defaults) and reference (OPS=reference); of upstream: eager and
                        compiled (default: fast,own,eager,compiled)
  --dtypes LIST         default: float32,bfloat16
  --device NAME         cpu or cuda (default: cpu)
  --threads N           default: one per physical core
  --rounds N            default: 3
  --steps N             timed steps per process (default: 10 for 4x128, 3 for 9x512, 1 for eval)
  --warmup N            untimed steps before them (default: 2, 1 for eval)
  --time-limit SECONDS  per run of a program, including compilation; 0 = none (default: 600)
  --batch-tokens N      tokens per step, in 8 micro-steps (default: 8192; 524288 with --device cuda)
  --eval-tokens N       default: 1000000
  --bench-step PATH     default: build/bin/bench_step
  --data-path DIR       shards (default: data/datasets/fineweb10B_sp1024)
  --tokenizer-path FILE their tokenizer, of 1,024 pieces (default: data/tokenizers/fineweb_1024_bpe.model)
  --keep DIR            keep the times of every run (JSON) in this new or empty folder
USAGE
}

configs=4x128,9x512 programs=fast,own,eager,compiled dtypes=float32,bfloat16 device=cpu rounds=3
eval_tokens=1000000 time_limit=600 steps="" warmup="" batch_tokens="" keep="" upstream="" python=${PYTHON:-python3}
threads=$(lscpu -p=CORE,SOCKET | grep -v '^#' | sort -u | wc -l)
bench_step=$root/build/bin/bench_step
data=$root/data/datasets/fineweb10B_sp1024
tokenizer=$root/data/tokenizers/fineweb_1024_bpe.model
while [ $# -gt 0 ]; do
  case $1 in
    -h|--help) usage; exit 0 ;;
    --*) [ $# -ge 2 ] || die "$1 needs a value" ;;&
    --configs) configs=$2; shift ;;
    --programs) programs=$2; shift ;;
    --dtypes) dtypes=$2; shift ;;
    --device) device=$2; shift ;;
    --threads) threads=$2; shift ;;
    --rounds) rounds=$2; shift ;;
    --steps) steps=$2; shift ;;
    --warmup) warmup=$2; shift ;;
    --time-limit) time_limit=$2; shift ;;
    --batch-tokens) batch_tokens=$2; shift ;;
    --eval-tokens) eval_tokens=$2; shift ;;
    --bench-step) bench_step=$2; shift ;;
    --data-path) data=$2; shift ;;
    --tokenizer-path) tokenizer=$2; shift ;;
    --keep) keep=$2; shift ;;
    -*) die "unknown option $1; see --help" ;;
    *) [ -z "$upstream" ] || die "pass one train_gpt.py, not two"; upstream=$1 ;;
  esac
  shift
done
[ -n "$upstream" ] || { usage >&2; exit 2; }
[ -f "$upstream" ] || die "$upstream is not a file"
[ -x "$bench_step" ] || die "$bench_step is missing; build it with: cmake --build build --target bench_step"
require_all() { # flag, list, allowed items
  local item
  for item in ${2//,/ }; do
    [[ " $3 " == *" $item "* ]] || die "$1 accepts only $3, not $item"
  done
}
require_all --configs "$configs" "4x128 9x512 eval"
require_all --programs "$programs" "fast own reference eager compiled"
require_all --dtypes "$dtypes" "float32 bfloat16"
[[ $time_limit =~ ^[0-9]+$ ]] || die "--time-limit takes whole seconds, not $time_limit"
if [ -z "$batch_tokens" ]; then
  batch_tokens=8192
  [ "$device" != cuda ] || batch_tokens=524288
fi

# Takes the name of a capability and lscpu's name of it. PyTorch does not check the processor, and would crash.
cap_aten() {
  ! lscpu | grep -w "$2" >/dev/null || library_caps+=(ATEN_CPU_CAPABILITY="$1")
}
library_caps=() # as src/train/relaunch.cpp sets them for our programs
case ${PGOLF_CPU_LEVEL-} in
  "") ;;
  portable) library_caps=(ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_ENABLE_INSTRUCTIONS=SSE4_2) ;;
  avx2) library_caps=(ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2); cap_aten avx2 avx2 ;;
  avx512) library_caps=(ONEDNN_MAX_CPU_ISA=AVX512_CORE); cap_aten avx512 avx512vl ;;
  avx512bf16) library_caps=(ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16); cap_aten avx512 avx512vl ;;
  amx) cap_aten avx512 avx512vl ;;
  *) die "PGOLF_CPU_LEVEL must be portable, avx2, avx512, avx512bf16 or amx, not $PGOLF_CPU_LEVEL" ;;
esac

work=$keep
[ -n "$work" ] || work=$(mktemp -d)
running=""
finish() {
  [ -z "$running" ] || { kill "$running" && wait "$running"; } 2>/dev/null || true
  [ -n "$keep" ] || rm -rf "$work"
}
trap finish EXIT
mkdir -p "$work"
[ -z "$(ls -A "$work")" ] || die "--keep $work is not empty; name a new folder"

# Both programs read their settings from the environment, so the caller's must not reach only one of them. The compiler
# cache starts empty, so that the first round includes compilation, and is shared by the rounds.
common=(PATH="$PATH" HOME="$HOME" LD_LIBRARY_PATH="${LD_LIBRARY_PATH-}"
  TORCHINDUCTOR_CACHE_DIR="$work/compiled" TRITON_CACHE_DIR="$work/compiled/triton"
  DATA_PATH="$data" TOKENIZER_PATH="$tokenizer" TRAIN_BATCH_TOKENS="$batch_tokens" VOCAB_SIZE=1024)
[ -z "${CUDA_VISIBLE_DEVICES+set}" ] || common+=(CUDA_VISIBLE_DEVICES="$CUDA_VISIBLE_DEVICES")

# Runs a command within the time limit. `timeout` leaves the terminal's process group, so Ctrl-C does not reach it, and bash
# would not act on it before a command in the foreground has ended.
limited() {
  local status=0 started=$SECONDS
  timeout -k 10 "$time_limit" "$@" &
  running=$!
  wait "$running" || status=$?
  running=""
  # 124 and 137 may also be the program's own status, or that of an out-of-memory kill.
  was_stopped=""
  if [[ $status == @(124|137) ]] && ((time_limit > 0 && SECONDS - started >= time_limit)); then was_stopped=1; fi
  return "$status"
}

# time_one CONFIG DTYPE PROGRAM SAMPLES.json
time_one() {
  local shape counts command ours=(--total-only) theirs=() same_threads=OMP_NUM_THREADS=$threads
  local status=0 failed=$work/$1.$2.$3.failed
  [ ! -e "$failed" ] || return 0
  case $1 in
    4x128) shape=(NUM_LAYERS=4 MODEL_DIM=128 NUM_HEADS=4 NUM_KV_HEADS=2 TRAIN_SEQ_LEN=128) counts=(10 2) ;;
    9x512) shape=(NUM_LAYERS=9 MODEL_DIM=512 NUM_HEADS=8 NUM_KV_HEADS=4 TRAIN_SEQ_LEN=1024) counts=(3 2) ;;
    eval)
      shape=(NUM_LAYERS=7 MODEL_DIM=384 NUM_HEADS=8 NUM_KV_HEADS=4 TRAIN_SEQ_LEN=1024 EVAL_TOKENS="$eval_tokens") counts=(1 1)
      ours=(--validation) theirs=(--eval-tokens "$eval_tokens")
      ;;
  esac
  counts=(--steps "${steps:-${counts[0]}}" --warmup "${warmup:-${counts[1]}}" --json "$4")
  ours=(${PGOLF_CPU_LEVEL:+PGOLF_CPU_LEVEL="$PGOLF_CPU_LEVEL"} "$bench_step" "${ours[@]}" "${counts[@]}" -- --device "$device")
  theirs=("${library_caps[@]}" "$python" "$root/benchmarks/time_upstream.py" "$upstream" "${theirs[@]}" "${counts[@]}"
    --device "$device" --dtype "$2" --threads "$threads")
  case $3 in
    own) command=("${ours[@]}") ;;
    eager) command=("$same_threads" "${theirs[@]}") ;;
    compiled) command=("$same_threads" "${theirs[@]}" --compile) ;;
    *) command=("$same_threads" "${ours[@]}" --dtype "$2" --muon-dtype bfloat16 --ops "$3" --num-threads "$threads") ;;
  esac
  limited env -i "${common[@]}" "${shape[@]}" "${command[@]}" >"$work/output.txt" 2>"$work/errors.txt" || status=$?
  [[ $3 == @(eager|compiled) ]] || cat "$work/errors.txt" >&2
  if [ -n "$was_stopped" ]; then
    echo "was stopped after $time_limit s" | tee "$failed" >&2
  elif [[ $3 != @(eager|compiled) ]]; then
    return "$status"
  elif [ "$status" -ne 0 ]; then
    echo "failed: $(reason "$status")" | tee "$failed" >&2
  fi
}
reason() { # exit status
  { grep -E 'Error|Exception' "$work/errors.txt" || tail "$work/errors.txt"; } | tail -n 1 | grep . || echo "exit status $1"
}

for config in ${configs//,/ }; do
  for round in $(seq "$rounds"); do
    for dtype in ${dtypes//,/ }; do
      for program in ${programs//,/ }; do
        arithmetic=$dtype
        if [ "$program" = own ]; then
          [ "$dtype" = "${dtypes%%,*}" ] || continue
          arithmetic=own
        fi
        echo "$config, round $round of $rounds: $arithmetic, $program" >&2
        time_one "$config" "$arithmetic" "$program" "$work/$config.$arithmetic.$program.$round.json"
      done
    done
  done
done
"$python" "$root/benchmarks/table_vs_python.py" "$work"
