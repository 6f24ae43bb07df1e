#!/usr/bin/env python3
"""Runs a test program at a lower instruction level: at_level.py LEVEL PRINT_CPU_LEVEL PROGRAM [ARG ...]

Exit code 77 (skipped) if the level is not below the current one, set by the processor or PGOLF_CPU_LEVEL.
"""

import os
import subprocess
import sys


LEVELS = ("portable", "avx2", "avx512", "avx512bf16", "amx")


def level_with(print_cpu_level, environment):
    return subprocess.run([print_cpu_level], env=environment, check=True, capture_output=True, text=True).stdout.strip()


def main():
    level, print_cpu_level, *command = sys.argv[1:]
    capped = os.environ | {"PGOLF_CPU_LEVEL": level}
    ours = level_with(print_cpu_level, os.environ)
    if level_with(print_cpu_level, capped) != level or LEVELS.index(ours) <= LEVELS.index(level):
        print(f"the level here is {ours}, not above {level}")
        sys.exit(77)
    sys.exit(subprocess.run(command, env=capped, check=False).returncode)


if __name__ == "__main__":
    main()
