#!/usr/bin/env python3
"""Checks that a killed and resumed run ends like an uninterrupted one.

One small CPU run finishes uninterrupted. The same run is then started again, killed with SIGKILL at random moments
(while it starts, inside a step, while it saves or writes its results) and resumed after each kill. At the end all model
files must be the same byte for byte, and metrics.jsonl must have the same lines, except for times. --config and --set make
it another run.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from programs import parser_of

RUN_ID = "run"
DEADLINE_S = 600  # for one process; more means a hang

WORDS = """a about after all and are as at back because been before but by can close come could day do down each end even
every far few find first for from give go good great had hand has have he head her here high him his home house how I if in
into is it its just keep know land last leave left life light like line little live long look made make man many may me mean
men might more most much must my near need never new night no not now number of off old on one only open or other our out
over own part people place point right said same saw say sea see she should show side small so some sound still stop story
such take tell than that the their them then there these they thing think this those thought three through time to together
too tree turn two under until up us use very walk want was water way we well were what when where which while who why will
wind with word work world would write year you young your""".split()


def make_data(folder, prepare_data, vocab_size, rng):
    """A little random text, a tokenizer trained on it, and its shards."""
    with open(folder / "text.jsonl", "w", encoding="utf-8") as out:
        for _ in range(200):
            sentences = (" ".join(rng.choices(WORDS, k=rng.randint(5, 14))) for _ in range(rng.randint(4, 12)))
            out.write(json.dumps({"text": " ".join(s[0].upper() + s[1:] + "." for s in sentences)}) + "\n")
    tokenizer = folder / "tokenizer.model"
    for command in (
        ["tokenizer", "--output", tokenizer, "--vocab-size", str(vocab_size)],
        ["tokenize", "--tokenizer-path", tokenizer, "--out-dir", folder / "shards", "--val-docs", "20"],
    ):
        command = [str(prepare_data), *map(str, command), "--input", str(folder / "text.jsonl")]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return folder / "shards", tokenizer


class Run:
    """One train_gpt process. Its console lines are read as they appear, with their times."""

    def __init__(self, command, environment):
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.started = time.monotonic()
        self.lines = []  # (seconds since the start, text)
        self.changed = threading.Condition()
        self.ended = False
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            with self.changed:
                self.lines.append((time.monotonic() - self.started, line.rstrip("\n")))
                self.changed.notify()
        with self.changed:
            self.ended = True
            self.changed.notify()

    def wait_for(self, reached):
        """Until reached(line) is true of some line. False if the output ended first."""
        seen = 0
        give_up = self.started + DEADLINE_S
        with self.changed:
            while True:
                for _, line in self.lines[seen:]:
                    if reached(line):
                        return True
                seen = len(self.lines)
                if self.ended:
                    return False
                if not self.changed.wait(timeout=give_up - time.monotonic()):
                    self.process.kill()
                    sys.exit(f"still running after {DEADLINE_S} s; last line: {self.lines[-1][1] if self.lines else '(none)'}")

    def finish(self):
        """To the end, by itself. The exit status."""
        self.wait_for(lambda line: False)
        return self.close()

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        return self.close()

    def close(self):
        status = self.process.wait()
        self.reader.join()
        self.process.stdout.close()
        return status

    def text(self):
        return "\n".join(line for _, line in self.lines)


def steps_done(line):
    """How many steps a console line says are done; None for a line about something else."""
    if line.startswith("resumed:step:"):
        return int(line.split(":")[2].split()[0])
    if line.startswith("step:") and " train_loss:" in line:
        return int(line[5:].split("/")[0])
    return None


def timeline(run, steps):
    """Seconds of each phase of an undisturbed run: [start-up and step 1, step 2, ..., step N, results]."""
    times = [0.0] + [at for at, line in run.lines if steps_done(line) is not None]
    if len(times) != steps + 1:
        sys.exit(f"expected {steps} step lines, got {len(times) - 1}:\n{run.text()}")
    times.append(run.lines[-1][0])
    return [later - sooner for sooner, later in zip(times, times[1:])]


def kill_moments(kills, steps, save_every, rng):
    """(kind, steps done before it, random fraction) for each kill, in the order of use. Kinds: "step", anywhere in a step;
    "saved", right after a checkpoint appeared; "results", after the last step; "start", before the first."""
    moments = []
    for i in range(kills):
        kind = ("step", "saved", "results", "start", "step", "step")[i % 6]
        first, last = {"step": (1, steps - 1), "saved": (0, steps - save_every), "results": (steps, steps), "start": (0, steps)}[kind]
        moments.append((kind, rng.randint(first, last), rng.random()))
    return sorted(moments, key=lambda moment: moment[1])


def await_moment(run, kind, target, fraction, phases, checkpoints):
    """Returns when the process should be killed, or has ended."""
    if kind == "start":
        time.sleep(fraction * phases[0])
        return
    old = set(checkpoints.glob("step_*.safetensors"))
    if not run.wait_for(lambda line: (steps_done(line) or 0) >= target):
        return
    if kind != "saved":
        time.sleep(fraction * phases[target])
        return
    while run.process.poll() is None and not set(checkpoints.glob("step_*.safetensors")) - old:
        time.sleep(0.001)
    time.sleep(fraction * 0.1 * phases[1])


def metrics(path):
    """What must not depend on interruptions: all lines but the first, times left out."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for line in lines:
        for key in ("train_time_ms", "peak_allocated_bytes", "peak_reserved_bytes"):  # differ between equal runs
            line.pop(key, None)
    return [line for line in lines if line["kind"] != "run"]


