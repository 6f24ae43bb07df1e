#!/usr/bin/env python3
"""Writes tests/model_io/pickles/: the data.pkl of torch.save for what a trainer saves, in pickle protocols 2 to 5.

    python3 tests/model_io/make_pickles.py     # needs PyTorch and NumPy; recorded with 2.11 and 2.4 under Python 3.11

Only the pickles: unwrap_test.cpp puts them into archives, with the weights of the smallest model of damaged_files_test.cpp as
storages 0 to 11, in the order of its state dict, and four float32 for each of the optimizer's.
"""

import argparse
import io
import pathlib
import zipfile
from collections import OrderedDict

import numpy
import torch

SHAPES = {
    "skip_weights": [0, 4], "tok_emb.weight": [4, 4], "blocks.0.attn_scale": [4], "blocks.0.mlp_scale": [4],
    "blocks.0.resid_mix": [2, 4], "blocks.0.attn.q_gain": [2], "blocks.0.attn.c_q.weight": [4, 4],
    "blocks.0.attn.c_k.weight": [2, 4], "blocks.0.attn.c_v.weight": [2, 4], "blocks.0.attn.proj.weight": [4, 4],
    "blocks.0.mlp.fc.weight": [4, 4], "blocks.0.mlp.proj.weight": [4, 4],
}  # fmt: skip


def checkpoint():
    weights = OrderedDict((f"model._orig_mod.{name}", torch.zeros(shape)) for name, shape in SHAPES.items())
    weights._metadata = OrderedDict({"": {"version": 1}})
    betas = (0.9, 0.95)
    moments = {0: {"step": 7, "exp_avg": torch.zeros(4)}, 1: {"step": 7, "exp_avg": torch.zeros(4)}}
    groups = [{"lr": numpy.float64(0.1), "betas": betas, "params": [0]}, {"lr": 0.2, "betas": betas, "params": [1]}]
    return {
        "epoch": 3,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": weights,
        "callbacks": {"ModelCheckpoint": {"path": pathlib.PurePosixPath("a/b"), "best": {0.5: "x"}, "seen": {1, 2}}},
        "optimizer_states": [{"state": moments, "param_groups": groups}],
        "hyper_parameters": argparse.Namespace(lr=0.1, dtype=torch.bfloat16, seed=2**70, note=b"bytes"),
    }


folder = pathlib.Path(__file__).parent / "pickles"
for protocol in (2, 3, 4, 5):
    file = io.BytesIO()
    torch.save(checkpoint(), file, pickle_protocol=protocol)
    (folder / f"lightning.protocol{protocol}.pkl").write_bytes(zipfile.ZipFile(file).read("archive/data.pkl"))
