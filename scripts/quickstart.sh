#!/usr/bin/env bash
# From nothing to a trained model: sets up, builds, prepares data, trains a small GPT with partial RoPE for about three
# minutes on two cores, writes and re-reads the compressed artifact, samples from it and plots the loss.
# Published shards in data/datasets/ (scripts/download_fineweb.sh) are used if present; otherwise the training text comes from two
# documentation packages of the Linux distribution. Arguments go to train_gpt: scripts/quickstart.sh --max-wallclock-seconds 60

# Fewer steps teach a model little: on slow machines --min-steps makes the steps smaller (see train_gpt --help).
min_steps=250

# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/sample_data.sh
source "$root/scripts/sample_data.sh"

build_release train_gpt eval_gpt prepare_data

dataset=data/datasets/fineweb10B_sp1024 tokenizer=data/tokenizers/fineweb_1024_bpe.model
if compgen -G "$dataset/fineweb_train_*.bin" >/dev/null && compgen -G "$dataset/fineweb_val_*.bin" >/dev/null &&
  [ -s "$tokenizer" ]; then
  say "data: the published shards in $dataset"
else
  make_sample_data
  say "data: sample text in $dataset"
fi

# Not if the caller sets the size or number of steps, or removes the time limit.
given=" $* MIN_STEPS=${MIN_STEPS-} TRAIN_BATCH_TOKENS=${TRAIN_BATCH_TOKENS-} --max-wallclock-seconds=${MAX_WALLCLOCK_SECONDS-} "
fit=(--min-steps "$min_steps")
if [[ $given =~ \ --(min-steps|train-batch-tokens)[=\ ] || $given =~ \ (MIN_STEPS|TRAIN_BATCH_TOKENS)=[^\ ] ||
  $given =~ \ --max-wallclock-seconds[=\ ][0.]+\  ]]; then
  fit=()
fi

run=quickstart_$(date +%Y%m%d_%H%M%S)
say "training a small model into runs/$run (about three minutes on two cores)"
build/bin/train_gpt --config configs/cpu_small.env --data-path "$dataset" --tokenizer-path "$tokenizer" \
  --out-dir runs --run-id "$run" "${fit[@]}" "$@"
say "sampling from it"
build/bin/eval_gpt generate "runs/$run" --tokenizer-path "$tokenizer" --num-samples 3 --max-new-tokens 64 --seed 1 \
  --prompt "The first thing to know about"
scripts/plot_run.sh "runs/$run"
say "done: all results are in runs/$run"
