#!/usr/bin/env bash
# Installs what the build needs: system packages with apt, and LibTorch from its PyPI wheel into build/deps.
# Can be run repeatedly; what is already installed is left alone.
#
# PYTHON=... picks the interpreter for build/deps (default: the first suitable one on PATH).
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

torch=2.11.0
cmake_wheel=3.31.10 # for systems whose own CMake is older than cmake_needed
cmake_needed=3.25

install_packages() {
  # command:package, for tools that may be installed by other means
  local tools=(cmake:cmake ninja:ninja-build g++:g++ pkg-config:pkg-config ccache:ccache python3:python3 xz:xz-utils
    gnuplot:gnuplot-nox curl:curl)
  local packages=(ca-certificates)
  # Those of libraries are named where CMake looks for the libraries.
  mapfile -t -O 1 packages < <(sed -n 's/.*# apt: //p' {.,src,src/serve,tests,benchmarks}/CMakeLists.txt)
  find_missing "${tools[@]}" -- "${packages[@]}"
  # Debian packages the module for pip in virtual environments separately.
  find_python >/dev/null || missing+=(python3-venv)
  [ ${#missing[@]} -gt 0 ] || return 0

  local by_hand="apt-get install --no-install-recommends ${missing[*]}"
  command -v apt-get >/dev/null || die "this system has no apt-get; install the equivalents of: ${missing[*]}"
  as_root true || die "packages are missing and this user cannot install them; run as root: $by_hand"
  say "installing packages: ${missing[*]}"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq update || say "warning: could not refresh every package list"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${missing[@]}" >/dev/null ||
    die "apt-get failed; see above, then try: $by_hand"
  find_missing "${tools[@]}" -- "${packages[@]}"
  [ ${#missing[@]} -eq 0 ] || die "still missing after the installation: ${missing[*]}"
}

# find_missing COMMAND:PACKAGE... -- PACKAGE...   sets missing=(PACKAGE...)
find_missing() {
  missing=()
  while [ "$1" != -- ]; do
    command -v "${1%%:*}" >/dev/null || missing+=("${1##*:}")
    shift
  done
  shift
  local installed package
  installed=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' "$@" 2>/dev/null || true)
  for package; do
    grep -qx "installed $package" <<<"$installed" || missing+=("$package")
  done
}

# A 64-bit CPython for which there is a LibTorch wheel, able to make a virtual environment with pip.
find_python() {
  local candidate candidates=(python3 python3.14 python3.13 python3.12 python3.11 python3.10)
  [ -z "${PYTHON-}" ] || candidates=("$PYTHON")
  for candidate in "${candidates[@]}"; do
    if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(not ((3, 10) <= sys.version_info[:2] <= (3, 14)))' 2>/dev/null; then
      command -v "$candidate"
      return 0
    fi
  done
  return 1
}

make_environment() {
  if [ ! -x "$deps/bin/python" ]; then
    local python
    python=$(find_python) || die "no usable Python 3.10 to 3.14 with the venv module; set PYTHON=..."
    say "creating build/deps with $("$python" --version)"
    "$python" -m venv "$deps"
  fi
  site=$("$deps/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))') ||
    die "build/deps/bin/python does not run (was its Python removed?); delete build/deps and run this again"
}

# Exactly these wheels, without dependencies. Index and mirrors come from pip's configuration.
install_wheels() {
  say "installing $*"
  "$deps/bin/python" -m pip --version >/dev/null 2>&1 || "$deps/bin/python" -m ensurepip >/dev/null
  "$deps/bin/python" -m pip install --quiet --no-deps --only-binary=:all: --no-cache-dir --disable-pip-version-check "$@" ||
    die "pip could not install $*; see above. To use a mirror, set PIP_INDEX_URL or edit pip.conf"
}

install_cmake() {
  find_cmake
  local have
  have=$("$cmake" --version | awk 'NR == 1 {print $3}')
  if [ "$(printf '%s\n' "$cmake_needed" "$have" | sort -V | head -n 1)" != "$cmake_needed" ]; then
    say "the system's CMake is $have, but $cmake_needed or newer is needed"
    install_wheels "cmake==$cmake_wheel"
  fi
}

# The wheel that has a library, in the version that this LibTorch was built with.
wheel_of() {
  case $1 in
    libcudart.so.*) echo nvidia-cuda-runtime==13.0.96 ;;
    libcupti.so.*) echo nvidia-cuda-cupti==13.0.85 ;;
    libcublas*.so.*) echo nvidia-cublas==13.1.0.3 ;;
    libcudnn*.so.*) echo nvidia-cudnn-cu13==9.19.0.56 ;;
    libcufft*.so.*) echo nvidia-cufft==12.0.0.61 ;;
    libcufile*.so.*) echo nvidia-cufile==1.15.1.6 ;;
    libcurand.so.*) echo nvidia-curand==10.4.0.35 ;;
    libcusolver*.so.*) echo nvidia-cusolver==12.0.4.66 ;;
    libcusparse.so.*) echo nvidia-cusparse==12.6.3.3 ;;
    libcusparseLt.so.*) echo nvidia-cusparselt-cu13==0.8.0 ;;
    libnccl.so.*) echo nvidia-nccl-cu13==2.28.9 ;;
    libnvJitLink.so.*) echo nvidia-nvjitlink==13.0.88 ;;
    libnvrtc*.so.*) echo nvidia-cuda-nvrtc==13.0.88 ;;
    libnvshmem*.so.*) echo nvidia-nvshmem-cu13==3.4.5 ;;
    *) die "LibTorch needs $1, but no wheel is known to provide it" ;;
  esac
}

