#!/usr/bin/env bash
# Downloads the published FineWeb shards and their tokenizer. An interrupted download resumes; every shard is
# checked before it gets its final name.
set -euo pipefail
base_url=${FINEWEB_BASE_URL:-https://huggingface.co/datasets/willdepueoai/parameter-golf/resolve/main/datasets}
data_dir=$(cd "$(dirname "$0")/.." && pwd)/data
variant=sp1024 train_shards=1 dry_run=

usage() {
  cat <<EOS
usage: download_fineweb.sh [options]
  --variant NAME      sp followed by the number of pieces of the tokenizer (default: $variant)
  --train-shards N    number of training shards, 200 MB each in the published set (default: $train_shards);
                      all validation shards are always downloaded
  --data-dir DIR      folder for datasets/ and tokenizers/ (default: the repository's data/)
  --base-url URL      location of manifest.json, datasets/ and tokenizers/ (environment: FINEWEB_BASE_URL; default:
                      $base_url)
  --dry-run           only list what would be downloaded
EOS
}
say() { printf 'download_fineweb: %s\n' "$*"; }
die() {
  say "error: $*" >&2
  exit 1
}

while [ $# -gt 0 ]; do
  option=$1
  case $option in
    -h | --help) usage && exit ;;
    --dry-run) dry_run=1 && shift && continue ;;
    --*=*) set -- "${option%%=*}" "${option#*=}" "${@:2}" && continue ;;
    --variant | --train-shards | --data-dir | --base-url) [ $# -ge 2 ] || die "$option needs a value" ;;
    *) die "unknown argument '$option'; see --help" ;;
  esac
  case $option in
    --variant) variant=$2 ;;
    --train-shards) train_shards=$2 ;;
    --data-dir) data_dir=$2 ;;
    --base-url) base_url=$2 ;;
  esac
  shift 2
done
base_url=${base_url%/}
[[ $variant =~ ^sp[0-9]+$ ]] || die "--variant $variant: expected sp and a number, such as sp1024"
[[ $train_shards =~ ^[0-9]{1,6}$ ]] || die "--train-shards $train_shards: expected a number of shards"
for tool in curl python3 flock; do
  command -v $tool >/dev/null || die "$tool is missing; scripts/setup.sh installs what is needed"
done

# Gives up on a stalled server after a minute; the next call resumes.
fetch() { # URL FILE [curl option...]
  local progress=(--silent --show-error)
  [ -t 2 ] && progress=(--progress-bar)
  curl --fail --location "${progress[@]}" --connect-timeout 30 --speed-limit 1000 --speed-time 60 --retry 4 \
    --output "$2" "${@:3}" "$1"
}

# Prints whole, short (a truncated shard) or bad, and why.
check_shard() { # SHARD
  local size magic version tokens
  size=$(stat -c %s "$1")
  [ "$size" -ge 12 ] || { echo "short: $size bytes" && return; }
  read -r magic version tokens < <(od --address-radix=n --endian=little --format=d4 --read-bytes=12 "$1")
  if [ "$magic" != 20240520 ] || [ "$version" != 1 ] || [ "$tokens" -le 0 ]; then
    echo "bad: no shard header (magic $magic, version $version, $tokens tokens)"
  elif [ "$size" -lt $((1024 + 2 * tokens)) ]; then
    echo "short: $size bytes, but $tokens tokens need $((1024 + 2 * tokens))"
  elif [ "$size" -gt $((1024 + 2 * tokens)) ]; then
    echo "bad: $size bytes, but $tokens tokens need $((1024 + 2 * tokens))"
  else
    echo whole
  fi
}

