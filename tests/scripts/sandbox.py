"""A temporary folder with a copy of scripts/, and fakes for programs that the scripts call."""

import os
import pathlib
import shutil
import subprocess
import tempfile
import time
import unittest

SCRIPTS = pathlib.Path(__file__).resolve().parents[2] / "scripts"


def alive(pid):
    """True also for a process that has ended but has not been waited for."""
    try:
        os.kill(pid, 0)
        return True
    except ProcessLookupError:
        return False


def wait_until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("waited for too long")
        time.sleep(0.02)


class SandboxTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="pgolf_scripts_")
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)
        self.fakes = self.root / "fakes"
        self.calls = self.root / "calls"  # one line per call of a fake
        self.environment = {"PATH": f"{self.fakes}:{os.environ['PATH']}", "HOME": str(self.root), "LC_ALL": "C.UTF-8"}

    def copy_scripts(self):
        shutil.copytree(SCRIPTS, self.root / "scripts")

    def fake(self, name, body="", folder=None):
        """Puts a fake first on PATH (or into `folder`): it notes its call and then does `body`."""
        program = (folder or self.fakes) / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(f'#!/bin/bash\nprintf "%s\\n" "{name} $*" >>{self.calls}\n{body}\n')
        program.chmod(0o755)

    def called(self, beginning):
        lines = self.calls.read_text().splitlines() if self.calls.exists() else []
        return [line for line in lines if line.startswith(beginning)]

    def run_script(self, script, *arguments):
        return subprocess.run([str(script), *arguments], env=self.environment, cwd=self.root, text=True, timeout=120,
                              stdin=subprocess.DEVNULL, capture_output=True)
