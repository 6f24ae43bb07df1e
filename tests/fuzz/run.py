#!/usr/bin/env python3
"""Runs libFuzzer on every target and counts the inputs.

  cmake --preset fuzz && cmake --build --preset fuzz
  tests/fuzz/run.py --seconds 3600 --jobs 2

Inputs that reach something new are kept in --corpus and are the start of the next run; its counts.csv has a line per run and
target, and the second count printed is the sum over them. An input that is a fault (a crash, a sanitizer's report, an exception
that is no refusal, more than 10 s or 2 GiB) ends its target and is kept in the folder's `faults`; the exit code is then 1.
"""

import argparse
import collections
import concurrent.futures
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Readers this quick spend most of the time in libFuzzer's default choice of what to change next, hence -entropic=0.
LIMITS = ["-timeout=10", "-entropic=0", "-rss_limit_mb=2048", "-max_len=65536", "-print_final_stats=1", "-close_fd_mask=2"]


def targets_of(program):
    listed = subprocess.run([program], env={**os.environ, "PGOLF_FUZZ_TARGET": ""}, capture_output=True, text=True).stderr
    return listed.split("one of:")[1].split()


def fuzz(program, target, corpus, seconds):
    """(inputs, faults) of one target."""
    own, faults = corpus / target, corpus / "faults"
    own.mkdir(parents=True, exist_ok=True)
    faults.mkdir(exist_ok=True)
    environment = {**os.environ, "PGOLF_FUZZ_TARGET": target}
    if not any(own.iterdir()):
        subprocess.run([program], env={**environment, "PGOLF_FUZZ_SEEDS": str(own)}, check=True, capture_output=True)
    prefix = f"-artifact_prefix={faults}/{target}-"
    done = subprocess.run([program, own, *LIMITS, prefix, f"-max_total_time={seconds}"], env=environment, capture_output=True,
                          text=True, errors="replace")  # fmt: skip
    found = re.search(r"stat::number_of_executed_units:\s*(\d+)", done.stderr)
    if done.returncode != 0:
        print(f"--- {target}: exit code {done.returncode}\n{done.stderr[-6000:]}", file=sys.stderr)
    return int(found.group(1)) if found else 0, done.returncode != 0


def add_up(corpus, results):
    """Inputs by target over all runs with this corpus, these included."""
    counts = corpus / "counts.csv"
    with open(counts, "a", encoding="utf-8") as file:
        file.writelines(f"{target},{inputs},{int(fault)}\n" for target, (inputs, fault) in results.items())
    totals = collections.Counter()
    for line in counts.read_text(encoding="utf-8").splitlines():
        target, inputs, _ = line.split(",")
        totals[target] += int(inputs)
    return totals


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=Path, default=ROOT / "build/fuzz/bin/fuzz")
    parser.add_argument("--corpus", type=Path, default=ROOT / "build/fuzz/corpus")
    parser.add_argument("--target", action="append", help="default: all")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--jobs", type=int, default=1, help="targets at a time")
    args = parser.parse_args()
    targets = args.target or targets_of(args.program)
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        results = pool.map(lambda target: fuzz(args.program, target, args.corpus, args.seconds), targets)
        results = dict(zip(targets, results))
    totals = add_up(args.corpus, results)
    print(f"{'target':20}{'inputs':>14}{'of all runs':>14}")
    for target, (inputs, fault) in results.items():
        print(f"{target:20}{inputs:14,}{totals[target]:14,}{'  FAULT' if fault else ''}")
    print(f"{'all':20}{sum(inputs for inputs, _ in results.values()):14,}{totals.total():14,}")
    sys.exit(any(fault for _, fault in results.values()))


if __name__ == "__main__":
    main()
