#!/usr/bin/env python3
"""Kills programs at random moments, as often as you like, and resumes them.

train_gpt, sweep_gpt, and prepare_data's tokenize and tokenizer do a small piece of work undisturbed. Then they do it again and
again, and get SIGKILL after a random part of the time that it takes; the same command goes on where it can. Whenever one of them
ends by itself its files must be those of the undisturbed work, byte for byte, with nothing else beside them, and after every kill
each file must be whole or absent. Where resume_kill.py and sweep_kill.py choose the moments, here all are equally likely.

With --memory-cgroup it is the kernel that kills, for lack of memory: the work runs in a cgroup below the one given (whose memory
controller this script must be allowed to use), with limits up to what it takes undisturbed.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from programs import parser_of
from resume_kill import RUN_ID, compare
from sweep_kill import compare_tables, running_in
from sweep_testing import Sweep

SHARES = {"train_gpt": 0.5, "sweep_gpt": 0.2, "prepare_data tokenize": 0.2, "prepare_data tokenizer": 0.1}
DEADLINE_S = 600  # for one process; more means a hang


class TrainGpt:
    name = "train_gpt"

    def __init__(self, sweep):
        self.program = [str(sweep.args.train_gpt), *sweep.fixed, "--iterations", "12", "--run-id", RUN_ID, "--resume", "auto"]

    def command(self, folder):
        return [*self.program, "--out-dir", folder]

    def after_kill(self, calm, folder):
        return []

    def compare(self, calm, folder):
        return compare(calm / RUN_ID, folder / RUN_ID)


class SweepGpt:
    name = "sweep_gpt"

    def __init__(self, sweep):
        args = sweep.args
        self.program = [args.sweep_gpt, "--rope-dims", "none,4", "--train-gpt", args.train_gpt, "--measure", "off"]
        self.fixed = [*sweep.fixed, "--iterations", "8"]

    def command(self, folder):
        return [*self.program, "--out-dir", folder, "--", *self.fixed]

    def after_kill(self, calm, folder):
        give_up = time.monotonic() + 10
        while running_in(folder):
            if time.monotonic() > give_up:
                return [f"train_gpt outlived its killed sweep: {running_in(folder)}"]
            time.sleep(0.01)
        return []

    def compare(self, calm, folder):
        return compare_tables(calm, folder, 2)


class PrepareData:
    """Work that is done anew after a kill. Its files appear whole."""

    def after_kill(self, calm, folder):
        return [f"{path.name} is not whole" for path in self.files(folder) if path.read_bytes() != (calm / path.name).read_bytes()]

    def compare(self, calm, folder):
        names = [sorted(path.name for path in each.iterdir()) for each in (calm, folder)] if folder.exists() else [1, 2]
        return self.after_kill(calm, folder) if names[0] == names[1] else [f"files: {names[0]} and {names[1]}"]


class Tokenize(PrepareData):
    name = "prepare_data tokenize"

    def __init__(self, sweep):
        text = sweep.work / "long.jsonl"
        text.write_bytes(20 * (sweep.work / "text.jsonl").read_bytes())
        self.program = [sweep.args.prepare_data, "tokenize", "--input", text, "--tokenizer-path", sweep.work / "tokenizer.model",
                        "--val-docs", "20", "--shard-tokens", "50000", "--threads", "1", "--force"]  # fmt: skip

    def command(self, folder):
        return [*self.program, "--out-dir", folder]

    def files(self, folder):
        return list(folder.glob("*.bin"))


class TrainTokenizer(PrepareData):
    name = "prepare_data tokenizer"

    def __init__(self, sweep):
        self.program = [sweep.args.prepare_data, "tokenizer", "--input", sweep.work / "text.jsonl", "--vocab-size", "320"]

    def command(self, folder):
        return [*self.program, "--output", folder / "t.model"]

    def files(self, folder):
        return [path for path in (folder / "t.model", folder / "t.vocab") if path.exists()]


class Cgroup:
    """A cgroup of version 1 or 2 for one process, with a limit in bytes or none."""

    def __init__(self, parent, limit=None):
        self.folder = Path(tempfile.mkdtemp(prefix="kills_", dir=parent))
        first = (self.folder / "memory.limit_in_bytes").exists()
        if limit is not None:
            (self.folder / ("memory.limit_in_bytes" if first else "memory.max")).write_text(str(limit))
        self.peak = self.folder / ("memory.max_usage_in_bytes" if first else "memory.peak")

    def join(self):
        (self.folder / "cgroup.procs").write_text(str(os.getpid()))

    def remove(self):
        self.folder.rmdir()


def disturb(work, sweep, kills, rng):
    """Whether a program that gets so many kills ends well each time."""
    log = sweep.work / "output.txt"
    parent = sweep.args.memory_cgroup

    def start(folder, cgroup=None):
        with open(log, "wb") as output:
            return subprocess.Popen(list(map(str, work.command(folder))), env=sweep.environment, stdin=subprocess.DEVNULL,
                                    stdout=output, stderr=subprocess.STDOUT, preexec_fn=cgroup and cgroup.join)  # fmt: skip

    def is_killed(folder, disturbed):
        """Runs the work in the folder, to its end or a kill; the exit status if it was not killed."""
        if parent:
            cgroup = Cgroup(parent, int(peak * rng.random()) if disturbed else None)
            status = start(folder, cgroup).wait(DEADLINE_S)
            cgroup.remove()
            return status == -signal.SIGKILL, status
        process = start(folder)
        try:
            return False, process.wait(rng.random() * duration * 1.1 if disturbed else DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return True, None

    def said():
        return log.read_text(encoding="utf-8", errors="replace")[-1500:]

    label = work.name.replace(" ", "_")
    calm = sweep.work / f"{label}_calm"
    started = time.monotonic()
    cgroup = parent and Cgroup(parent)
    if start(calm, cgroup).wait(DEADLINE_S) != 0:
        sys.exit(f"{work.name} failed undisturbed:\n{said()}")
    duration = time.monotonic() - started
    peak = int(cgroup.peak.read_text()) if cgroup else 0
    if cgroup:
        cgroup.remove()
    problems, killed, finished, starts = [], 0, 0, 0
    while not problems and (killed < kills or finished == 0):
        starts += 1
        if starts > 20 * kills + 1:
            sys.exit(f"{work.name} was killed {killed} times in {starts} starts")
        folder = sweep.work / label
        by_kill, status = is_killed(folder, killed < kills)
        if by_kill:
            killed += 1
            problems += work.after_kill(calm, folder)
            finished = 0
            continue
        problems += [f"exit status {status}:\n{said()}"] if status != 0 else work.compare(calm, folder)
        finished += 1
        shutil.rmtree(folder, ignore_errors=True)
    amount = f"{peak >> 20} MiB" if parent else f"{duration:.1f} s of work"
    print(f"{work.name}: {killed} kills of {amount}{'' if problems else ', same files'}", flush=True)
    for problem in problems:
        print(f"FAILED: {work.name}, after kill {killed}: {problem}", flush=True)
    return not problems


def main():
    parser = parser_of(__doc__, "train_gpt", "sweep_gpt", "prepare_data")
    parser.add_argument("--kills", type=int, default=1200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--memory-cgroup", type=Path,
                        help="such as /sys/fs/cgroup/memory; without sweep_gpt, whose runs it would kill")  # fmt: skip
    parser.add_argument("--program", action="append", choices=SHARES, help="default: all")
    args = parser.parse_args()
    args.eval_gpt = None
    ok = True
    with tempfile.TemporaryDirectory(prefix="kills_") as name:
        sweep = Sweep(args, Path(name).resolve())
        for kind in (TrainGpt, SweepGpt, Tokenize, TrainTokenizer):
            if (not args.program or kind.name in args.program) and not (args.memory_cgroup and kind is SweepGpt):
                kills = max(1, round(args.kills * SHARES[kind.name]))
                ok &= disturb(kind(sweep), sweep, kills, random.Random(args.seed))
    sys.exit(not ok)


if __name__ == "__main__":
    main()
