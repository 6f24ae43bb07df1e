# Shared by the scripts in this folder, which `source` it. Changes to the repository's root.
# shellcheck shell=bash
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
deps=$root/build/deps # private Python environment: LibTorch and, where needed, CMake and CUDA libraries
cd "$root"

say() { printf '%s: %s\n' "$(basename "$0" .sh)" "$*"; }
die() {
  say "error: $*" >&2
  exit 1
}

# Runs a command as root; fails without running it if root is not available.
as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
    sudo "$@"
  else
    return 1
  fi
}

# The system's CMake, or the one installed by setup.sh if that is too old.
find_cmake() {
  cmake=cmake
  [ ! -x "$deps/bin/cmake" ] || cmake=$deps/bin/cmake
}

# How many files to compile at a time. One that includes LibTorch takes up to 2 GB.
compile_jobs() {
  local cores memory jobs
  cores=$(nproc)
  memory=$(awk '/^MemAvailable/ {print int($2 / 2000000)}' /proc/meminfo)
  jobs=$((memory < cores ? memory : cores))
  echo $((jobs < 1 ? 1 : jobs))
}

# Set-up, configuration and release build of the given targets.
build_release() {
  "$root/scripts/setup.sh"
  find_cmake
  local jobs
  jobs=$(compile_jobs)
  say "building (release, $jobs jobs at a time) into build/"
  "$cmake" --preset release --log-level=WARNING >/dev/null
  "$cmake" --build build --parallel "$jobs" --target "$@"
}