def compare(calm, disturbed):
    """A list of differences, empty if there are none."""
    problems = []
    names = [sorted(path.name for path in folder.glob("final_model.*")) for folder in (calm, disturbed)]
    if len(names[0]) != 2 or names[0] != names[1]:
        return [f"model files: {names[0]} and {names[1]}"]
    for name in names[0]:
        a, b = (calm / name).read_bytes(), (disturbed / name).read_bytes()
        if a != b:
            problems.append(f"{name} differs ({len(a)} and {len(b)} bytes)")
    a, b = metrics(calm / "metrics.jsonl"), metrics(disturbed / "metrics.jsonl")
    for line in a:
        if line not in b:
            problems.append(f"metrics.jsonl lacks this line or has it changed: {json.dumps(line)}")
    for i, line in enumerate(b):
        if line not in a:
            problems.append(f"metrics.jsonl should not have this line: {json.dumps(line)}")
        elif line in b[:i]:
            problems.append(f"metrics.jsonl has this line twice: {json.dumps(line)}")
    if not problems and a != b:
        problems.append("metrics.jsonl has the same lines in another order")
    temporary = [str(path.relative_to(disturbed)) for path in disturbed.rglob("*.tmp.*")]
    if temporary:
        problems.append("temporary files were left behind: " + " ".join(sorted(temporary)))
    return problems


def main():
    parser = parser_of(__doc__, "train_gpt", "prepare_data")
    parser.add_argument("--data-path", type=Path, help="folder of shards; default: a little random text")
    parser.add_argument("--tokenizer-path", type=Path, help="SentencePiece model of those shards")
    parser.add_argument("--vocab-size", type=int, default=320)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1, help="random seed of the moments and the text (default: 1)")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--save-every", type=int, default=5)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--seq-len", type=int, default=64)
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--config", type=Path, help="a preset, overridden by the options here")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE",
                        help="one more option; without VALUE: as in the preset")
    parser.add_argument("--keep", type=Path, help="work in this new folder and keep it")
    args = parser.parse_args()
    if (args.data_path is None) != (args.tokenizer_path is None):
        parser.error("--data-path and --tokenizer-path must be used together")

    rng = random.Random(args.seed)
    if args.keep:
        args.keep.mkdir(parents=True)
    work = args.keep or Path(tempfile.mkdtemp(prefix="resume_kill_"))
    try:
        problems = prove(args, work, rng)
    finally:
        if not args.keep:
            shutil.rmtree(work)
    for problem in problems:
        print("FAILED:", problem)
    if not problems:
        print(f"ok: model files and metrics.jsonl are the same after {args.kills} kills")
    return 1 if problems else 0


