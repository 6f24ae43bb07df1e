#!/usr/bin/env python3
"""Lets TensorBoard's own reader list a run that was interrupted and resumed, and compares it with metrics.jsonl.

    tests/tensorboard_in_python.py --train-gpt build/bin/train_gpt --eval-gpt build/bin/eval_gpt --prepare-data build/bin/prepare_data

Exits with 77 without the tensorboard package.
"""

import json
import random
import struct
import tempfile
from pathlib import Path

from resume_kill import make_data
from with_packages import run, start

CONFIG = {
    "VOCAB_SIZE": 352, "NUM_LAYERS": 2, "MODEL_DIM": 32, "NUM_HEADS": 2, "NUM_KV_HEADS": 1, "TRAIN_SEQ_LEN": 32,
    "TRAIN_BATCH_TOKENS": 1024, "VAL_BATCH_SIZE": 4096, "WARMUP_STEPS": 0, "MAX_WALLCLOCK_SECONDS": 0, "DEVICE": "cpu",
    "NUM_THREADS": 1, "VAL_LOSS_EVERY": 5, "EVAL_TOKENS": 512, "EVAL_STRIDE": 16, "EMA_DECAY": 0.9, "SAVE_EVERY": 8,
    "LOGGERS": "tensorboard", "SAMPLE_EVERY": 10, "HISTOGRAM_EVERY": 20,
}  # fmt: skip
STEPS = 20


def single(number):
    return struct.unpack("f", struct.pack("f", number))[0]


def expected_scalars(metrics):
    """{(tag, step): value} of the records with numbers, named as docs/runs.md says."""
    found, step = {}, 0
    for line in metrics:
        kind = line.pop("kind")
        step = line.pop("step", step)
        name = line.pop("name", None)
        prefix = f"{kind}/{name}/" if name else f"{kind}/"
        for field, value in line.items():
            if isinstance(value, (int, float)):
                found[prefix + field.removeprefix(f"{kind}_"), step] = single(value)
    return found


def main():
    args, accumulators = start(__doc__, "tensorboard.backend.event_processing.event_accumulator")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        shards, tokenizer = make_data(folder, args.prepare_data, CONFIG["VOCAB_SIZE"], random.Random(1))
        settings = {**CONFIG, "DATA_PATH": shards, "TOKENIZER_PATH": tokenizer, "OUT_DIR": folder, "ITERATIONS": STEPS}
        run(args.train_gpt, **settings, RUN_ID="watched")
        # What was done after the last checkpoint is done again.
        run(args.train_gpt, "--resume", folder / "watched", **settings)
        metrics = [json.loads(line) for line in (folder / "watched/metrics.jsonl").read_text().splitlines()]
        samples = [line for line in metrics if line["kind"] == "sample"]
        expected = expected_scalars([line for line in metrics if line["kind"] != "sample"])
        shown = accumulators.EventAccumulator(
            str(folder / "watched"), {"scalars": 0, "histograms": 0, "tensors": 0, "images": 0}
        ).Reload()
        found = {}
        for tag in shown.Tags()["scalars"]:
            if tag.startswith("memory/") or tag.endswith(("_lr", "tokens_per_second")):
                continue
            steps = [event.step for event in shown.Scalars(tag)]
            assert steps == sorted(steps), (tag, steps)
            found.update({(tag, event.step): event.value for event in shown.Scalars(tag)})
        assert found == expected, {key: (found.get(key), expected.get(key)) for key in found.keys() ^ expected.keys()}
        for tag in ("train/matrix_lr", "train/tokens_per_second"):
            assert [event.step for event in shown.Scalars(tag)] == list(range(1, STEPS + 1)), tag
        texts = {event.step: event.tensor_proto.string_val[0].decode() for event in shown.Tensors("sample")}
        assert texts == {line["step"]: line["text"] for line in samples} and len(texts) == 2, texts
        assert "| MODEL_DIM | 32 |" in shown.Tensors("config")[0].tensor_proto.string_val[0].decode()
        tags = shown.Tags()["histograms"]
        assert "tok_emb.weight" in tags, tags
        histogram = shown.Histograms("tok_emb.weight")[-1]
        assert histogram.step == STEPS and histogram.histogram_value.num == 352 * 32
        print(f"{len(found)} values of {len(shown.Tags()['scalars'])} scalars, {len(texts)} texts, {len(tags)} histograms")


if __name__ == "__main__":
    main()
