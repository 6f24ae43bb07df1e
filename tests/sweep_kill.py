#!/usr/bin/env python3
"""Checks that a sweep killed during its runs and restarted ends with the sweep.csv of an uninterrupted one.

sweep_gpt gets SIGKILL at chosen moments: while a run starts, inside its steps, right after a checkpoint, while results
are written. Its children must die with it. At the end sweep.csv and each run's trajectory.csv must be the same byte for byte.
"""

import random
import signal
import sys
import time
from pathlib import Path

from sweep_testing import arguments, in_folder

VARIED = ("--rope-dims", "none,4,full", "--seed", "1,2")
DEADLINE_S = 120  # for one moment to come


def running_in(folder):
    """The processes whose command line names the folder; a child has the sweep's until it becomes train_gpt."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if any(word == str(folder).encode() for word in words) and words[0].endswith((b"train_gpt", b"sweep_gpt")):
                found.append(int(entry.name))
    return found


def state(out):
    """What has happened in a sweep's folder by now, as numbers that only grow."""
    return {
        "runs": len(list(out.glob("*/config.env"))),
        "steps": sum(path.read_text().count('"train"') for path in out.glob("*/metrics.jsonl")),
        "checkpoints": sum(1 for _ in out.glob("*/checkpoints/*.safetensors")),
        "models": len(list(out.glob("*/final_model.pt"))),
    }


def compare_tables(calm, killed, runs):
    """A list of differences between two sweeps of so many runs."""
    files = [calm / "sweep.csv", *sorted(calm.glob("*/trajectory.csv"))]
    problems = [] if len(files) == 1 + runs else [f"expected sweep.csv and {runs} trajectories, found {len(files)} files"]
    for path in files:
        other = killed / path.relative_to(calm)
        if not other.exists() or path.read_bytes() != other.read_bytes():
            problems.append(f"{path.relative_to(calm)} differs")
    return problems


def prove(sweep):
    rng = random.Random(1)
    started = time.monotonic()
    sweep.run("calm", *VARIED)
    print(f"uninterrupted: {time.monotonic() - started:.1f} s", flush=True)
    killed = sweep.work / "killed"
    for number, kind in enumerate(("runs", "steps", "checkpoints", "models", "steps", "runs", "checkpoints"), start=1):
        process = sweep.start(str(killed), *VARIED)
        before, give_up = state(killed), time.monotonic() + DEADLINE_S
        while process.poll() is None and state(killed)[kind] <= before[kind]:
            if time.monotonic() > give_up:
                process.kill()
                sys.exit(f"no new {kind} within {DEADLINE_S} s")
            time.sleep(0.002)
        time.sleep(rng.random() * 0.1)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if process.returncode != -signal.SIGKILL:
            return [f"the sweep ended by itself, with exit status {process.returncode}, before kill {number}: make it longer"]
        give_up = time.monotonic() + 10
        while running_in(killed):
            if time.monotonic() > give_up:
                return [f"train_gpt outlived its killed sweep: {running_in(killed)}"]
            time.sleep(0.01)
        print(f"kill {number}, after a change of {kind}: {state(killed)}", flush=True)

    sweep.run(str(killed), *VARIED)
    problems = compare_tables(sweep.work / "calm", killed, 6)
    if not problems:
        print("ok: 7 tables are the same after 7 kills")
    return problems


if __name__ == "__main__":
    sys.exit(in_folder(arguments(__doc__).parse_args(), prove))