have_toolkit() { command -v nvcc >/dev/null || [ -x "${CUDA_PATH:-/usr/local/cuda}/bin/nvcc" ]; }

have_nccl_header() {
  [ -e "$site/nvidia/nccl/include/nccl.h" ] || [ -e "${CUDA_PATH:-/usr/local/cuda}/include/nccl.h" ] || [ -e /usr/include/nccl.h ]
}

# Libraries that the loader does not find. Without the CUDA toolkit the build is for the CPU and loads libtorch_cpu only.
lacking_libraries() {
  local libraries=("$site/torch/lib/libtorch_cpu.so") lacking
  if have_toolkit; then
    libraries+=("$site"/torch/lib/{libtorch_cuda,libtorch_cuda_linalg,libcaffe2_nvrtc}.so)
    outdated_libraries
    have_nccl_header || echo libnccl.so.2 # its wheel has the header, too
  fi
  lacking=$(ldd "${libraries[@]}" | awk '/not found/ {print $1}')
  grep -v '^libcuda\.so' <<<"$lacking" || true # comes with the driver
}

# Libraries that the system has in too old a version.
outdated_libraries() {
  "$deps/bin/python" - "$site/nvidia" <<'PY'
import ctypes, os, sys

def version(folder, name, function):
    private = os.path.join(sys.argv[1], folder, "lib", name)
    try:
        library = ctypes.CDLL(private if os.path.exists(private) else name)
    except OSError:
        return None  # missing: already in the loader's list
    if name.startswith("libnccl"):
        result = ctypes.c_int()
        library[function](ctypes.byref(result))
        return result.value
    library[function].restype = ctypes.c_size_t
    return library[function]()

for folder, name, function, oldest in (
        ("cudnn", "libcudnn.so.9", "cudnnGetVersion", 91900),
        ("nccl", "libnccl.so.2", "ncclGetVersion", 22809),
        ("cu13", "libcublasLt.so.13", "cublasLtGetVersion", 130100)):
    found = version(folder, name, function)
    if found is not None and found < oldest:
        print(name)
PY
}

install_libtorch() {
  [ "$(uname -m)" = x86_64 ] || die "LibTorch $torch is supported on x86_64 only; this is $(uname -m)"
  [ -d "$site/torch-$torch.dist-info" ] || install_wheels "torch==$torch"
  local lacking library wheels round
  for round in 1 2 3; do # an installed library may need further ones
    lacking=$(lacking_libraries)
    [ -n "$lacking" ] || return 0
    wheels=$(for library in $lacking; do wheel_of "$library"; done | sort -u)
    # shellcheck disable=SC2086  # one word per wheel
    install_wheels $wheels
  done
  lacking=$(lacking_libraries)
  [ -z "$lacking" ] || die "libraries are still missing after $round rounds of installation: ${lacking//$'\n'/ }"
}

install_packages
make_environment
install_cmake
install_libtorch
say "ready: LibTorch $torch in build/deps$(have_toolkit && echo ', with its CUDA libraries (a CUDA toolkit is installed)')"
