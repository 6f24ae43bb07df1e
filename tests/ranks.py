#!/usr/bin/env python3
"""Checks jobs of several train_gpt processes on this machine's CPU, started by scripts/launch.sh.

The same small run is:
- trained by one, two and four processes, with equal losses up to the order of float32 sums, and equal weights on all ranks;
- killed, one random rank at a time, and resumed by as many processes, with the same bytes at the end, or by another number of
  processes, with the same losses up to the order of sums;
- interrupted;
- started with invalid options.
With --torchrun PYTHON, it is also started once by torchrun.
"""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from programs import parser_of
from resume_kill import RUN_ID, Run, compare, make_data, metrics, steps_done

# Up to a step, losses may differ by this much: sums in another order differ in the last bits of float32, and training doubles
# differences every few steps.
TOLERANCES = ((2, 2e-6), (30, 2e-5), (1000, 2e-3))
PEER_LOST, USAGE, INTERRUPTED = 8, 2, 130


class Job:
    """The options and the environment of every run here."""

    def __init__(self, args, work, rng):
        self.args, self.work = args, work
        data_path, tokenizer = make_data(work, args.prepare_data, 320, rng)
        self.options = {
            "DATA_PATH": data_path, "TOKENIZER_PATH": tokenizer, "VOCAB_SIZE": 320, "NUM_LAYERS": 3, "MODEL_DIM": 64,
            "NUM_HEADS": 4, "NUM_KV_HEADS": 2, "ROPE_DIMS": 4, "TRAIN_SEQ_LEN": 32, "TRAIN_BATCH_TOKENS": 2048,
            "VAL_BATCH_SIZE": 2048, "EVAL_TOKENS": 1000, "ITERATIONS": args.steps, "WARMDOWN_ITERS": 4, "WARMUP_STEPS": 1,
            "MAX_WALLCLOCK_SECONDS": 0, "VAL_LOSS_EVERY": 4, "TRAIN_LOG_EVERY": 1, "SAVE_EVERY": 4, "KEEP_LAST": 100, "DEVICE": "cpu",
            "DTYPE": "float32", "OPS": "reference", "NUM_THREADS": 1, "RUN_ID": RUN_ID, "DIST_TIMEOUT_SECONDS": 20,
            "CHECK_RANKS": 4, "EMA_DECAY": 0.8, "MUON_WD": 0.1, "MUON_ROW_NORMALIZE": 1,
            "NUM_LOOPS": 1, "LOOP_START": 1, "LOOP_END": 2,
        }  # fmt: skip
        kept = ("PATH", "HOME", "LD_LIBRARY_PATH", "TMPDIR", "PGOLF_CPU_LEVEL")
        self.environment = {name: os.environ[name] for name in kept if name in os.environ}
        self.environment["TRAIN_GPT"] = str(args.train_gpt)

    def flags(self, out_dir, **changes):
        options = {**self.options, "OUT_DIR": self.work / out_dir, **changes}
        return [text for name, value in options.items() for text in ("--" + name.lower().replace("_", "-"), str(value))]

    def start(self, processes, out_dir, *extra, **changes):
        program = [str(self.args.launch), str(processes)] if processes > 1 else [str(self.args.train_gpt)]
        return Run([*program, *self.flags(out_dir, **changes), *extra], self.environment)

    def finish(self, processes, out_dir, *extra, **changes):
        """The run's folder, after a run that ended well."""
        run = self.start(processes, out_dir, *extra, **changes)
        status = run.finish()
        if status != 0:
            sys.exit(f"{processes} processes, {out_dir}: exit status {status}:\n{run.text()}")
        return self.folder(out_dir)

    def folder(self, out_dir):
        return self.work / out_dir / RUN_ID


def losses(folder):
    return {(line["kind"], line.get("step")): line.get("train_loss", line.get("val_loss")) for line in metrics(folder / "metrics.jsonl")
            if "train_loss" in line or "val_loss" in line}


def max_difference(expected, got):
    return max(abs(got[key] - loss) for key, loss in expected.items())


def compare_losses(name, expected, got):
    steps = max(step or 0 for _, step in expected)
    if expected.keys() != got.keys():
        return [f"{name}: different lines in metrics.jsonl: {sorted(map(str, expected.keys() ^ got.keys()))}"]
    problems, said, after = [], [], 0
    for up_to, tolerance in TOLERANCES:
        # The score of the artifact has no step and belongs to the last one.
        worst = max((abs(got[kind, step] - loss) for (kind, step), loss in expected.items()
                     if after <= (steps if step is None else step) <= up_to), default=0.0)
        said.append(f"{worst:.1e} up to step {up_to}")
        if worst > tolerance:
            problems.append(f"{name}: losses differ by {worst:.2e} up to step {up_to}, more than {tolerance}")
        after = up_to + 1
    print(f"{name}: losses differ by {', '.join(said)}", flush=True)
    return problems


def ranks_of(launcher):
    """Rank -> process, of a running launch.sh."""
    found = {}
    for pid in subprocess.run(["pgrep", "-P", str(launcher)], capture_output=True, text=True, check=False).stdout.split():
        try:
            rank = re.search(rb"\0RANK=(\d+)\0", b"\0" + Path(f"/proc/{pid}/environ").read_bytes())
        except OSError:
            continue
        if rank:
            found[int(rank.group(1))] = int(pid)
    return found


