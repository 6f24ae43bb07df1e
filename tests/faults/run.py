#!/usr/bin/env python3
"""Lets every call of a short run fail once, one after the other, and looks at what the program makes of it.

For each call of open, write, fsync, rename and mmap that concerns the run's folder (failing_calls.c), and for each error that it
can have: the program must end with a documented exit code and, unless that is 0, one error line; no temporary file may stay, and
every file must be whole: that of the undisturbed run, an earlier one, or absent. Then the same command runs again undisturbed, to
resume where it can, and must end with the undisturbed run's files, byte for byte.
"""

import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from programs import parser_of
from resume_kill import make_data

ERRORS = {"open": ["ENOSPC"], "write": ["ENOSPC", "EIO", "EINTR", "short"], "fsync": ["EIO"], "rename": ["EIO"], "mmap": ["ENOMEM"]}
HARMLESS = ("EINTR", "short")  # the program must try again
IO = 6


class Program:
    """A command that leaves files in a folder; `again` is the command that goes on after a failure, `setup` comes before."""

    def __init__(self, name, folder, command, files, again=None, setup=None):
        self.name, self.folder, self.command, self.files = name, folder, command, files
        self.again, self.setup = again or command, setup

    def prepare(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        if self.setup:
            self.setup()

    def run(self, command, shim=None, **failure):
        kept = ("PATH", "HOME", "LD_LIBRARY_PATH", "ASAN_OPTIONS", "UBSAN_OPTIONS", "PGOLF_CPU_LEVEL")
        environment = {name: os.environ[name] for name in kept if name in os.environ}
        if shim:
            environment.update(LD_PRELOAD=str(shim), FAIL_BELOW=str(self.folder), **failure)
        done = subprocess.run(list(map(str, command)), env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=120)  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    def content(self):
        return {name: (self.folder / name).read_bytes() if (self.folder / name).exists() else None for name in self.files}


def check(program, shim, every, first):
    """Problems, how many failures there are, and how many of them were tried."""
    problems, found, tried = [], 0, 0
    program.prepare()
    counts_file = program.folder.with_suffix(".counts")
    code, output = program.run(program.command, shim, FAIL_COUNTS=str(counts_file))
    if code != 0:
        sys.exit(f"{program.name} failed undisturbed with exit code {code}:\n{output}")
    expected = program.content()
    missing = [name for name, content in expected.items() if content is None]
    if missing:
        sys.exit(f"{program.name} did not write {missing}")
    counts = dict(line.split() for line in counts_file.read_text().splitlines())
    for call, errors in ERRORS.items():
        for number in range(1, int(counts[call]) + 1):
            for how in errors:
                found += 1
                if (found - 1 - first) % every:
                    continue
                tried += 1
                where = f"{program.name}: {call} {number} of {counts[call]}, {how}"
                program.prepare()
                code, output = program.run(program.command, shim, FAIL_CALL=call, FAIL_NUMBER=str(number), FAIL_HOW=how)
                text = f"{where}: exit code {code}\n{output[-1500:]}"
                if code not in (0, IO) or (how in HARMLESS and code != 0):
                    problems.append(f"{where}: exit code {code}\n{output[-1500:]}")
                if code != 0 and sum(line.startswith("error: ") for line in output.splitlines()) != 1:
                    problems.append(f"not one error line: {text}")
                left = [str(path) for path in program.folder.rglob("*.tmp.*")]
                if left:
                    problems.append(f"left {left}: {text}")
                for name, content in program.content().items():
                    if content is not None and content != expected[name]:
                        problems.append(f"{name} is not whole: {text}")
                code, output = program.run(program.again)
                if code != 0:
                    problems.append(f"{where}: the next run failed with exit code {code}\n{output[-1500:]}")
                elif program.content() != expected:
                    names = [name for name, content in program.content().items() if content != expected[name]]
                    problems.append(f"{where}: after the next run {names} differ")
    return problems, found, tried


def programs(args, work):
    data, tokenizer = make_data(work, args.prepare_data, 320, random.Random(1))
    out = work / "out"
    options = {
        "DATA_PATH": data, "TOKENIZER_PATH": tokenizer, "VOCAB_SIZE": 320, "NUM_LAYERS": 2, "MODEL_DIM": 32, "NUM_HEADS": 2,
        "NUM_KV_HEADS": 1, "TRAIN_SEQ_LEN": 32, "TRAIN_BATCH_TOKENS": 1024, "VAL_BATCH_SIZE": 1024, "EVAL_TOKENS": 1024,
        "WARMDOWN_ITERS": 2, "WARMUP_STEPS": 0, "MAX_WALLCLOCK_SECONDS": 0, "VAL_LOSS_EVERY": 2, "SAVE_EVERY": 2,
        "ITERATIONS": 4, "NUM_THREADS": 1, "DEVICE": "cpu", "OUT_DIR": out, "FALLBACK_DIR": work / "fallback", "RUN_ID": "run",
    }  # fmt: skip
    train = [args.train_gpt] + [text for name, value in options.items() for text in ("--" + name.lower().replace("_", "-"), value)]
    finals = ["run/final_model.pt", "run/final_model.int8.ptz"]
    yield Program("train_gpt", out, train, finals, again=[*train, "--resume"])

    def trained(folder, *more):
        command = [*(folder if part == out else part for part in train), *more]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"train_gpt failed:\n{done.stdout}{done.stderr}")
        return folder / finals[0]

    final = trained(work / "model")
    yield Program("eval_gpt export", out, [args.eval_gpt, "export", final, "--overwrite", "--output", out / "m.safetensors"],
                  ["m.safetensors"])  # fmt: skip
    plain = trained(work / "plain", "--mlp-kind", "swiglu", "--qk-norm", "0", "--unet-skips", "0", "--resid-mix", "0",
                    "--logit-softcap", "0")  # fmt: skip
    export = [args.eval_gpt, "export", plain, "--tokenizer-path", tokenizer, "--overwrite"]
    yield Program("eval_gpt export --to hf", out, [*export, "--to", "hf", out / "m"],
                  [f"m/{name}" for name in ("config.json", "model.safetensors", "tokenizer.json")])  # fmt: skip
    yield Program("eval_gpt export --to gguf", out, [*export, "--to", "gguf", out / "m.gguf"], ["m.gguf"])
    yield Program("eval_gpt score", out, [args.eval_gpt, "score", final, "--data-path", data, "--tokenizer-path", tokenizer,
                                          "--format", "jsonl", "--eval-tokens", "512", "--output", out / "score.jsonl"], [])  # fmt: skip
    sweep = [args.sweep_gpt, "--rope-dims", "none,4", "--out-dir", out, "--train-gpt", args.train_gpt, "--measure", "off", "--"]
    skipped = ("--out-dir", "--run-id")
    sweep += [text for flag, value in zip(train[1::2], train[2::2]) if flag not in skipped for text in (flag, value)]
    yield Program("sweep_gpt", out, sweep, ["sweep.csv"])
    shards = ["fineweb_train_000000.bin", "fineweb_val_000000.bin"]
    tokenize = [args.prepare_data, "tokenize", "--input", work / "text.jsonl", "--tokenizer-path", tokenizer, "--out-dir",
                out / "shards", "--val-docs", "20"]  # fmt: skip
    yield Program("prepare_data tokenize", out, tokenize, [f"shards/{name}" for name in shards], again=[*tokenize, "--force"])
    yield Program("prepare_data tokenizer", out, [args.prepare_data, "tokenizer", "--input", work / "text.jsonl", "--vocab-size",
                                                  "320", "--output", out / "t.model"], ["t.model"])  # fmt: skip


def main():
    parser = parser_of(__doc__, "train_gpt", "eval_gpt", "sweep_gpt", "prepare_data")
    parser.add_argument("--every", type=int, default=1, help="try only every n-th failure ...")
    parser.add_argument("--first", type=int, default=0, help="... beginning with this one, below n")
    parser.add_argument("--program", action="append", help="a name as printed; default: all")
    args = parser.parse_args()
    problems, total = [], 0
    with tempfile.TemporaryDirectory(prefix="faults_") as name:
        work = Path(name).resolve()
        shim = work / "failing_calls.so"
        compiler = os.environ.get("CC", "cc")
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", HERE / "failing_calls.c", "-o", shim, "-ldl"], check=True)
        for program in programs(args, work):
            if args.program and program.name not in args.program:
                continue
            its_problems, found, tried = check(program, shim, args.every, args.first)
            print(f"{program.name}: {found} failures, {tried} tried, {len(its_problems)} problems", flush=True)
            problems += its_problems
            total += tried
    for problem in problems:
        print(f"\n{problem}")
    print(f"ok: {total} failures" if not problems else f"{len(problems)} problems")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
