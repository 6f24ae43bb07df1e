#!/usr/bin/env bash
# The study in docs/study: how many dimensions of a head have to rotate (RoPE)? Two model shapes, seven arms, three to six seeds,
# trained on the sample text. Takes one to two hours on two cores; it can be stopped at any time, and the next call continues it.
# Results: runs/study_sequential and runs/study_parallel, each with report.md, sweep.csv and plots. Arguments go to every run of
# train_gpt: scripts/study.sh --iterations 100
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/sample_data.sh
source "$root/scripts/sample_data.sh"

build_release train_gpt eval_gpt prepare_data sweep_gpt
make_sample_data

# sweep SHAPE SEEDS TRAIN_GPT_OPTION VALUES...: one single-threaded job per core, so that results do not depend on the number
# of cores.
sweep() {
  local shape=$1 seeds=$2
  shift 2
  build/bin/sweep_gpt "$@" --seed "$seeds" --jobs "$(nproc)" --out-dir "runs/study_$shape" -- --config "configs/study_$shape.env" \
    --data-path "$dataset" --tokenizer-path "$tokenizer" --num-threads 1 "${extra[@]}" ||
    failed=$? # a diverged run does not stop the other arms
}

extra=("$@") failed=0
for shape in sequential parallel; do
  say "the $shape arms, into runs/study_$shape"
  sweep "$shape" 1,2,3 --rope-dims none,2,6,16,full
  sweep "$shape" 1,2,3 --rope-dims 16 --rope-select high # p-RoPE
  sweep "$shape" 1,2,3 --rope-layers 'full*3,none'
  # Three seeds do not decide this pair in one of the shapes.
  [ "$shape" = parallel ] || sweep "$shape" 4,5,6 --rope-dims 16,full
done
[ "$failed" = 0 ] || exit "$failed"
say "done: report.md, sweep.csv and plots are in runs/study_sequential and runs/study_parallel"
