"""The programs under test, as options of the scripts beside this file."""

import argparse
from pathlib import Path

BUILT = Path(__file__).resolve().parents[1] / "build/bin"


def parser_of(doc, *programs):
    """A parser with an option for each program's path (train_gpt: --train-gpt)."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    for program in programs:
        parser.add_argument("--" + program.replace("_", "-"), type=Path, default=BUILT / program, help="default: build/bin's")
    return parser
