#!/usr/bin/env python3
"""Compares two processes of train_gpt with two of upstream's train_gpt.py: the first losses, on the CPU, in float32.

    PGOLF_UPSTREAM=.../train_gpt.py tests/upstream_ranks.py --train-gpt build/bin/train_gpt --data-path ... --tokenizer-path ...

Upstream's main(), loader, DistributedDataParallel and Muon run as they are. Replaced in memory: CUDA by the CPU, NCCL by gloo,
bfloat16 by float32 outside of Muon, and the logged training loss, rank 0's own, by the mean of all ranks with more digits;
torch.compile is left out. Exits with 77 (skipped) if upstream's file, PyTorch, sentencepiece or the data is missing.
"""

import importlib.util
import json
import os
import re
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

from programs import parser_of

SKIPPED = 77
STEPS = 3
# Muon's Newton-Schulz is bfloat16 and amplifies the last bits of the first step's gradients.
TOLERANCES = {("val", 0): 1e-6, ("train", 1): 1e-6, ("train", 2): 2e-4, ("train", 3): 5e-4}
CONFIG = {
    "VOCAB_SIZE": 1024, "NUM_LAYERS": 4, "MODEL_DIM": 128, "NUM_HEADS": 4, "NUM_KV_HEADS": 2, "MLP_MULT": 2,
    "TRAIN_SEQ_LEN": 128, "TRAIN_BATCH_TOKENS": 8192, "VAL_BATCH_SIZE": 8192, "ITERATIONS": STEPS, "WARMUP_STEPS": 0,
    "WARMDOWN_ITERS": 0, "MAX_WALLCLOCK_SECONDS": 0, "VAL_LOSS_EVERY": 1000, "TRAIN_LOG_EVERY": 1, "RUN_ID": "run",
}  # fmt: skip

REPLACEMENTS = [
    ('torch.device("cuda", local_rank)', 'torch.device("cpu")'),
    ("torch.cuda.set_device(device)", "pass"),
    ("if not torch.cuda.is_available():", "if False:"),
    ('backend="nccl", device_id=device', 'backend="gloo"'),
    ("device_ids=[local_rank], ", ""),
    ('torch.autocast(device_type="cuda", dtype=torch.bfloat16, enabled=True)', "contextlib.nullcontext()"),
    ("torch.cuda.synchronize()", "pass"),
    ("torch.cuda.max_memory_allocated()", "0"),
    ("torch.cuda.max_memory_reserved()", "0"),
    ("torch.cuda.manual_seed_all(args.seed)", "pass"),
    ("torch.inference_mode()", "torch.no_grad()"),
    (").to(device).bfloat16()", ").to(device)"),
    ("train_loss /= grad_accum_steps", "train_loss /= grad_accum_steps * world_size; dist.all_reduce(train_loss)"),
    ("{train_loss.item():.4f}", "{train_loss.item():.9f}"),
    ("{val_loss:.4f}", "{val_loss:.9f}"),
]


def run_upstream(path):
    """In each of upstream's processes."""
    import torch

    torch.set_num_threads(1)
    torch.compile = lambda function, **_: function
    source = Path(path).read_text(encoding="utf-8")
    for old, new in REPLACEMENTS:
        if old not in source:
            sys.exit(f"upstream's file has changed: it lacks {old!r}")
        source = source.replace(old, new)
    # What follows training is not compared, and asks for nvidia-smi before it.
    subprocess.run = lambda *_, **__: subprocess.CompletedProcess([], 0, stdout="", stderr="")
    exec(compile("import contextlib\n" + source.replace("from __future__ import annotations\n", ""), path, "exec"),
         {"__name__": "__main__", "__file__": path})


def losses_in(text):
    found = {}
    for kind in ("train", "val"):
        for step, loss in re.findall(rf"^step:(\d+)/\d+ {kind}_loss:(\S+)", text, re.MULTILINE):
            found.setdefault((kind, int(step)), float(loss))
    return found


def small_data(folder, data_path):
    """The training shards, and the first tokens of the validation's."""
    for shard in data_path.glob("fineweb_train_*.bin"):
        (folder / shard.name).symlink_to(shard.resolve())
    source = sorted(data_path.glob("fineweb_val_*.bin"))[0].read_bytes()
    header, tokens = list(struct.unpack("<256i", source[:1024])), 64 * CONFIG["TRAIN_SEQ_LEN"] + 1
    header[2] = tokens
    (folder / "fineweb_val_000000.bin").write_bytes(struct.pack("<256i", *header) + source[1024 : 1024 + 2 * tokens])


def checked(command, **options):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, **options)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: exit status {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return done.stdout


def skip(why):
    print(f"skipped: {why}")
    sys.exit(SKIPPED)


def main():
    if sys.argv[1:2] == ["--worker"]:
        return run_upstream(sys.argv[2])
    parser = parser_of(__doc__, "train_gpt")
    parser.add_argument("--data-path", type=Path, required=True)
    parser.add_argument("--tokenizer-path", type=Path, required=True)
    parser.add_argument("--upstream", default=os.environ.get("PGOLF_UPSTREAM"), help="default: $PGOLF_UPSTREAM")
    args = parser.parse_args()
    if not args.upstream or not Path(args.upstream).exists():
        skip("upstream's train_gpt.py was not found; set PGOLF_UPSTREAM to its path")
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("sentencepiece") is None:
        skip("this Python has no PyTorch or no sentencepiece")
    if not any(args.data_path.glob("fineweb_train_*.bin")):
        skip(f"no shards in {args.data_path}")

    with tempfile.TemporaryDirectory(prefix="upstream_ranks_") as folder:
        data = Path(folder) / "data"
        data.mkdir()
        small_data(data, args.data_path)
        variables = {name: str(value) for name, value in CONFIG.items()}
        variables |= {"DATA_PATH": str(data), "TOKENIZER_PATH": str(args.tokenizer_path.resolve())}
        environment = {**os.environ, **variables, "OMP_NUM_THREADS": "1"}
        launch = Path(__file__).resolve().parents[1] / "scripts" / "launch.sh"
        ours = {"OUT_DIR": folder, "DEVICE": "cpu", "DTYPE": "float32", "MUON_DTYPE": "bfloat16", "OPS": "reference"}
        checked([launch, 2], env={**environment, **ours, "TRAIN_GPT": str(args.train_gpt.resolve())}, cwd=folder)
        theirs = losses_in(checked(
            [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", __file__, "--worker", args.upstream],
            env=environment, cwd=folder))  # fmt: skip
        got = {}
        for line in map(json.loads, (Path(folder) / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()):
            for kind in ("train", "val"):
                if f"{kind}_loss" in line and "step" in line:
                    got.setdefault((kind, line["step"]), line[f"{kind}_loss"])
    failed = False
    for key, tolerance in TOLERANCES.items():
        difference = abs(got[key] - theirs[key])
        failed |= not difference <= tolerance
        print(f"{key[0]}_loss at step {key[1]}: {got[key]:.9f}, upstream {theirs[key]:.9f}, "
              f"difference {difference:.1e}, tolerance {tolerance:.0e}")
    print("FAILED" if failed else "ok")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
