#!/usr/bin/env bash
# Sets up, builds and runs every test. Arguments go to ctest: scripts/test.sh -R data
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

# The benchmarks are built, too, so that they keep compiling.
build_release all bench_step bench_ops
say "running the tests"
exec "${cmake%cmake}ctest" --test-dir build --parallel 2 --output-on-failure --no-tests=error "$@"
