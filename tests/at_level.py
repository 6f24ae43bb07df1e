#!/usr/bin/env python3
"""Runs a test program at a lower instruction set level: at_level.py LEVEL PRINT_CPU_LEVEL PROGRAM [ARG ...]

PRINT_CPU_LEVEL is a program that prints the current level, which the processor or the variable PGOLF_CPU_LEVEL sets. Exits with
77 (skipped) unless LEVEL is below it.
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
    if LEVELS.index(ours) <= LEVELS.index(level):
        print(f"skipped: the level here is {ours}, not above {level}")
        sys.exit(77)
    if level_with(print_cpu_level, capped) != level:
        sys.exit(f"PGOLF_CPU_LEVEL={level} has no effect: the level stays {ours}")
    sys.exit(subprocess.run(command, env=capped, check=False).returncode)


if __name__ == "__main__":
    main()
