#!/usr/bin/env bash
# Times the Python train_gpt.py and ours, in turn on the same machine, and prints a table.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
die() {
  printf 'bench_vs_python: error: %s\n' "$*" >&2
  exit 2
}

usage() {
  cat <<'USAGE'
Usage: scripts/bench_vs_python.sh [OPTION...] PATH_TO/train_gpt.py

Every program is started anew in every round: ours, Python eager, Python compiled, and so on, on the same shards with the
same arithmetic (Muon in bfloat16). PYTHON names a Python with PyTorch, NumPy and SentencePiece (default: python3).
Compiling takes minutes in the first round, setuptools and, on the CPU, g++. A Python variant that fails is reported and left
out.

  --configs LIST        4x128 (sequences of 128), 9x512 (the baseline, sequences of 1,024), and eval: a validation of
                        --eval-tokens tokens by a 7x384 model with its initial weights (default: 4x128,9x512)
  --programs LIST       fast and reference (ours), eager and compiled (Python) (default: fast,eager,compiled)
  --dtypes LIST         default: float32,bfloat16
  --device NAME         cpu or cuda (default: cpu)
  --threads N           default: the physical cores
  --rounds N            default: 3
  --steps N             measured in each process (default: 10 for 4x128, 3 for 9x512, 1 for eval)
  --warmup N            before them (default: 2, 1 for eval)
  --batch-tokens N      tokens of a step, in 8 micro-steps (default: 8192; 524288 with --device cuda)
  --eval-tokens N       default: 1000000
  --bench-step PATH     default: build/bin/bench_step
  --data-path DIR       shards (default: data/datasets/fineweb10B_sp1024)
  --tokenizer-path FILE their tokenizer, 1,024 pieces (default: data/tokenizers/fineweb_1024_bpe.model)
  --keep DIR            keep every process's samples there (JSON), in a new or empty folder
USAGE
}

configs=4x128,9x512 programs=fast,eager,compiled dtypes=float32,bfloat16 device=cpu rounds=3 eval_tokens=1000000
steps="" warmup="" batch_tokens="" keep="" upstream="" python=${PYTHON:-python3}
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
    --batch-tokens) batch_tokens=$2; shift ;;
    --eval-tokens) eval_tokens=$2; shift ;;
    --bench-step) bench_step=$2; shift ;;
    --data-path) data=$2; shift ;;
    --tokenizer-path) tokenizer=$2; shift ;;
    --keep) keep=$2; shift ;;
    -*) die "no option $1; see --help" ;;
    *) [ -z "$upstream" ] || die "one Python program, not two"; upstream=$1 ;;
  esac
  shift
done
[ -n "$upstream" ] || { usage >&2; exit 2; }
[ -f "$upstream" ] || die "$upstream is not a file"
[ -x "$bench_step" ] || die "$bench_step is missing; build it with: cmake --build build --target bench_step"
require_all() { # flag, list, what it may hold
  local item
  for item in ${2//,/ }; do
    [[ " $3 " == *" $item "* ]] || die "$1 takes a list of $3, not $item"
  done
}
require_all --configs "$configs" "4x128 9x512 eval"
require_all --programs "$programs" "fast reference eager compiled"
require_all --dtypes "$dtypes" "float32 bfloat16"
if [ -z "$batch_tokens" ]; then
  batch_tokens=8192
  [ "$device" != cuda ] || batch_tokens=524288
fi

work=$keep
if [ -z "$work" ]; then
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
fi
mkdir -p "$work"
[ -z "$(ls -A "$work")" ] || die "--keep $work is not empty; name a new folder"

# Both programs take their settings from the environment, and nothing of the caller's may reach one of them only. The
# compiler's cache is new, so that the first round shows what compiling costs, and shared by the rounds.
common=(PATH="$PATH" HOME="$HOME" LD_LIBRARY_PATH="${LD_LIBRARY_PATH-}" OMP_NUM_THREADS="$threads"
  TORCHINDUCTOR_CACHE_DIR="$work/compiled" TRITON_CACHE_DIR="$work/compiled/triton"
  DATA_PATH="$data" TOKENIZER_PATH="$tokenizer" TRAIN_BATCH_TOKENS="$batch_tokens" VOCAB_SIZE=1024)
[ -z "${CUDA_VISIBLE_DEVICES+set}" ] || common+=(CUDA_VISIBLE_DEVICES="$CUDA_VISIBLE_DEVICES")

# time_one CONFIG DTYPE PROGRAM SAMPLES.json
time_one() {
  local shape counts ours=(--total-only) theirs=()
  case $1 in
    4x128) shape=(NUM_LAYERS=4 MODEL_DIM=128 NUM_HEADS=4 NUM_KV_HEADS=2 TRAIN_SEQ_LEN=128) counts=(10 2) ;;
    9x512) shape=(NUM_LAYERS=9 MODEL_DIM=512 NUM_HEADS=8 NUM_KV_HEADS=4 TRAIN_SEQ_LEN=1024) counts=(3 2) ;;
    eval)
      shape=(NUM_LAYERS=7 MODEL_DIM=384 NUM_HEADS=8 NUM_KV_HEADS=4 TRAIN_SEQ_LEN=1024 EVAL_TOKENS="$eval_tokens") counts=(1 1)
      ours=(--validation) theirs=(--eval-tokens "$eval_tokens")
      ;;
  esac
  counts=(--steps "${steps:-${counts[0]}}" --warmup "${warmup:-${counts[1]}}")
  case $3 in
    fast|reference)
      env -i "${common[@]}" "${shape[@]}" "$bench_step" "${ours[@]}" "${counts[@]}" --json "$4" \
        -- --device "$device" --dtype "$2" --muon-dtype bfloat16 --ops "$3" --num-threads "$threads" >"$work/output.txt"
      return
      ;;
    compiled) theirs+=(--compile) ;;
    eager) ;;
  esac
  [ ! -e "$work/$1.$2.$3.failed" ] || return 0
  env -i "${common[@]}" "${shape[@]}" "$python" "$root/benchmarks/time_upstream.py" "$upstream" "${theirs[@]}" "${counts[@]}" \
    --device "$device" --dtype "$2" --threads "$threads" --json "$4" 2>"$work/output.txt" ||
    { grep -E 'Error|Exception' "$work/output.txt" || tail "$work/output.txt"; } | tail -n 1 | tee "$work/$1.$2.$3.failed" >&2
}

for config in ${configs//,/ }; do
  for round in $(seq "$rounds"); do
    for dtype in ${dtypes//,/ }; do
      for program in ${programs//,/ }; do
        echo "$config, round $round of $rounds: $dtype, $program" >&2
        time_one "$config" "$dtype" "$program" "$work/$config.$dtype.$program.$round.json"
      done
    done
  done
done
"$python" "$root/benchmarks/table_vs_python.py" "$work"
