#!/usr/bin/env python3
"""The wheel's Python module: which program and which torch a command gets, and what it says without one. scripts/wheel.sh --check
tries a whole wheel."""

import re
import shutil
import sys
import unittest

from sandbox import SCRIPTS, SandboxTest

ROOT = SCRIPTS.parent
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
TORCH = re.search(r'dependencies = \["torch==([0-9.]+)"\]', PYPROJECT)[1]
COMMANDS = dict(re.findall(r'^(\w+) = "train_gpt:(\w+)"$', PYPROJECT, re.MULTILINE))

# What pip writes for a console command.
COMMAND = "import sys; sys.argv[0] = '/env/bin/{0}'; from train_gpt import {0}; sys.exit({0}())"


class WheelTest(SandboxTest):
    def setUp(self):
        super().setUp()
        self.environment.pop("LD_LIBRARY_PATH", None)
        self.site, self.other = self.root / "site", self.root / "other"
        shutil.copytree(ROOT / "python" / "train_gpt", self.site / "train_gpt", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(ROOT / "configs", self.site / "train_gpt" / "configs")
        for program in COMMANDS:
            self.fake(program, 'echo "libraries:$LD_LIBRARY_PATH"\nexit 4', folder=self.site / "train_gpt" / "bin")
        self.install_metadata("0.1.0")

    def install_metadata(self, version):
        for old in self.site.glob("*.dist-info"):
            shutil.rmtree(old)
        folder = self.site / f"train_gpt-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: train_gpt\nVersion: {version}\n"
                                         f"Requires-Dist: torch=={TORCH}\n")

    def install_torch(self, site, version=TORCH):
        (site / "torch" / "lib").mkdir(parents=True)
        (site / "torch" / "__init__.py").write_text("raise SystemExit('imported')")
        (site / "torch" / "version.py").write_text(f"from typing import Optional\n__version__ = '{version}'\ndebug = False\n")

    def python(self, *arguments):
        # -S: the site-packages of the interpreter that runs this test may have a torch.
        self.environment["PYTHONPATH"] = f"{self.site}:{self.other}"
        return self.run_script(sys.executable, "-S", *arguments)

    def command(self, name, *arguments):
        return self.python("-c", COMMAND.format(name), *arguments)

    def refused(self, name="train_gpt"):
        result = self.command(name)
        self.assertEqual((result.returncode, result.stdout), (7, ""))
        self.assertEqual(self.called(name), [])
        lines = result.stderr.splitlines()
        self.assertEqual(len(lines), 2, result.stderr)
        return lines[0]

    def test_every_command_is_its_program(self):
        self.install_torch(self.site)
        self.assertEqual(sorted(COMMANDS), ["eval_gpt", "prepare_data", "sweep_gpt", "train_gpt"])
        for name, function in COMMANDS.items():
            self.assertEqual(function, name)
            result = self.command(name, "--prompt", "two words")
            self.assertEqual((result.returncode, result.stdout, result.stderr), (4, "libraries:\n", ""))
            self.assertEqual(self.called(name), [f"{name} --prompt two words"])

    def test_torch_in_another_folder(self):
        self.install_torch(self.other)
        (self.other / "nvidia" / "cu13" / "lib").mkdir(parents=True)
        expected = f"libraries:{self.other}/torch/lib:{self.other}/nvidia/cu13/lib"
        self.assertEqual(self.command("eval_gpt").stdout, expected + "\n")
        self.environment["LD_LIBRARY_PATH"] = "/mine"
        self.assertEqual(self.command("eval_gpt").stdout, expected + ":/mine\n")

    def test_builds_of_torch(self):
        self.install_torch(self.site, TORCH + "+cpu")
        self.assertEqual(self.command("train_gpt").returncode, 4)
        self.install_metadata("0.1.0+cu130")
        self.assertEqual(self.refused("eval_gpt"), f"error: a CUDA build of torch {TORCH} is needed, but {self.site}/torch is "
                                                   f"{TORCH}+cpu")
        (self.site / "torch" / "lib" / "libtorch_cuda.so").touch()
        self.assertEqual(self.command("eval_gpt").returncode, 4)

    def test_no_torch(self):
        self.assertEqual(self.refused(), f"error: torch {TORCH} is not installed")
        (self.other / "torch").mkdir(parents=True)  # a folder without a package
        self.assertEqual(self.refused(), f"error: torch {TORCH} is not installed")

    def test_another_torch(self):
        self.install_torch(self.other, TORCH)
        self.install_torch(self.site, "2.10.0+cu130")  # beside the package: the one that the programs would load
        self.assertEqual(self.refused(), f"error: torch {TORCH} is needed, but {self.site}/torch is 2.10.0+cu130")
        (self.site / "torch" / "version.py").write_text("")
        self.assertEqual(self.refused(), f"error: torch {TORCH} is needed, but {self.site}/torch is of an unknown version")

    def test_what_is_installed(self):
        self.install_torch(self.other)
        result = self.python("-m", "train_gpt")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertIn(f"torch     {self.other}/torch\n", result.stdout)
        self.assertIn(f"presets   {self.site}/train_gpt/configs\n", result.stdout)
        self.assertEqual(re.findall(r"--config configs/(.*)", result.stdout),
                         sorted(path.name for path in (ROOT / "configs").glob("*.env")))

    def test_one_version_of_torch(self):
        setup = (SCRIPTS / "setup.sh").read_text(encoding="utf-8")
        self.assertIn(f"\ntorch={TORCH}\n", setup)
        self.assertIn(f"find_package(LibTorch {TORCH.rsplit('.', 1)[0]} ", (ROOT / "CMakeLists.txt").read_text(encoding="utf-8"))

    def test_wrong_options(self):
        for arguments in (["--cudda"], ["--check"]):
            result = self.run_script(SCRIPTS / "wheel.sh", *arguments)
            self.assertEqual(result.returncode, 1)
            self.assertEqual(len(result.stderr.splitlines()), 1)


if __name__ == "__main__":
    unittest.main()
