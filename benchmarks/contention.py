#!/usr/bin/env python3
"""Measures how much busy neighbors slow down an optimizer step. A neighbor is a process that spins while bench_step runs.

    benchmarks/contention.py --env OMP_WAIT_POLICY=PASSIVE --vs OLD/bin/bench_step -- --config configs/tiny.env ...

In every round, for each number of neighbors, every variant runs once, in an order that rotates: bench_step, the second
bench_step of --vs, bench_step with all --env settings together, and `eval_gpt score` if --score is given. Ratios are taken
within a round. Options after -- are passed to bench_step as train_gpt's options.
"""

import argparse
import contextlib
import json
import os
import pathlib
import resource
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field

from table_vs_python import processor

ROOT = pathlib.Path(__file__).resolve().parents[1]
BUSY_LOAD = 0.3  # per core
# Its standard input is closed when the program that started it ends, however it ends.
NEIGHBOR = """
import os, signal, sys, threading
signal.signal(signal.SIGINT, signal.SIG_IGN)
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
print("running", flush=True)
while True:
    pass
"""


@dataclass
class Variant:
    name: str
    command: list
    environment: dict = field(default_factory=dict)
    scores: bool = False


@dataclass
class Run:
    ms: float
    update_ms: float | None
    cpu: float


@contextlib.contextmanager
def busy_neighbors(count):
    """They spin while the block runs."""
    with contextlib.ExitStack() as stack:
        command = [sys.executable, "-I", "-S", "-c", NEIGHBOR]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        neighbors = []
        for _ in range(count):
            neighbor = subprocess.Popen(command, **pipes)
            stack.enter_context(neighbor)
            stack.callback(neighbor.kill)
            neighbors.append(neighbor)
        for neighbor in neighbors:
            neighbor.stdout.readline()
        yield neighbors


def run_once(variant):
    return time_score(variant) if variant.scores else bench_step(variant)


def bench_step(variant):
    with tempfile.TemporaryDirectory() as folder:
        samples = pathlib.Path(folder) / "samples.json"
        program, *rest = variant.command
        call([program, "--json", str(samples), *rest], variant.environment)
        result = json.loads(samples.read_text(encoding="utf-8"))
    return Run(result["ms"]["total"]["median"], result["ms"].get("update", {}).get("median"), result["cpu_share"])


def time_score(variant):
    def cpu_seconds():
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)  # the neighbors count when they end
        return usage.ru_utime + usage.ru_stime

    start, cpu_start = time.perf_counter(), cpu_seconds()
    call(variant.command, variant.environment)
    wall = time.perf_counter() - start
    return Run(1000 * wall, None, (cpu_seconds() - cpu_start) / (wall * cores()))


def call(command, environment):
    whole = {**os.environ, **environment}
    result = subprocess.run(command, env=whole, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"{shlex.join(command)} failed: {result.stderr.strip() or f'exit status {result.returncode}'}")


def cores():
    return len(os.sched_getaffinity(0))


def measure(variants, counts, rounds, neighbors=busy_neighbors, run=run_once):
    """{(variant's name, number of neighbors): a Run per round}."""
    runs = {(variant.name, count): [] for variant in variants for count in counts}
    for done in range(rounds):
        offset = done % len(variants)
        for count in counts:
            with neighbors(count):
                for variant in variants[offset:] + variants[:offset]:
                    print(f"round {done + 1} of {rounds}, {count} neighbors: {variant.name}", file=sys.stderr)
                    runs[variant.name, count].append(run(variant))
    return runs


def ratios(runs, others):
    return [mine.ms / other.ms for mine, other in zip(runs, others)]


def row(variant, count, runs, first):
    """Cells of the table. `first` is the variant to compare with."""
    of = runs[variant.name, count]
    updates = [run.update_ms for run in of if run.update_ms is not None]
    vs_quiet = ratios(of, runs.get((variant.name, 0), []))
    vs_first = [] if variant.scores or variant is first else ratios(of, runs[first.name, count])
    return [
        variant.name,
        str(count),
        f"{statistics.median(run.ms for run in of):.1f}",
        f"{max(run.ms for run in of):.1f}",
        f"{statistics.median(updates):.1f}" if updates else "",
        f"{statistics.median(run.cpu for run in of):.2f}",
        f"{statistics.median(vs_quiet):.2f}" if vs_quiet else "",
        f"{max(vs_quiet):.2f}" if vs_quiet else "",
        f"{statistics.median(vs_first):.2f} ({min(vs_first):.2f}-{max(vs_first):.2f})" if vs_first else "",
    ]


