#!/usr/bin/env python3
"""Times optimizer steps for several values of one option, in turn, so that changes in the machine's speed affect all alike.

    benchmarks/compare_steps.py ROPE_DIMS full,16,none -- --config configs/tiny.env --data-path ...

Every round runs build/bin/bench_step once per value, in an order that rotates. For each value the table has the median step
time of its runs, and the ratio of its time to that of the first value in the same round (median, smallest and largest of the
rounds). Options after -- are passed to bench_step as train_gpt's options.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]


def main():
    arguments = sys.argv[1:]
    at = arguments.index("--") if "--" in arguments else len(arguments)
    own, rest = arguments[:at], arguments[at + 1:]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("setting", help="a train_gpt option, by the name of its environment variable")
    parser.add_argument("values", help="its values, separated by commas (or by semicolons, if a value contains a comma)")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=10, help="measured steps per run, after 2 warmup steps")
    parser.add_argument("--bench-step", default=ROOT / "build/bin/bench_step")
    options = parser.parse_args(own)
    values = options.values.split(";" if ";" in options.values else ",")
    if len(values) < 2 or options.rounds < 1 or options.steps < 1:
        parser.error("at least two values, one round and one step are needed")

    medians = {value: [] for value in values}
    for done in range(options.rounds):
        offset = done % len(values)
        for value in values[offset:] + values[:offset]:
            medians[value].append(median_step(options, value, rest))
        print(f"\rround {done + 1} of {options.rounds}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    print(f"{options.setting:>16} {'ms/step':>10} {'vs ' + values[0]:>10}  range")
    for value in values:
        ratios = [mine / first for mine, first in zip(medians[value], medians[values[0]])]
        print(f"{value:>16} {statistics.median(medians[value]):10.2f} {statistics.median(ratios):10.3f}  "
              f"{min(ratios):.3f} to {max(ratios):.3f}")


def median_step(options, value, rest):
    with tempfile.TemporaryDirectory() as folder:
        samples = pathlib.Path(folder) / "samples.json"
        command = [str(options.bench_step), "--total-only", "--steps", str(options.steps), "--json", str(samples), "--", *rest]
        result = subprocess.run(command, env={**os.environ, options.setting: value}, capture_output=True, text=True)
        if result.returncode != 0:
            sys.exit(f"{options.setting}={value}: bench_step failed: {result.stderr.strip()}")
        return json.loads(samples.read_text())["ms"]["total"]["median"]


if __name__ == "__main__":
    main()