def kill_and_resume(job, rng, out_dir, sizes, kills):
    """Problems of a job whose ranks are killed; each time it is resumed with the next of these numbers of processes."""
    problems = []
    for number in range(1, kills + 1):
        size = sizes[number % len(sizes)]
        run = job.start(size, out_dir, "--resume", "auto")
        step = rng.randint(0, job.args.steps - 1)
        run.wait_for(lambda line: step == 0 or (steps_done(line) or 0) >= step)
        time.sleep(rng.random() * (2.0 if step == 0 else 0.1))
        rank = rng.randrange(size)
        pid = ranks_of(run.process.pid).get(rank)
        if pid is None:
            run.finish()
            continue
        os.kill(pid, signal.SIGKILL)
        killed = time.monotonic()
        status = run.finish()
        took = time.monotonic() - killed
        named = f"rank {rank} " in run.text() and "lost" in run.text() or f"rank {rank} was killed" in run.text()
        print(f"kill {number}: rank {rank} of {size} after step {step}: exit status {status} in {took:.1f} s", flush=True)
        if status != 128 + signal.SIGKILL:
            problems.append(f"kill {number}: exit status {status}, not that of the killed rank:\n{run.text()}")
        if not named:
            problems.append(f"kill {number}: no message names rank {rank}:\n{run.text()}")
    job.finish(sizes[0], out_dir, "--resume", "auto")
    return problems


def check_interrupt(job, size):
    run = job.start(size, "interrupted", ITERATIONS=1000)
    run.wait_for(lambda line: (steps_done(line) or 0) >= 5)
    run.process.send_signal(signal.SIGINT)
    status = run.finish()
    saved = sorted(path.name for path in (job.folder("interrupted") / "checkpoints").iterdir())
    last = max(steps_done(line) or 0 for _, line in run.lines)
    problems = []
    if status != INTERRUPTED or run.text().count("interrupted:") != 1 or f"step_{last:08d}.safetensors" not in saved:
        problems.append(f"SIGINT: exit status {status}, checkpoints {saved}:\n{run.text()}")
    return problems


def check_mistakes(job, size):
    problems = []
    for what, changes, expected, said in (
        ("a wrong value", {"ROPE_DIMS": "x"}, USAGE, "ROPE_DIMS=x"),
        ("a missing folder", {"DATA_PATH": "/nowhere"}, 3, "/nowhere"),
        ("MIN_STEPS", {"MIN_STEPS": 5, "MAX_WALLCLOCK_SECONDS": 60}, USAGE, "MIN_STEPS"),
    ):
        run = job.start(size, "mistakes", **changes)
        status = run.finish()
        errors = [line for _, line in run.lines if "error:" in line]
        print(f"{what}: exit status {status}: {errors}", flush=True)
        if status != expected or len(errors) != 1 or said not in errors[0]:
            problems.append(f"{what}: exit status {status}:\n{run.text()}")
    if (job.work / "mistakes").exists():
        problems.append("a folder was created for a run that never started")
    return problems


def prove(args, work, rng):
    job = Job(args, work, rng)
    single = job.finish(1, "one")
    problems = []
    for size in args.sizes:
        folder = job.finish(size, f"of_{size}")
        problems += compare_losses(f"{size} processes", losses(single), losses(folder))
    if 2 in args.sizes:
        problems += compare(job.folder("of_2"), job.finish(2, "again"))
        resumed = job.finish(2, "resumed_by_2", "--resume", str(next((single / "checkpoints").glob("*_00000008.safetensors"))))
        problems += compare_losses("from one to two processes", losses(single), {**losses(single), **losses(resumed)})
    fast = [job.finish(size, f"fast_{size}", OPS="fast") for size in (1, 2)]
    problems += compare_losses("OPS=fast", *map(losses, fast))
    rounded = job.finish(2, "rounded", DIST_GRADIENT_DTYPE="bfloat16")
    if max_difference(losses(single), losses(rounded)) == 0:
        problems.append("DIST_GRADIENT_DTYPE=bfloat16 changes nothing")
    six = [job.finish(size, f"six_{size}", GRAD_ACCUM_STEPS=6 // size, TRAIN_BATCH_TOKENS=1920) for size in (1, 3)]
    problems += compare_losses("six micro-steps by 3 processes", *map(losses, six))
    problems += check_interrupt(job, 2)
    problems += check_mistakes(job, 2)
    if args.kills:
        problems += kill_and_resume(job, rng, "killed", [2], args.kills)
        problems += compare(job.folder("of_2"), job.folder("killed"))
        problems += kill_and_resume(job, rng, "killed_in_turn", [2, 4], args.kills)
        problems += compare_losses("killed and resumed by 2 and 4 in turn", losses(single), losses(job.folder("killed_in_turn")))
    if args.torchrun:
        command = [args.torchrun, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "--no-python",
                   str(args.train_gpt), *job.flags("torchrun")]
        run = Run(command, job.environment)
        if run.finish() != 0:
            problems.append(f"torchrun failed:\n{run.text()}")
        else:
            problems += compare(job.folder("of_2"), job.folder("torchrun"))
    return problems


def report(checks):
    """The exit status of checks(folder), a list of problems, which it prints."""
    # A shell starts background jobs with SIGINT ignored, and they would pass that on.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    work = Path(tempfile.mkdtemp(prefix="ranks_"))
    try:
        problems = checks(work)
    finally:
        shutil.rmtree(work)
    for problem in problems:
        print("FAILED:", problem)
    if not problems:
        print("ok")
    return 1 if problems else 0


def main():
    parser = parser_of(__doc__, "train_gpt", "prepare_data")
    parser.add_argument("--launch", type=Path, default=Path(__file__).resolve().parents[1] / "scripts" / "launch.sh")
    parser.add_argument("--sizes", type=int, nargs="*", default=[2, 4])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--torchrun", help="also start the run by the torchrun of this Python with PyTorch")
    args = parser.parse_args()

    return report(lambda work: prove(args, work, random.Random(args.seed)))


if __name__ == "__main__":
    sys.exit(main())
