# Makes sample data on a machine without datasets: `source` it after lib.sh.
# shellcheck shell=bash
# Sourced after lib.sh, which sets them: root and deps.
: "${root:?}" "${deps:?}"
sample=data/sample

# Fetches two documentation packages (free licenses), unpacks them without installing, keeps their text.
fetch_text() {
  local hint="put English text of your own into $sample/docs.jsonl (one {\"text\": \"...\"} per line), or get the published \
shards with scripts/download_fineweb.sh; then run this again"
  command -v apt-get >/dev/null || die "this system has no apt-get to fetch sample text with; $hint"
  local unpacked=$root/$sample/unpacked python_doc package
  # python3-doc is empty and depends on the package of the release's Python.
  find_python_doc() { python_doc=$(apt-cache depends python3-doc 2>/dev/null | grep -om1 'python3\.[0-9]*-doc' || true); }
  find_python_doc
  if [ -z "$python_doc" ]; then
    as_root apt-get -qq update || die "apt's package lists are empty; run 'apt-get update' as root and run this again"
    find_python_doc
    [ -n "$python_doc" ] || die "apt has no package python3-doc; $hint"
  fi
  say "fetching sample text: the packages $python_doc and sqlite3-doc (unpacked under $sample, not installed)"
  rm -rf "$unpacked"
  mkdir -p "$unpacked"
  (cd "$unpacked" && apt-get -qq -o APT::Sandbox::User=root download "$python_doc" sqlite3-doc) ||
    die "apt-get could not download them: run 'apt-get update' as root and run this again; or $hint"
  for package in "$python_doc" sqlite3-doc; do
    dpkg-deb --extract "$unpacked/$package"_*.deb "$unpacked/$package"
    cp "$unpacked/$package/usr/share/doc/$package/copyright" "$sample/$package.copyright"
  done
  "$deps/bin/python" scripts/extract_docs.py "$sample/docs.jsonl" "$unpacked/$python_doc" "$unpacked/sqlite3-doc"
  rm -rf "$unpacked"
}

# Sets dataset and tokenizer; creates them if missing. Needs build/bin/prepare_data.
make_sample_data() {
  dataset=data/datasets/sample_sp1024 tokenizer=data/tokenizers/sample_1024_bpe.model
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
