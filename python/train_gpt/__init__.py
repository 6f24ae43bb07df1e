"""The console commands of the wheel: each becomes the program of its name in bin/, which loads LibTorch from the installed torch."""

import functools
import importlib.metadata
import importlib.util
import os
import pathlib
import re
import sys

PACKAGE = pathlib.Path(__file__).resolve().parent
UNAVAILABLE = 7  # docs/exit-codes.md


def find_torch():
    """The folder of torch, without importing it: the one beside this package, where the programs themselves look, or else the
    one that Python would import. None if there is neither."""
    beside = PACKAGE.parent / "torch"
    if (beside / "version.py").is_file():
        return beside
    spec = importlib.util.find_spec("torch")
    folder = pathlib.Path(spec.origin).parent if spec and spec.origin else None
    return folder if folder and (folder / "version.py").is_file() else None


def needed_torch():
    (version,) = (line.split("==")[1] for line in importlib.metadata.requires("train_gpt") if line.startswith("torch=="))
    return version


def complaint(torch):
    """What is wrong with this torch, or None. It must be the version that the programs were built with: they share C++ classes."""
    needed = needed_torch()
    if torch is None:
        return f"torch {needed} is not installed"
    found = re.search(r"^__version__ *= *['\"](([^'\"+]+)[^'\"]*)", (torch / "version.py").read_text(), re.MULTILINE)
    if not found or found[2] != needed:
        return f"torch {needed} is needed, but {torch} is {found[1] if found else 'of an unknown version'}"
    if "+cu" in importlib.metadata.version("train_gpt") and not (torch / "lib/libtorch_cuda.so").exists():
        return f"a CUDA build of torch {needed} is needed, but {torch} is {found[1]}"
    return None


def run(name):
    torch = find_torch()
    problem = complaint(torch)
    if problem:
        print(f"error: {problem}\n  pip install --force-reinstall torch=={needed_torch()}", file=sys.stderr)
        sys.exit(UNAVAILABLE)
    environment = dict(os.environ)
    if torch != PACKAGE.parent / "torch":
        folders = [str(torch / "lib"), *sorted(map(str, (torch.parent / "nvidia").glob("*/lib")))]
        environment["LD_LIBRARY_PATH"] = ":".join(folders + list(filter(None, [environment.get("LD_LIBRARY_PATH")])))
    program = str(PACKAGE / "bin" / name)
    os.execve(program, [name, *sys.argv[1:]], environment)


train_gpt, eval_gpt, sweep_gpt, prepare_data = (
    functools.partial(run, name) for name in ("train_gpt", "eval_gpt", "sweep_gpt", "prepare_data"))
