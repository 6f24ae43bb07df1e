#!/usr/bin/env bash
# Sets up, builds and runs every test. Arguments go to ctest: scripts/test.sh -R data
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

# The benchmarks are built, too, so that they keep compiling.
build_release all bench_step bench_ops

# Without them some tests are skipped.
packages=tests/requirements.txt
if ! cmp -s "$packages" "$deps/tests.txt"; then
  say "installing the Python packages in $packages"
  if "$deps/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$packages"; then
    cp "$packages" "$deps/tests.txt"
  else
    say "warning: could not install them; tests that open our files in Python are skipped"
  fi
fi

say "running the tests"
exec "${cmake%cmake}ctest" --test-dir build --parallel 2 --output-on-failure --no-tests=error "$@"