get_shard() { # NAME
  local file=$dataset_dir/$1 url=$base_url/datasets/$dataset/$1 verdict status
  if [ -e "$file" ]; then
    verdict=$(check_shard "$file")
    [ "$verdict" != whole ] || { say "$1: already present" && return; }
    say "warning: the existing $1 is $verdict; downloading it again; the old one is kept as $1.bad" >&2
    [ -n "$dry_run" ] || mv "$file" "$file.bad"
  fi
  [ -z "$dry_run" ] || { say "would fetch $url -> $file" && return; }
  status=0
  if [ ! -e "$file.part" ] || [ "$(check_shard "$file.part")" != whole ]; then
    say "$1: fetching$([ -e "$file.part" ] && echo ", from byte $(stat -c %s "$file.part")")"
    fetch "$url" "$file.part" --continue-at - || status=$?
    if [ $status = 33 ]; then
      say "$1: the server cannot resume the download; starting over"
      rm -f "$file.part"
      status=0
      fetch "$url" "$file.part" || status=$?
    fi
    [ -e "$file.part" ] || die "$url could not be fetched (curl exited with status $status; see above)"
  fi
  verdict=$(check_shard "$file.part")
  case $verdict in
    whole) mv "$file.part" "$file" ;;
    short*) die "$1 is incomplete ($verdict; curl exited with status $status); run this again to resume" ;;
    bad*)
      mv "$file.part" "$file.bad"
      die "the download from $url is $verdict; kept as $file.bad"
      ;;
  esac
}

get_tokenizer() { # PATH below the base address
  local file=$data_dir/tokenizers/${1##*/}
  [ ! -s "$file" ] || { say "${1##*/}: already present" && return; }
  [ -z "$dry_run" ] || { say "would fetch $base_url/$1 -> $file" && return; }
  say "${1##*/}: fetching"
  fetch "$base_url/$1" "$file.part" || die "$base_url/$1 could not be fetched (see above)"
  # A SentencePiece model starts with a field of kind 1 (a piece), a web page does not.
  if [ "$(od --address-radix=n --format=x1 --read-bytes=1 "$file.part" | tr -d ' ')" != 0a ]; then
    mv "$file.part" "$file.bad"
    die "the download from $base_url/$1 is not a SentencePiece model; kept as $file.bad"
  fi
  mv "$file.part" "$file"
}

dataset=fineweb10B_$variant
dataset_dir=$data_dir/datasets/$dataset
manifest=$(mktemp)
trap 'rm -f "$manifest"' EXIT
fetch "$base_url/manifest.json" "$manifest" ||
  die "$base_url/manifest.json could not be fetched (see above); use --base-url or FINEWEB_BASE_URL for another address"
counts=$(python3 - "$manifest" "$dataset" <<'PY'
import json, sys

def stop(reason):
    sys.exit("download_fineweb: error: manifest.json: " + reason)

try:
    with open(sys.argv[1], encoding="utf-8") as file:
        manifest = json.load(file)
    datasets = {entry["name"]: entry for entry in manifest["datasets"]}
    tokenizers = {entry["name"]: entry for entry in manifest["tokenizers"]}
    if sys.argv[2] not in datasets:
        stop(f"has no {sys.argv[2]}; it has {', '.join(sorted(datasets))}")
    dataset = datasets[sys.argv[2]]
    print(int(dataset["stats"]["files_train"]), int(dataset["stats"]["files_val"]),
          tokenizers[dataset["tokenizer_name"]]["model_path"])
except (ValueError, KeyError, TypeError) as problem:
    stop(f"not in the expected format ({type(problem).__name__}: {problem})")
PY
) || exit 1
read -r published_train published_val tokenizer_path <<<"$counts"
[ "$train_shards" -le "$published_train" ] || die "--train-shards $train_shards: $dataset has $published_train"

say "$dataset: $published_val validation and $train_shards of $published_train training shards into $dataset_dir"
if [ -z "$dry_run" ]; then
  mkdir -p "$dataset_dir" "$data_dir/tokenizers"
  exec 9>"$dataset_dir/.lock"
  flock --nonblock 9 || die "another download into $dataset_dir is running"
fi
get_tokenizer "$tokenizer_path"
for ((i = 0; i < published_val; i++)); do get_shard "$(printf 'fineweb_val_%06d.bin' "$i")"; done
for ((i = 0; i < 10#$train_shards; i++)); do get_shard "$(printf 'fineweb_train_%06d.bin' "$i")"; done
[ -n "$dry_run" ] ||
  say "complete; options for train_gpt: --data-path $dataset_dir --tokenizer-path $data_dir/tokenizers/${tokenizer_path##*/}"
