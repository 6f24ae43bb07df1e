#!/usr/bin/env bash
# Tests the CUDA code on another machine, which may be available for only a few minutes.
#
#   scripts/gpu_check.sh pack [PACKAGE]     build on this machine (needs nvcc, but no GPU) and collect the programs with
#                                           their libraries, data and scripts in PACKAGE (default build/gpu_check), less
#                                           than 60 MB. The data: the shards in DATA_PATH with TOKENIZER_PATH, or FineWeb if
#                                           it was downloaded, or quickstart's sample; as many tokens as fit
#   PACKAGE/gpu_check.sh libraries TORCH    check that every program finds its libraries, with LibTorch from TORCH (the
#                                           "torch" folder of an installed PyTorch wheel)
#   PACKAGE/gpu_check.sh unpack FOLDER      unpack the programs to FOLDER/bin, and print the LD_LIBRARY_PATH with which they
#                                           run on this machine, which has PyTorch as for run
#   PACKAGE/gpu_check.sh run REPORT [OPTION...]
#                                           run all stages on a machine with a GPU and a Python (PYTHON, default python3)
#                                           with PyTorch 2.11.0+cu130; writes results to the new folder REPORT
#
#   --part 1|2                 1: smoke test, the same by the reference operations, step time, device tests, profile, training,
#                              evaluation, resuming, generation.
#                              2: upstream's train_gpt.py, compiled, timed between two runs of train_gpt; compute-sanitizer.
#                              The parts are independent. Default: both, one after the other
#   --budget SECONDS           time for the whole call (default 390 for part 1, 230 for part 2, 560 for both). Each stage
#                              also has its own limit; one that does not finish within the budget is stopped, or skipped
#                              if too little time is left
#   --upstream TRAIN_GPT_PY    upstream's train_gpt.py to compare with (default PACKAGE/train_gpt.py, if it exists)
#   --seconds N                seconds of training (default 30)
#   --only STAGE,...           run only these stages; an unknown name lists all of them
#
# After every stage REPORT has a summary.txt, which ends in a table, and a report.tar.gz (below 16 MiB, without models) of
# all outputs so far; both stay valid if the run is killed. `PACKAGE/gpu_report.py REPORT...` prints one table of both
# parts. Exit code: 0 if all stages that ran passed, 1 if any failed (their names are printed), 2 for a wrong option.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

package_bytes=60000000
val_tokens=1000000
# Used for the epochs in the message of `pack`.
seconds=30 tokens_per_second=1700000

usage() {
  sed -n '2,/^set/p' "$0" | sed -n 's/^# \{0,1\}//p'
}

