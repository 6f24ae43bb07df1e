#!/usr/bin/env python3
"""scripts/setup.sh with fakes for apt, dpkg, pip and the loader: what it asks them for, and when."""

import os
import shutil
import unittest

from sandbox import SCRIPTS, SandboxTest

# The fake for Python makes an environment whose own Python notes what pip is told to install.
PYTHON = r"""
case "$*" in
  *" venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
  *sysconfig*) echo "$SITE" ;;
  *"pip install"*)
    for wheel; do
      case $wheel in
        torch==*) mkdir -p "$SITE/torch-${wheel#*==}.dist-info" ;;
        nvidia-nccl-cu13==*) mkdir -p "$SITE/nvidia/nccl/include" && touch "$SITE/nvidia/nccl/include/nccl.h" ;;
        *==*) touch "$SITE/${wheel%%==*}" ;;
      esac
    done ;;
esac
"""
# Each library is lacking until its wheel is there.
LDD = r"""
lacks() { [ -e "$SITE/$1" ] || echo "  $2 => not found"; }
lacks nvidia-cuda-runtime libcudart.so.13
lacks nvidia-cuda-cupti libcupti.so.13
case "$*" in *libtorch_cuda.so*)
  lacks nvidia-cusolver libcusolver.so.12
  [ ! -e "$SITE/nvidia-cusolver" ] || lacks nvidia-nvjitlink libnvJitLink.so.13
  echo "  libcuda.so.1 => not found" ;;
esac
"""


class SetupTest(SandboxTest):
    def setUp(self):
        super().setUp()
        self.copy_scripts()
        for folder in (".", "src", "src/serve", "tests", "benchmarks"):  # whose CMakeLists.txt name the packages
            (self.root / folder).mkdir(parents=True, exist_ok=True)
            shutil.copy(SCRIPTS.parent / folder / "CMakeLists.txt", self.root / folder)
        site = self.root / "site"
        site.mkdir()
        self.environment |= {"PATH": f"{self.fakes}:/usr/bin:/bin", "CUDA_PATH": str(self.root / "no_toolkit"),
                             "PYTHON": "fakepython", "SITE": str(site), "HAVE": str(self.root / "have")}
        for tool in ("ninja", "g++", "pkg-config", "ccache", "xz", "gnuplot", "curl"):
            self.fake(tool)
        self.fake("cmake", "echo cmake version 3.25.1")
        self.fake("fakepython", PYTHON)
        self.fake("ldd", LDD)
        # dpkg-query knows everything that it is asked for as soon as apt-get has installed something
        self.fake("dpkg-query", '[ -e "$HAVE" ] || exit 1\nfor name in "${@:3}"; do echo "installed $name"; done')
        self.fake("apt-get", 'case "$*" in *" install "*) touch "$HAVE" ;; esac')
        self.fake("id", "echo 0")
        self.fake("sudo", "exit 1")

    def setup(self):
        return self.run_script(self.root / "scripts/setup.sh")

    def wheels(self):
        return [word for call in self.called("fakepython -m pip install") for word in call.split() if "==" in word]

    def test_installs_what_is_missing_and_then_nothing(self):
        result = self.setup()
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        (install,) = self.called("apt-get -qq install")
        self.assertIn("--no-install-recommends", install)
        self.assertIn("libsentencepiece-dev", install)
        self.assertIn("libboost-math-dev", install)
        self.assertNotIn("ninja-build", install)  # ninja is on PATH, wherever it came from
        self.assertIn("torch==2.11.0", self.wheels())
        self.calls.unlink()
        result = self.setup()
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertEqual(self.called("apt-get") + self.wheels(), [])

    @unittest.skipIf(os.path.exists("/usr/bin/nvcc"), "the system's own CUDA toolkit cannot be hidden")
    def test_without_a_toolkit_only_what_the_cpu_library_loads(self):
        self.setup()
        self.assertEqual(sorted(wheel.split("==")[0] for wheel in self.wheels()),
                         ["nvidia-cuda-cupti", "nvidia-cuda-runtime", "torch"])

    def test_with_a_toolkit_also_what_the_cuda_libraries_load(self):
        self.fake("nvcc")
        result = self.setup()
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        names = [wheel.split("==")[0] for wheel in self.wheels()]
        self.assertIn("nvidia-cusolver", names)
        self.assertIn("nvidia-nvjitlink", names)  # only lacking once cusolver is there
        self.assertEqual(names.count("nvidia-nccl-cu13"), 1)  # for its header

    def test_old_cmake_gets_a_private_one(self):
        self.fake("cmake", "echo cmake version 3.22.1")
        self.setup()
        self.assertIn("cmake", [wheel.split("==")[0] for wheel in self.wheels()])

    def test_no_root_names_the_packages_and_stops(self):
        self.fake("id", "echo 1000")
        result = self.setup()
        self.assertEqual(result.returncode, 1)
        self.assertIn("apt-get install --no-install-recommends ca-certificates libcxxopts-dev", result.stderr)
        self.assertEqual(self.called("apt-get") + self.wheels(), [])

    def test_user_with_sudo(self):
        self.fake("id", "echo 1000")
        self.fake("sudo", '[ "$1" != -n ] || shift\nexec "$@"')
        result = self.setup()
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertEqual(len(self.called("sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq install")), 1)

    def test_failed_installation_says_what_to_try(self):
        self.fake("apt-get", 'case "$*" in *" install "*) echo no such package >&2; exit 100 ;; esac')
        result = self.setup()
        self.assertEqual(result.returncode, 1)
        self.assertIn("then try: apt-get install", result.stderr)

    def test_unusable_python(self):
        self.fake("fakepython", "exit 1")
        result = self.setup()
        self.assertEqual(result.returncode, 1)
        self.assertIn("Python 3.10", result.stderr)
        self.assertIn("python3-venv", self.called("apt-get -qq install")[0])


if __name__ == "__main__":
    unittest.main()
