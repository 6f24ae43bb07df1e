#!/usr/bin/env python3
"""Opens artifacts of train_gpt in Python as the record programs open theirs, and compares the tensors with our own reader's.

    tests/artifact_in_python.py --train-gpt build/bin/train_gpt --eval-gpt build/bin/eval_gpt --prepare-data build/bin/prepare_data

Exits with 77 without PyTorch or the brotli package.
"""

import io
import lzma
import random
import tempfile
from pathlib import Path

from resume_kill import make_data
from with_packages import run, start

# Matrices of more than 65,536 elements are quantized: here those of the MLP, and with the longer vocabulary the embedding.
CONFIG = {
    "VOCAB_SIZE": 352, "NUM_LAYERS": 2, "MODEL_DIM": 192, "NUM_HEADS": 4, "NUM_KV_HEADS": 2, "TRAIN_SEQ_LEN": 32,
    "TRAIN_BATCH_TOKENS": 1024, "VAL_BATCH_SIZE": 4096, "ITERATIONS": 2, "WARMUP_STEPS": 0, "MAX_WALLCLOCK_SECONDS": 0,
    "DTYPE": "float32", "DEVICE": "cpu", "NUM_THREADS": 1, "QUANTIZER": "gptq", "GPTQ_CALIBRATION_BATCHES": 2,
}  # fmt: skip
# With what each program writes for the methods of its tensors.
RUNS = {
    "brotli": ({"COMPRESSOR": "brotli"}, {"passthrough (float16)", "gptq (int6)", "gptq (int8)"}),
    "lzma": ({"COMPRESSOR": "lzma", "GPTQ_CLIP": "search"}, {"passthrough", "int6", "int8"}),
}


def unshuffle(data):
    """The inverse of the byte shuffle; what was not shuffled stays as it is."""
    if data[:4] != b"BSHF":
        return data
    stride, data, out = data[4], data[5:], bytearray(len(data) - 5)
    begin = 0
    for first in range(stride):
        count = len(range(first, len(data), stride))
        out[first::stride] = data[begin : begin + count]
        begin += count
    return bytes(out)


def main():
    args, brotli, torch = start(__doc__, "brotli", "torch")
    decompress = {"brotli": brotli.decompress, "lzma": lzma.decompress}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        shards, tokenizer = make_data(folder, args.prepare_data, CONFIG["VOCAB_SIZE"], random.Random(1))
        for codec, (variables, methods) in RUNS.items():
            run(args.train_gpt, **CONFIG, **variables, DATA_PATH=shards, TOKENIZER_PATH=tokenizer, OUT_DIR=folder, RUN_ID=codec)
            artifact = folder / codec / "final_model.gptq.ptz"
            stored = torch.load(
                io.BytesIO(unshuffle(decompress[codec](artifact.read_bytes()))), map_location="cpu", weights_only=True
            )
            weights, found = stored["w"], stored["m"]
            kinds = {method["type"] if isinstance(method, dict) else method for method in found.values()}
            assert kinds == methods, kinds
            assert stored["pgolf_config"]["MODEL_DIM"] == "192"
            run(args.eval_gpt, "export", artifact, "--output", folder / f"{codec}.pt")
            ours = torch.load(folder / f"{codec}.pt", weights_only=True)
            assert set(ours) == set(found)
            for name, tensor in ours.items():
                if "passthrough" in found[name]:
                    value = weights[name].float()
                else:
                    codes, scale = weights[name + ".q"], weights[name + ".scale"]
                    assert codes.dtype == torch.int8 and scale.dtype == torch.float16 and len(scale) == len(codes)
                    value = codes.float() * scale.float()[:, None]
                assert torch.equal(value, tensor), name
            print(f"{codec}: {len(ours)} tensors, {artifact.stat().st_size} bytes")


if __name__ == "__main__":
    main()
