#!/usr/bin/env python3
"""Cuts the beginning of a dataset into one training and one validation shard.

    cut_shards.py DATASET OUT TRAIN_TOKENS VAL_TOKENS SECONDS TOKENS_PER_SECOND

DATASET is a folder with fineweb_train_*.bin and fineweb_val_*.bin: 256 little-endian int32 (20240520, 1, number of tokens,
zeros), then one uint16 per token. Shards are read in order until there are enough tokens. Prints how many epochs SECONDS of
training at TOKENS_PER_SECOND would be.
"""

import array
import pathlib
import struct
import sys

HEADER_BYTES = 1024
VOCABULARY = 1024  # of the baseline


def read_shards(files, limit):
    tokens = array.array("H")
    for path in files:
        if len(tokens) == limit:
            break
        with open(path, "rb") as file:
            header = file.read(HEADER_BYTES)
            if len(header) < HEADER_BYTES or struct.unpack_from("<2i", header) != (20240520, 1):
                sys.exit(f"cut_shards: error: {path} is not a shard")
            stored = struct.unpack_from("<i", header, 8)[0]
            wanted = min(stored, limit - len(tokens))
            part = array.array("H", file.read(2 * wanted))
            if len(part) < wanted:
                sys.exit(f"cut_shards: error: {path} ends before its {stored:,} tokens")
        tokens += part
    if tokens and max(tokens) >= VOCABULARY:
        sys.exit(f"cut_shards: error: {files[0].parent} has token {max(tokens)}, but the baseline's vocabulary is {VOCABULARY:,}")
    return tokens


def write_shard(path, tokens):
    with open(path, "wb") as file:
        file.write(struct.pack("<3i", 20240520, 1, len(tokens)).ljust(HEADER_BYTES, b"\0"))
        tokens.tofile(file)


def main():
    dataset, out = map(pathlib.Path, sys.argv[1:3])
    train_limit, val_limit, seconds, speed = map(int, sys.argv[3:])
    counts = []
    for kind, limit in (("train", train_limit), ("val", val_limit)):
        files = sorted(dataset.glob(f"fineweb_{kind}_*.bin"))
        if not files:
            sys.exit(f"cut_shards: error: {dataset} has no fineweb_{kind}_*.bin")
        tokens = read_shards(files, limit)
        write_shard(out / f"fineweb_{kind}_000000.bin", tokens)
        counts.append(len(tokens))
    train, val = counts
    if train == 0 or val == 0:
        sys.exit(f"cut_shards: error: {dataset} is empty")
    epochs = seconds * speed / train
    print(f"{train:,} training and {val:,} validation tokens from {dataset}")
    if train < train_limit:
        print(f"warning: the dataset has no more training tokens; {train_limit:,} would fit")
    print(f"{seconds} s of training would be about {epochs:.1f} epochs at {speed:,} tokens/s (assumed, not measured)")


if __name__ == "__main__":
    main()
