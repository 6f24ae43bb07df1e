#!/usr/bin/env bash
# The studies in docs/study, trained on the sample text. They can be stopped at any time, and the next call continues them. Results:
# a folder in runs/ for each model, with report.md, sweep.csv and plots.
#
#   scripts/study.sh [OPTION...]                how many dimensions of a head have to rotate: two model shapes, seven arms, three
#                                               to six seeds; one to two hours on two cores
#   scripts/study.sh --preset arms [OPTION...]  variants of rotation, windows and keys: thirteen arms, two model sizes, three seeds;
#                                               two hours on two Zen 3 cores
#
# Options go to every run of train_gpt: scripts/study.sh --iterations 100
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/sample_data.sh
source "$root/scripts/sample_data.sh"

preset=dims
if [ "${1-}" = --preset ]; then
  [ $# -ge 2 ] || die "--preset needs a value: dims or arms"
  preset=$2
  shift 2
fi
case $preset in dims | arms) ;; *) die "--preset $preset is neither dims nor arms" ;; esac

build_release train_gpt eval_gpt prepare_data sweep_gpt
make_sample_data

# sweep MODEL SEEDS TRAIN_GPT_OPTION VALUES...: into runs/study_MODEL. One single-threaded job per core, so that results do not
# depend on the number of cores.
sweep() {
  local model=$1 seeds=$2
  shift 2
  build/bin/sweep_gpt "$@" --seed "$seeds" --jobs "$(nproc)" --out-dir "runs/study_$model" -- --config "$config" "${size[@]}" \
    --data-path "$dataset" --tokenizer-path "$tokenizer" --num-threads 1 "${extra[@]}" ||
    failed=$? # a diverged run does not stop the other arms
}

study_dims() {
  size=()
  for shape in sequential parallel; do
    say "the $shape arms, into runs/study_$shape"
    config=configs/study_$shape.env
    sweep "$shape" 1,2,3 --rope-dims none,2,6,16,full
    sweep "$shape" 1,2,3 --rope-dims 16 --rope-select high # p-RoPE
    sweep "$shape" 1,2,3 --rope-layers 'full*3,none'
    # Three seeds do not decide this pair in one of the shapes.
    [ "$shape" = parallel ] || sweep "$shape" 4,5,6 --rope-dims 16,full
  done
}

# What each arm is, and its source: docs/partial_rope.md.
study_arms() {
  config=configs/study_sequential.env
  extra=(--train-batch-tokens 4096 "${extra[@]}") # half of the other study's: there are more runs
  for model in arms_4x128 arms_4x64; do
    size=(--num-layers 4 --model-dim 128 --num-heads 2)
    [ $model = arms_4x128 ] || size=(--num-layers 4 --model-dim 64 --num-heads 1)
    say "the arms of runs/study_$model"
    sweep $model 1,2,3 --rope-dims none,16,full
    sweep $model 1,2,3 --rope-dims 16 --rope-select high,low,uniform
    sweep $model 1,2,3 --rope-dims 32 --rope-base 50 # RoPE-ID: half the dims, each with a full turn in 256 tokens
    sweep $model 1,2,3 --rope-layers 'full*3,none'
    sweep $model 1,2,3 --rope-dims none --attention-window 64
    sweep $model 1,2,3 --rope-layers 'full*3,none' --attention-window '64*3,full' # local rotation, as in SWAN
    sweep $model 1,2,3 --rope-dims 16 --attention-window '64*3,full'
    sweep $model 1,2,3 --rope-dims full --rope-drop-at 0.7 # DroPE
    sweep $model 1,2,3 --rope-dims 16 --key-offset 1
  done
}

extra=("$@") failed=0
"study_$preset"
[ "$failed" = 0 ] || exit "$failed"
say "done: report.md, sweep.csv and plots are in runs/study_*"