# Copies the libraries of the programs in $1/bin to $1/lib, except those of every Linux and of LibTorch.
carry_libraries() {
  local package=$1 name path paths found=1
  local base='^(lib(c|m|dl|rt|pthread|stdc\+\+|gcc_s|gomp|cuda|cudart|torch|torch_cpu|torch_cuda|c10|c10_cuda)|ld-linux-x86-64)\.so'
  mkdir -p "$package/lib"
  paths=$(ldd "$package"/bin/* | awk '$3 ~ /^\// && !seen[$1]++ {print $1, $3}')
  while [ "$found" = 1 ]; do
    found=0
    while read -r name; do
      [ ! -e "$package/lib/$name" ] || continue
      path=$(awk -v name="$name" '$1 == name {print $2}' <<<"$paths")
      [ -n "$path" ] || die "$name is required but was not found"
      cp -L "$path" "$package/lib/$name"
      found=1
    done < <(find "$package/bin" "$package/lib" -type f -exec objdump -p {} + | awk '$1 == "NEEDED" {print $2}' | sort -u |
      grep -vE "$base")
  done
}

# Sets dataset and tokenizer.
find_data() {
  dataset=data/datasets/fineweb10B_sp1024 tokenizer=data/tokenizers/fineweb_1024_bpe.model
  if [ -n "${DATA_PATH:-}${TOKENIZER_PATH:-}" ]; then
    dataset=${DATA_PATH:-$dataset} tokenizer=${TOKENIZER_PATH:-$tokenizer}
  elif [ ! -s "$tokenizer" ] || ! compgen -G "$dataset/fineweb_train_*.bin" >/dev/null; then
    dataset=data/datasets/sample_sp1024 tokenizer=data/tokenizers/sample_1024_bpe.model
  fi
  local advice="set DATA_PATH and TOKENIZER_PATH, or run scripts/download_fineweb.sh or scripts/quickstart.sh first"
  compgen -G "$dataset/fineweb_train_*.bin" >/dev/null || die "no data to pack in $dataset: $advice"
  [ -s "$tokenizer" ] || die "no tokenizer $tokenizer: $advice"
}

pack() {
  [ $# -le 1 ] || wrong "pack takes one folder"
  [ -e "$here/lib.sh" ] || wrong "pack works in the repository, not in a package"
  # Relative paths are relative to the caller's folder.
  local package dataset tokenizer
  package=$(realpath -m "${1:-$here/../build/gpu_check}")
  [ -z "${DATA_PATH:-}" ] || DATA_PATH=$(realpath "$DATA_PATH")
  [ -z "${TOKENIZER_PATH:-}" ] || TOKENIZER_PATH=$(realpath "$TOKENIZER_PATH")
  # shellcheck source=scripts/lib.sh
  source "$here/lib.sh"
  if [ -e "$package" ] && [ ! -e "$package/gpu_check.sh" ] && [ -n "$(ls -A "$package")" ]; then
    die "$package exists, but is not a package made by this script"
  fi
  command -v nvcc >/dev/null || die "no nvcc: building the package needs the CUDA toolkit"
  find_data
  build_release gpu_check_programs
  grep -q libtorch_cuda <<<"$(ldd build/bin/train_gpt)" || die "build/ was built without CUDA; use: cmake -B build -DPGOLF_CUDA=ON"
  rm -rf "$package"
  mkdir -p "$package/programs" "$package/data"
  cp "$here/gpu_check.sh" "$here"/gpu_{run,stages,machine,training,report}.py "$root/benchmarks/time_upstream.py" "$package/"
  "$cmake" --install build --component gpu_check --prefix "$package/programs" --strip >/dev/null
  carry_libraries "$package/programs"
  # Uncompressed they are three times as large, and every megabyte is half a million tokens.
  tar -C "$package/programs" -c bin lib | xz -T0 >"$package/programs.tar.xz"
  rm -r "$package/programs"
  cp "$tokenizer" "$package/data/tokenizer.model"
  local device
  for device in h100 h200; do
    "$deps/bin/python" "$root/benchmarks/step_cost.py" --device-rates "$device" --json "$package/predicted_$device.json" >/dev/null
  done
  # 1 MB is for the headers of the shards and for train_gpt.py.
  local taken train_tokens
  taken=$(find "$package" -type f -printf '%s\n' | awk '{sum += $1} END {print sum + 1000000}')
  train_tokens=$(((package_bytes - taken) / 2 - val_tokens))
  [ "$train_tokens" -gt 0 ] || die "programs and libraries take $taken bytes; $package_bytes leave no room for data"
  "$deps/bin/python" "$here/cut_shards.py" "$dataset" "$package/data" "$train_tokens" "$val_tokens" "$seconds" \
    "$tokens_per_second"
  say "$package: $(du -sm "$package" | cut -f1) MB; try it with: $package/gpu_check.sh libraries TORCH_FOLDER"
}

wrong() {
  printf 'gpu_check: error: %s; see %s --help\n' "$*" "$0" >&2
  exit 2
}

case ${1:-} in
  pack) "$@" ;;
  libraries | unpack | run) exec "${PYTHON:-python3}" "$here/gpu_stages.py" "$@" ;;
  --help | -h) usage ;;
  '') wrong "name a command: pack, libraries, unpack or run" ;;
  *) wrong "unknown command $1" ;;
esac
