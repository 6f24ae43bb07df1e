#!/usr/bin/env python3
"""Checks that the arms of a sweep over RoPE options start out equal: bit-identical initial weights, and the same tokens in
the same order.

Weights: runs of zero steps store them; every tensor of final_model.pt is compared. Tokens: the projections back to the residual
stream start at zero, so the loss of the first step depends on tokens and weights but not on the rotation, and must agree to
the last bit; and checkpoints record how far in the data a run is. Later losses must differ, as the arms are different models.
"""

import json
import struct
import sys
import zipfile

from sweep_testing import arguments, in_folder

ARMS = (("--rope-dims", "none,2,6,full"), ("--rope-layers", "full,none"), ("--rope-select", "high", "--rope-dims", "6"))


def weights(run):
    with zipfile.ZipFile(run / "final_model.pt") as archive:
        return {name: archive.read(name) for name in archive.namelist() if "/data/" in name}


def train_losses(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["train_loss"] for line in lines if line["kind"] == "train"]


def place_in_data(run):
    """Of the newest checkpoint: file and position of the next token."""
    path = sorted((run / "checkpoints").glob("*.safetensors"))[-1]
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    state = json.loads(header["__metadata__"]["state"])
    return state["loader_file"], state["loader_position"]


def one_seed(folder, seed):
    return sorted(run for run in folder.glob(f"*seed-{seed}-*") if run.is_dir())


def prove(sweep):
    problems = []
    for varied in ARMS:
        sweep.run("start", *varied, "--seed", "1,2", steps=0)
        sweep.run("trained", *varied, "--seed", "1,2", steps=8)
    stored = {seed: [weights(run) for run in one_seed(sweep.work / "start", seed)] for seed in (1, 2)}
    if [len(runs) for runs in stored.values()] != [6, 6] or len(stored[1][0]) < 10:
        problems.append("expected 6 runs per seed, with at least 10 tensors each")
    for seed, runs in stored.items():
        if any(run != runs[0] for run in runs):
            problems.append(f"initial weights differ between arms, seed {seed}")
    if stored[1][0] == stored[2][0]:
        problems.append("stored weights are the same for both seeds, so they are not the initial weights")

    for seed in (1, 2):
        runs = one_seed(sweep.work / "trained", seed)
        losses = [train_losses(run) for run in runs]
        if len(runs) != 6 or any(len(values) != 8 for values in losses):
            problems.append(f"expected 6 runs of 8 steps, seed {seed}")
        if len({values[0] for values in losses}) != 1:
            problems.append(f"the first step's loss differs between arms, seed {seed}: {[values[0] for values in losses]}")
        if len({values[-1] for values in losses}) != len(losses):
            problems.append(f"arms of seed {seed} do not all end with different losses: {[values[-1] for values in losses]}")
        places = {place_in_data(run) for run in runs}
        if len(places) != 1:
            problems.append(f"after 8 steps the arms of seed {seed} are at different places in the data: {places}")
    if not problems:
        print("ok: 6 arms start with the same weights and tokens, for each of 2 seeds")
    return problems


if __name__ == "__main__":
    sys.exit(in_folder(arguments(__doc__).parse_args(), prove))
