#!/usr/bin/env bash
# From nothing to a trained model: sets up, builds, makes data, trains a small GPT with partial RoPE for about three
# minutes on two cores, writes and re-reads the compressed artifact, samples from it and draws the loss curve.
# Published shards in data/datasets/ (scripts/download_fineweb.sh) are used if there; otherwise documentation packages of
# the distribution serve as English text. Arguments go to train_gpt: scripts/quickstart.sh --max-wallclock-seconds 60
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

sample=data/sample
build_release train_gpt eval_gpt prepare_data

# Fetches two documentation packages (free licences), unpacks them without installing, keeps their text.
fetch_text() {
  local hint="put English text of your own into $sample/docs.jsonl (one {\"text\": \"...\"} a line), or get the published shards \
with scripts/download_fineweb.sh; then call this again"
  command -v apt-get >/dev/null || die "no apt-get to fetch sample text with; $hint"
  local unpacked=$root/$sample/unpacked python_doc package
  # python3-doc is empty and depends on the package of the release's Python.
  find_python_doc() { python_doc=$(apt-cache depends python3-doc 2>/dev/null | grep -om1 'python3\.[0-9]*-doc' || true); }
  find_python_doc
  if [ -z "$python_doc" ]; then
    as_root apt-get -qq update || die "apt's package lists are empty; run 'apt-get update' as root and call this again"
    find_python_doc
    [ -n "$python_doc" ] || die "apt knows no python3-doc package; $hint"
  fi
  say "fetching sample text: the packages $python_doc and sqlite3-doc (unpacked under $sample, not installed)"
  rm -rf "$unpacked"
  mkdir -p "$unpacked"
  (cd "$unpacked" && apt-get -qq -o APT::Sandbox::User=root download "$python_doc" sqlite3-doc) ||
    die "apt-get could not download them: run 'apt-get update' as root and call this again; or $hint"
  for package in "$python_doc" sqlite3-doc; do
    dpkg-deb --extract "$unpacked/$package"_*.deb "$unpacked/$package"
    cp "$unpacked/$package/usr/share/doc/$package/copyright" "$sample/$package.copyright"
  done
  "$deps/bin/python" scripts/extract_docs.py "$sample/docs.jsonl" "$unpacked/$python_doc" "$unpacked/sqlite3-doc"
  rm -rf "$unpacked"
}

make_sample_data() {
  mkdir -p "$sample" data/tokenizers data/datasets
  [ -s "$sample/docs.jsonl" ] || fetch_text
  if [ ! "$tokenizer" -nt "$sample/docs.jsonl" ]; then
    say "training a tokenizer of 1,024 pieces"
    build/bin/prepare_data tokenizer --input "$sample/docs.jsonl" --vocab-size 1024 --output "$tokenizer" --split-long
  fi
  if [ ! "$dataset" -nt "$tokenizer" ]; then
    say "writing training and validation shards into $dataset"
    rm -rf "$dataset" "$dataset.part"
    build/bin/prepare_data tokenize --input "$sample/docs.jsonl" --tokenizer-path "$tokenizer" --out-dir "$dataset.part" \
      --val-fraction 0.05
    mv "$dataset.part" "$dataset"
  fi
}

dataset=data/datasets/fineweb10B_sp1024 tokenizer=data/tokenizers/fineweb_1024_bpe.model
if compgen -G "$dataset/fineweb_train_*.bin" >/dev/null && compgen -G "$dataset/fineweb_val_*.bin" >/dev/null &&
  [ -s "$tokenizer" ]; then
  say "data: the published shards in $dataset"
else
  dataset=data/datasets/sample_sp1024 tokenizer=data/tokenizers/sample_1024_bpe.model
  make_sample_data
  say "data: sample text in $dataset"
fi

run=quickstart_$(date +%Y%m%d_%H%M%S)
say "training a small model into runs/$run (about three minutes on two cores)"
build/bin/train_gpt --config configs/cpu_small.env --rope-dims 16 --data-path "$dataset" --tokenizer-path "$tokenizer" \
  --out-dir runs --run-id "$run" "$@"
say "sampling from it"
build/bin/eval_gpt generate "runs/$run" --tokenizer-path "$tokenizer" --num-samples 3 --max-new-tokens 64 --seed 1 \
  --prompt "The first thing to know about"
scripts/plot_run.sh "runs/$run"
say "done: everything about this run is in runs/$run"
