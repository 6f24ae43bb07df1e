#!/usr/bin/env bash
# Four arms of upstream's baseline, 9 blocks of width 512, on one GPU in 12 minutes: full rotation, 16 of 64 dimensions, the 16 of
# p-RoPE, and none. Each trains for 150 seconds and is scored from its artifact. Results: runs/gpu_study/ARM, and a table.
#
#   DATA_PATH=... TOKENIZER_PATH=... scripts/gpu_study.sh [--programs DIR] [--seconds N] [OPTION...]
#
# --programs: the folder with train_gpt, default build/bin; or a package of scripts/gpu_check.sh, whose programs use the PyTorch
# of PYTHON (default python3), and whose data is used if the two variables are not set. --seconds: of training, for each arm.
# Other options go to train_gpt. An arm that is done is not run again.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
programs=$root/build/bin seconds=150
while [[ ${1-} == @(--programs|--seconds) ]]; do
  case $1 in
    --programs) programs=${2:?--programs needs a folder} ;;
    --seconds) seconds=${2:?--seconds needs a number} ;;
  esac
  shift 2
done
if [ -e "$programs/programs.tar.xz" ]; then
  package=$programs
  programs=$(mktemp -d)
  trap 'rm -rf "$programs"' EXIT
  libraries=$("$package/gpu_check.sh" unpack "$programs")
  export LD_LIBRARY_PATH="$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
  export DATA_PATH=${DATA_PATH:-$package/data} TOKENIZER_PATH=${TOKENIZER_PATH:-$package/data/tokenizer.model}
  train_gpt=$programs/bin/train_gpt
else
  train_gpt=$programs/train_gpt
fi
out=runs/gpu_study

train() {
  local arm=$1
  shift
  if grep -qs '"kind":"final"' "$out/$arm/metrics.jsonl"; then
    return
  fi
  rm -rf "${out:?}/$arm"
  # The model is the program's default. As variables, so that options can set other values.
  env MAX_WALLCLOCK_SECONDS="$seconds" WARMDOWN_FRAC=0.4 VAL_LOSS_EVERY=0 EVAL_TOKENS=1048576 \
    "$train_gpt" --out-dir "$out" --run-id "$arm" "$@"
}

train full --rope-dims full "$@"
train partial_16 --rope-dims 16 "$@"
train p_rope_16 --rope-dims 16 --rope-select high "$@"
train none --rope-dims none "$@"

printf '%-12s %8s %10s %14s\n' arm steps val_bpb ms_per_step
for arm in full partial_16 p_rope_16 none; do
  records=$out/$arm/metrics.jsonl
  read -r steps time_ms < <(sed -n 's/.*"kind":"end","step":\([0-9]*\),"train_time_ms":\([0-9.]*\).*/\1 \2/p' "$records" | tail -n 1)
  bpb=$(sed -n 's/.*"kind":"final".*"val_bpb":\([0-9.]*\).*/\1/p' "$records" | tail -n 1)
  printf '%-12s %8s %10.4f %14.1f\n' "$arm" "$steps" "$bpb" "$(awk "BEGIN {print $time_ms / ($steps > 0 ? $steps : 1)}")"
done
