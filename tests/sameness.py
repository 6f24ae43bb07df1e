#!/usr/bin/env python3
"""Checks that a run gives the same bits every time, and says which numbers of threads give the same.

At each instruction set level up to the processor's, in float32 and bfloat16, with each number of threads, small models are trained
and scored several times. Final weights, artifact, every loss, and the scores must be the same each time. Whether they are also the
same for all numbers of threads is printed as a table.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from at_level import LEVELS, level_with
from programs import parser_of
from resume_kill import metrics
from sweep_testing import Sweep

# Of a small model several micro-batches are computed at a time, of a wide one each by all threads. serial: the small one with
# micro-batches that do not depend on the number of threads.
SMALL = ["--num-layers", "2", "--model-dim", "64", "--train-seq-len", "64", "--train-batch-tokens", "4096"]
SHAPES = {
    "small": SMALL,
    "serial": [*SMALL, "--parallel-passes", "1", "--micro-batch-tokens", "1024"],
    "wide": ["--num-layers", "2", "--model-dim", "512", "--num-heads", "8", "--num-kv-heads", "4", "--train-seq-len", "256",
             "--train-batch-tokens", "2048"],
}  # fmt: skip


def replaced(flags, changes):
    """The flags with other values."""
    table = dict(zip(flags[::2], flags[1::2])) | dict(zip(changes[::2], changes[1::2]))
    return [text for flag in table.items() for text in flag]


def digest(sweep, shape, level, dtype, threads, repeat):
    """A hash of all that a training run and a score of its model give."""
    args, environment = sweep.args, sweep.environment | {"PGOLF_CPU_LEVEL": level}
    run_id = f"{shape}-{level}-{dtype}-{threads}-{repeat}"
    flags = replaced(sweep.fixed, [*SHAPES[shape], "--val-batch-size", "4096", "--eval-tokens", "4096", "--save-every", "0",
                                   "--num-threads", str(threads), "--dtype", dtype])  # fmt: skip
    folder = sweep.work / run_id
    train = [args.train_gpt, *flags, "--iterations", args.steps, "--out-dir", sweep.work, "--run-id", run_id]
    score = [args.eval_gpt, "score", folder / "final_model.pt", "--data-path", sweep.work / "shards", "--tokenizer-path",
             sweep.work / "tokenizer.model", "--eval-tokens", "4096", "--dtype", dtype, "--num-threads", threads, "--format", "jsonl",
             "--output", folder / "score.jsonl"]  # fmt: skip
    for command in (train, score):
        done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{run_id}: {command[0]} failed:\n{done.stdout}{done.stderr}")
    scored = json.loads((folder / "score.jsonl").read_text())
    del scored["checkpoint"], scored["seconds"]
    whole = hashlib.sha256(repr((metrics(folder / "metrics.jsonl"), scored)).encode())
    for name in ("final_model.pt", "final_model.int8.ptz"):
        whole.update((folder / name).read_bytes())
    return whole.hexdigest()[:8]


def main():
    parser = parser_of(__doc__, "train_gpt", "eval_gpt", "prepare_data", "print_cpu_level")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2, 4])
    parser.add_argument("--level", action="append", choices=LEVELS, help="default: all that this processor has")
    parser.add_argument("--shape", action="append", choices=SHAPES, help="default: all")
    args = parser.parse_args()
    args.sweep_gpt = None
    own = LEVELS.index(level_with(args.print_cpu_level, os.environ))
    problems = []
    print("| level | dtype | model | each number of threads, every time | " + ", ".join(map(str, args.threads)) + " threads |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="sameness_") as name:
        sweep = Sweep(args, Path(name).resolve())
        for level in args.level or LEVELS[: own + 1]:
            for dtype in ("float32", "bfloat16"):
                for shape in args.shape or SHAPES:
                    found = [[digest(sweep, shape, level, dtype, threads, repeat) for repeat in range(args.repeats)]
                             for threads in args.threads]  # fmt: skip
                    changing = [threads for threads, digests in zip(args.threads, found) if len(set(digests)) > 1]
                    names = {first: f"{'ABCDEFGH'[i]}" for i, first in enumerate(dict.fromkeys(digests[0] for digests in found))}
                    among = "same bits" if len(names) == 1 else "differ: " + " ".join(names[digests[0]] for digests in found)
                    said = f"differ with {changing}" if changing else "same bits"
                    print(f"| `{level}` | {dtype} | {shape} | {said} | {among} |", flush=True)
                    if changing:
                        problems.append(f"{level}, {dtype}, {shape}: other bits each time with {changing} threads: {found}")
    for problem in problems:
        print("FAILED:", problem)
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
