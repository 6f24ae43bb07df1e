"""What the tests have in common that look at our programs' files with Python packages which may be missing."""

import importlib
import os
import subprocess
import sys

from programs import parser_of

SKIPPED = 77


def start(doc, *packages):
    """The programs' paths (train_gpt, eval_gpt, prepare_data) and the modules; ends with 77 if one is missing."""
    parser = parser_of(doc, "train_gpt", "eval_gpt", "prepare_data")
    args = parser.parse_args()
    try:
        return args, *map(importlib.import_module, packages)
    except ImportError as missing:
        print(f"skipped: {missing}")
        sys.exit(SKIPPED)


def run(program, *arguments, code=0, **variables):
    """What it wrote to standard error; ends the test if it does not exit with that code."""
    environment = {**os.environ, **{name: str(value) for name, value in variables.items()}}
    done = subprocess.run([str(program), *map(str, arguments)], env=environment, capture_output=True, text=True)
    if done.returncode != code:
        sys.exit(f"{program} {arguments} exits with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stderr
