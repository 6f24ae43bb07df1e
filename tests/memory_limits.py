#!/usr/bin/env python3
"""Runs every program with less and less address space (RLIMIT_AS).

Each must end well, or with one error line and the exit code for a lack of memory (or of what needs it: threads, mappings, files that
cannot be written); never by a signal, an abort, a hang or with the text of an exception. Below some limit the system cannot even load
the program's libraries and says so with exit code 127.
"""

import collections
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from programs import parser_of
from sweep_testing import Sweep

MIB = 1 << 20
ALLOWED = (6, 7)  # reading or writing failed; not enough memory
RAW = ("bad_alloc", "terminate called", "length_error", "Traceback", "core dumped", "Aborted", "this is a bug")


def commands(sweep):
    """(name, command)"""
    args, model = sweep.args, sweep.work / "model/final_model.pt"
    train = [args.train_gpt, *sweep.fixed, "--iterations", "4", "--out-dir", sweep.work]
    done = subprocess.run(list(map(str, [*train, "--run-id", "model"])), env=sweep.environment, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"train_gpt failed:\n{done.stdout}{done.stderr}")
    data = ["--data-path", sweep.work / "shards", "--tokenizer-path", sweep.work / "tokenizer.model"]
    yield "train_gpt", train
    yield "eval_gpt score", [args.eval_gpt, "score", model, *data, "--eval-tokens", "2048", "--num-threads", "1"]
    yield "eval_gpt generate", [args.eval_gpt, "generate", model, *data[2:], "--prompt", "the", "--max-new-tokens", "8", "--num-threads", "1"]
    yield "eval_gpt export", [args.eval_gpt, "export", model, "--overwrite", "--output", sweep.work / "m.safetensors"]
    yield "prepare_data tokenizer", [args.prepare_data, "tokenizer", "--input", sweep.work / "text.jsonl", "--vocab-size", "320",
                                     "--output", sweep.work / "t.model"]  # fmt: skip
    yield "prepare_data tokenize", [args.prepare_data, "tokenize", "--input", sweep.work / "text.jsonl", *data[2:], "--force",
                                    "--out-dir", sweep.work / "again", "--val-docs", "20"]  # fmt: skip
    yield "prepare_data verify", [args.prepare_data, "verify", sweep.work / "shards", *data[2:]]
    yield "sweep_gpt", [args.sweep_gpt, "--list", "--rope-dims", "none,4", "--train-gpt", args.train_gpt, "--measure", "off",
                        "--out-dir", sweep.work / "sweep", "--", *sweep.fixed]  # fmt: skip


def run(command, environment, limit):
    def set_limit():
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    done = subprocess.run(list(map(str, command)), env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          errors="replace", timeout=300, preexec_fn=set_limit)  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def problem_of(code, output):
    """None if the program may end like this."""
    if code == 0 or (code == 127 and "error while loading shared libraries" in output):
        return None
    if code not in ALLOWED:
        return f"exit code {code}"
    if sum(line.startswith("error: ") for line in output.splitlines()) != 1:
        return "not one error line"
    return next((f'"{text}" in the output' for text in RAW if text in output), None)


def least(enough, holds):
    """The least limit, to about a MiB, at which holds(limit) begins to be true; it is for `enough`."""
    below = 0
    while enough - below > MIB:
        middle = (below + enough) // 2
        below, enough = (below, middle) if holds(middle) else (middle, enough)
    return enough


def check(name, command, environment, count):
    """Problems with so many limits, from that at which the program can be loaded to that at which it ends well."""
    enough = 64 * MIB
    while run(command, environment, enough)[0] != 0:
        enough *= 2
        if enough > 1 << 40:
            sys.exit(f"{name} fails with any limit:\n{run(command, environment, enough)[1]}")
    enough = least(enough, lambda limit: run(command, environment, limit)[0] == 0)
    loads = least(enough, lambda limit: run(command, environment, limit)[0] != 127)
    problems, outcomes = [], collections.Counter()
    for number in range(count):
        limit = loads + (enough - loads) * number // count
        code, output = run(command, environment, limit)
        outcomes[code] += 1
        problem = problem_of(code, output)
        if problem:
            problems.append(f"{name}, {limit / MIB:.2f} MiB: {problem}\n{output[-1500:]}")
    said = ", ".join(f"{code}: {times}" for code, times in sorted(outcomes.items()))
    print(f"{name}: {count} limits from {loads // MIB} to {enough // MIB} MiB; exit codes {said}; {len(problems)} problems", flush=True)
    return problems


def main():
    parser = parser_of(__doc__, "train_gpt", "eval_gpt", "sweep_gpt", "prepare_data")
    parser.add_argument("--limits", type=int, default=200, help="for each program")
    args = parser.parse_args()
    problems = []
    with tempfile.TemporaryDirectory(prefix="memory_") as name:
        sweep = Sweep(args, Path(name).resolve())
        for what, command in commands(sweep):
            problems += check(what, command, sweep.environment, args.limits)
    for problem in problems:
        print("FAILED:", problem)
    print("ok" if not problems else f"{len(problems)} problems")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