def prove(args, work, rng):
    data_path, tokenizer = args.data_path, args.tokenizer_path
    if data_path is None:
        data_path, tokenizer = make_data(work, args.prepare_data, args.vocab_size, rng)
    # Validations fall on saved steps, on steps between them, and on the last.
    options = {
        "DATA_PATH": data_path, "TOKENIZER_PATH": tokenizer, "VOCAB_SIZE": args.vocab_size,
        "NUM_LAYERS": args.layers, "MODEL_DIM": args.dim, "NUM_HEADS": 4, "NUM_KV_HEADS": 2, "ROPE_DIMS": 4,
        "TRAIN_SEQ_LEN": args.seq_len, "TRAIN_BATCH_TOKENS": args.batch_tokens, "VAL_BATCH_SIZE": args.batch_tokens,
        "EVAL_TOKENS": 32 * args.seq_len, "ITERATIONS": args.steps, "WARMDOWN_ITERS": args.steps // 3, "WARMUP_STEPS": 1,
        "MAX_WALLCLOCK_SECONDS": 0, "VAL_LOSS_EVERY": 2, "TRAIN_LOG_EVERY": 1, "SAVE_EVERY": args.save_every,
        "NUM_THREADS": 1, "DEVICE": "cpu", "RUN_ID": RUN_ID,
    }  # fmt: skip
    options.update(setting.split("=", 1) for setting in args.set)
    options = {name: value for name, value in options.items() if value != ""}
    flags = [text for name, value in options.items() for text in ("--" + name.lower().replace("_", "-"), str(value))]
    # No setting of the caller may slip in, and nothing of the machine's thread settings either.
    kept = ("PATH", "HOME", "LD_LIBRARY_PATH", "TMPDIR", "ASAN_OPTIONS", "UBSAN_OPTIONS", "PGOLF_CPU_LEVEL")
    environment = {name: os.environ[name] for name in kept if name in os.environ}

    def start(out_dir, *extra):
        config = ["--config", str(args.config)] if args.config else []
        return Run([str(args.train_gpt), *config, *flags, "--out-dir", str(work / out_dir), *extra], environment)

    calm = start("calm")
    if calm.finish() != 0:
        sys.exit(f"the uninterrupted run failed:\n{calm.text()}")
    phases = timeline(calm, args.steps)
    print(f"uninterrupted: {sum(phases):.1f} s, first step after {phases[0]:.2f} s, results {phases[-1]:.2f} s", flush=True)

    resume = ("--resume", "auto")
    killed = work / "killed" / RUN_ID
    for number, (kind, target, fraction) in enumerate(kill_moments(args.kills, args.steps, args.save_every, rng), start=1):
        while True:
            run = start("killed", *resume)
            await_moment(run, kind, target, fraction, phases, killed / "checkpoints")
            status = run.kill()
            if status == -signal.SIGKILL:
                break
            if status != 0:
                return [f"exit status {status} before kill {number}:\n{run.text()}"]
            kind = "start"  # it was through before its moment came; what is left may be too little for another of that kind
        last = run.lines[-1][1] if run.lines else "(nothing printed)"
        print(f"kill {number} ({kind}) at {time.monotonic() - run.started:.2f} s after: {last}", flush=True)

    run = start("killed", *resume)
    if run.finish() != 0:
        return [f"the last run failed:\n{run.text()}"]
    return compare(work / "calm" / RUN_ID, killed)


if __name__ == "__main__":
    sys.exit(main())
