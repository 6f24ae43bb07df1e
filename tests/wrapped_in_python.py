#!/usr/bin/env python3
"""Saves a model of train_gpt from Python as trainers and wrapped modules do, and compares what eval_gpt reads of it.

    tests/wrapped_in_python.py --train-gpt build/bin/train_gpt --eval-gpt build/bin/eval_gpt --prepare-data build/bin/prepare_data

Exits with 77 without PyTorch or NumPy.
"""

import argparse
import collections
import pathlib
import random
import tempfile
import zlib
from pathlib import Path

from resume_kill import make_data
from with_packages import run, start

CONFIG = {
    "VOCAB_SIZE": 320, "NUM_LAYERS": 2, "MODEL_DIM": 32, "NUM_HEADS": 4, "NUM_KV_HEADS": 2, "TRAIN_SEQ_LEN": 32,
    "TRAIN_BATCH_TOKENS": 1024, "VAL_BATCH_SIZE": 4096, "ITERATIONS": 2, "WARMUP_STEPS": 0, "MAX_WALLCLOCK_SECONDS": 0,
    "DTYPE": "float32", "DEVICE": "cpu", "NUM_THREADS": 1,
}  # fmt: skip


class Config:
    """A class that only Python knows."""

    def __init__(self):
        self.lr, self.itself = 0.1, self


def main():
    args, numpy, torch = start(__doc__, "numpy", "torch")

    def contents(state, prefix):
        """What may be around the state dict, with the line that is expected; None: refused, with these words in the message."""
        renamed = collections.OrderedDict((prefix + name, tensor) for name, tensor in state.items())
        at = f", without the prefix \"{prefix}\"" if prefix else ""
        module = torch.nn.Linear(3, 3)
        adam = torch.optim.Adam([{"params": [module.weight]}, {"params": [module.bias], "lr": 0.2}])
        module(torch.ones(1, 3)).sum().backward()
        adam.step()
        extras = {
            "optimizer": adam.state_dict(), "args": argparse.Namespace(a=1), "config": Config(), "step": numpy.int64(3),
            "best_val_loss": torch.tensor(2.5), "rng": torch.get_rng_state(), "numpy_rng": numpy.random.get_state(),
            "python_rng": random.getstate(), "path": pathlib.Path("a/b"), "dtype": torch.bfloat16, "seen": {1, 2},
            "counts": collections.Counter("abc"), "big": 2**100, "raw": b"\0\1", "none": None, "array": numpy.ones(3),
            "complex": torch.ones(2, dtype=torch.complex64), "sparse": torch.eye(2).to_sparse(), "device": torch.device("cpu"),
            "defaults": collections.defaultdict(list, {"a": [1]}), "by_tuple": {(1, 2): 3}, "size": torch.Size([1, 2]),
            "parameter": torch.nn.Parameter(torch.ones(1)), "scheduler": {"last_lr": [0.1], "_step_count": 1},
        }  # fmt: skip
        yield renamed, f"the weights without the prefix \"{prefix}\"" if prefix else ""
        for key in ("model", "state_dict", "model_state_dict", "module"):
            yield {key: renamed, **extras}, f"the weights at \"{key}\"{at}"
        yield {"model": dict(renamed)}, f"the weights at \"model\"{at}"
        yield {"model": {n: torch.nn.Parameter(t) for n, t in renamed.items()}}, f"the weights at \"model\"{at}"
        yield {"trainer": {"model": renamed, "ema": None}, **extras}, f"the weights at \"trainer.model\"{at}"

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        shards, tokenizer = make_data(folder, args.prepare_data, CONFIG["VOCAB_SIZE"], random.Random(1))
        run(args.train_gpt, **CONFIG, DATA_PATH=shards, TOKENIZER_PATH=tokenizer, OUT_DIR=folder, RUN_ID="run")
        original = (folder / "run/final_model.pt").read_bytes()
        state = torch.load(folder / "run/final_model.pt", weights_only=True)
        count = 0

        def export(path, expected):
            nonlocal count
            count += 1
            said = run(args.eval_gpt, "export", path, "--output", folder / "out.pt", "--overwrite")
            assert said == (f"warning: {path}: read {expected}\n" if expected else ""), said
            read = torch.load(folder / "out.pt", weights_only=True)
            assert list(read) == list(state) and all(torch.equal(read[name], state[name]) for name in state)

        for prefix in ("", "_orig_mod.", "module._orig_mod."):
            for number, (content, expected) in enumerate(contents(state, prefix)):
                # All protocols where they differ most, one elsewhere.
                for protocol in (2, 3, 4, 5) if number < 2 else (2 + number % 4,):
                    torch.save(content, folder / "wrapped.pt", pickle_protocol=protocol)
                    export(folder / "wrapped.pt", expected)
        (folder / "packed").write_bytes(zlib.compress((folder / "wrapped.pt").read_bytes()))
        export(folder / "packed", expected)

        def refused(content, *words):
            torch.save(content, folder / "refused.pt")
            said = run(args.eval_gpt, "export", folder / "refused.pt", "--output", folder / "no.pt", code=3)
            assert all(word in said for word in words) and said.count("\n") == 2, said

        refused({"model": state, "ema": dict(state)}, "several models", '"model"', '"ema"')
        refused({"model": state, "bias": torch.ones(3)}, '"bias"')
        refused(torch.nn.Linear(2, 2), "torch.nn.modules.linear.Linear", "state_dict()")

        # What is no model is told by name, by the reader of models and by that of tokenizers.
        foreign = folder / "foreign.model"
        torch.jit.script(torch.nn.Linear(2, 2)).save(str(folder / "TorchScript"))
        with open(folder / "NumPy array", "wb") as file:
            numpy.save(file, numpy.ones(3))
        for kind, save in {
            "NumPy .npz": lambda file: numpy.savez_compressed(file, a=numpy.ones(3)),
            "before PyTorch 1.6": lambda file: torch.save(state, file, _use_new_zipfile_serialization=False),
        }.items():
            with open(folder / kind, "wb") as file:
                save(file)
        for kind in ("TorchScript", "NumPy array", "NumPy .npz", "before PyTorch 1.6"):
            foreign.write_bytes((folder / kind).read_bytes())
            said = run(args.eval_gpt, "inspect", foreign, code=3)
            assert kind in said, said
            said = run(args.train_gpt, "--tokenizer-path", foreign, code=3, **CONFIG, DATA_PATH=shards, OUT_DIR=folder)
            assert kind in said, said
        said = run(args.train_gpt, "--resume", folder / "wrapped.pt", "--run-id", "x", code=3, **CONFIG, DATA_PATH=shards,
                   TOKENIZER_PATH=tokenizer, OUT_DIR=folder)  # fmt: skip
        assert "is a model (torch) without the state of the optimizers" in said, said
        assert (folder / "run/final_model.pt").read_bytes() == original
        print(f"{count} files of one model read")


if __name__ == "__main__":
    main()