def table(variants, counts, runs):
    first = variants[0]
    head = ["variant", "neighbors", "ms", "worst round", "update ms", "CPU", "vs quiet", "worst", f"vs {first.name}"]
    rows = [row(variant, count, runs, first) for variant in variants for count in counts]
    return ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]


def machine(load, core_count):
    lines = [f"{processor()}; {core_count} core(s); load average {load:.2f} before the first neighbor."]
    if load > BUSY_LOAD * core_count:
        lines.append("Warning: the machine was already busy; its times with 0 neighbors are not those of a quiet machine.")
    return lines


def setting(text):
    if "=" not in text[1:]:
        raise argparse.ArgumentTypeError(f"{text} is not NAME=VALUE")
    return text


def counts_of(text):
    counts = [int(count) for count in text.split(",")]
    if min(counts) < 0:
        raise ValueError
    return list(dict.fromkeys(counts))


def parse(arguments):
    at = arguments.index("--") if "--" in arguments else len(arguments)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--neighbors", type=counts_of, default=[0, 1, 2], help="numbers of neighbors (default: 0,1,2)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5, help="measured steps per run (default: 5)")
    parser.add_argument("--warmup", type=int, default=2, help="unmeasured steps before them (default: 2)")
    parser.add_argument("--total-only", action="store_true", help="do not time the parts of a step; takes half the time")
    parser.add_argument("--bench-step", default=str(ROOT / "build/bin/bench_step"))
    parser.add_argument("--vs", metavar="BENCH_STEP", help="a second bench_step, e.g. of an older build")
    parser.add_argument("--env", metavar="NAME=VALUE", type=setting, action="append", default=[],
                        help="environment variable for one more variant of bench_step; may be repeated")
    parser.add_argument("--eval-gpt", default=str(ROOT / "build/bin/eval_gpt"))
    parser.add_argument("--score", metavar="'MODEL OPTION...'", help="also time eval_gpt score as a whole")
    options = parser.parse_args(arguments[:at])
    if options.rounds < 1 or options.steps < 1:
        parser.error("at least one round and one step are needed")
    for program in (options.bench_step, options.vs, options.eval_gpt if options.score else None):
        if program and not os.access(program, os.X_OK):
            parser.error(f"{program} is not a program")
    return options, arguments[at + 1 :]


def variants_of(options, rest):
    counts = ["--steps", str(options.steps), "--warmup", str(options.warmup)]
    rest = counts + ["--total-only"] * options.total_only + ["--", *rest]
    variants = [Variant("bench_step", [options.bench_step, *rest])]
    if options.vs:
        variants.append(Variant(options.vs, [options.vs, *rest]))
    if options.env:
        added = dict(text.split("=", 1) for text in options.env)
        variants.append(Variant(" ".join(options.env), [options.bench_step, *rest], added))
    if options.score:
        command = [options.eval_gpt, "score", *shlex.split(options.score)]
        variants.append(Variant("eval_gpt score", command, scores=True))
    return variants


def main():
    options, rest = parse(sys.argv[1:])
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: sys.exit(128 + number))  # so that every block ends its neighbors
    print("\n".join(machine(os.getloadavg()[0], cores())), end="\n\n", flush=True)
    variants = variants_of(options, rest)
    runs = measure(variants, options.neighbors, options.rounds)
    print("ms: time per step (eval_gpt score: of the whole process), median of the rounds' medians; worst round: the slowest")
    print("one. CPU: CPU time / (wall time x threads), for eval_gpt score (wall time x cores). vs quiet: ratio to the time with")
    print("0 neighbors in the same round, median and worst. vs bench_step: ratio to bench_step's time in the same round with")
    print("the same number of neighbors.")
    print()
    print("\n".join(table(variants, options.neighbors, runs)))


if __name__ == "__main__":
    main()
