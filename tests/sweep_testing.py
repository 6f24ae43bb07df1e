"""A small sweep for the tests beside this file: its data, its options and how it is started."""

import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from programs import parser_of
from resume_kill import make_data


def arguments(doc):
    parser = parser_of(doc, "sweep_gpt", "train_gpt", "prepare_data")
    parser.add_argument("--eval-gpt", type=Path, help="measure the models with this program; default: do not measure")
    parser.add_argument("--keep", type=Path, help="work in this new folder and keep it")
    return parser


class Sweep:
    """Two layers of width 32, twelve steps, a checkpoint every fourth."""

    def __init__(self, args, work):
        self.args, self.work = args, work
        data, tokenizer = make_data(work, args.prepare_data, 320, random.Random(1))
        options = {
            "DATA_PATH": data, "TOKENIZER_PATH": tokenizer, "VOCAB_SIZE": 320, "NUM_LAYERS": 2, "MODEL_DIM": 32, "NUM_HEADS": 2,
            "NUM_KV_HEADS": 1, "TRAIN_SEQ_LEN": 32, "TRAIN_BATCH_TOKENS": 1024, "VAL_BATCH_SIZE": 1024, "EVAL_TOKENS": 1024,
            "WARMDOWN_ITERS": 4, "WARMUP_STEPS": 1, "MAX_WALLCLOCK_SECONDS": 0, "VAL_LOSS_EVERY": 3, "SAVE_EVERY": 4,
            "NUM_THREADS": 1, "DEVICE": "cpu",
        }  # fmt: skip
        self.fixed = [text for name, value in options.items() for text in ("--" + name.lower().replace("_", "-"), str(value))]
        # No setting of the caller may slip in, and nothing of the machine's thread settings either.
        kept = ("PATH", "HOME", "LD_LIBRARY_PATH", "TMPDIR", "ASAN_OPTIONS", "UBSAN_OPTIONS", "PGOLF_CPU_LEVEL")
        self.environment = {name: os.environ[name] for name in kept if name in os.environ}

    def start(self, out_dir, *varied, steps=12):
        measure = ["--eval-gpt", str(self.args.eval_gpt)] if self.args.eval_gpt else ["--measure", "off"]
        command = [str(self.args.sweep_gpt), *varied, "--out-dir", out_dir, "--train-gpt", str(self.args.train_gpt), *measure]
        command += ["--", *self.fixed, "--iterations", str(steps)]
        return subprocess.Popen(command, cwd=self.work, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True)  # fmt: skip

    def run(self, out_dir, *varied, steps=12):
        process = self.start(out_dir, *varied, steps=steps)
        output, _ = process.communicate(timeout=600)
        if process.returncode != 0:
            sys.exit(f"sweep_gpt failed with exit status {process.returncode}:\n{output}")


def in_folder(args, prove):
    """prove(Sweep) in a folder of its own; prints what it returns, a list of problems. The exit status."""
    if args.keep:
        args.keep.mkdir(parents=True)
    work = args.keep or Path(tempfile.mkdtemp(prefix="sweep_"))
    try:
        problems = prove(Sweep(args, work))
    finally:
        if not args.keep:
            shutil.rmtree(work)
    for problem in problems:
        print("FAILED:", problem)
    return 1 if problems else 0
