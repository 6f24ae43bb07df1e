#!/usr/bin/env python3
"""Writes rotations.safetensors: queries and keys as the models of the transformers package rotate them, for rotations_test.cpp.

    pip install torch transformers safetensors
    tests/ops/make_rotations.py tests/ops/rotations.safetensors

Each case is a model's own rotary module and function, applied to the same queries and keys at the same positions. The metadata
says which of our options it is, and in which order its dimensions are ours.
"""

import json
import sys

import torch
import transformers
from safetensors.torch import save_file
from transformers.models.gemma4 import modeling_gemma4 as gemma4
from transformers.models.glm import modeling_glm as glm
from transformers.models.gpt_neox import modeling_gpt_neox as gpt_neox
from transformers.models.gptj import modeling_gptj as gptj
from transformers.models.phi3 import modeling_phi3 as phi3

HEAD_DIM, QUERY_HEADS, KEY_HEADS = 16, 2, 1
POSITIONS = [0, 1, 2, 7, 100, 2047]
LENGTH, TRAINED = 2048, 512
SIZES = {"hidden_size": HEAD_DIM * QUERY_HEADS, "num_attention_heads": QUERY_HEADS, "max_position_embeddings": LENGTH}


def rotary(module, config, q, k, **more):
    """With the module's RotaryEmbedding and apply_rotary_pos_emb."""
    [embedding] = [getattr(module, name) for name in dir(module) if name.endswith("RotaryEmbedding") and "Vision" not in name]
    cos, sin = embedding(config)(q, torch.tensor([POSITIONS]), **more)
    return module.apply_rotary_pos_emb(q, k, cos, sin)


def with_rope(module, kind, q, k, dims, base, **rope):
    parameters = {"rope_type": "default", "rope_theta": base, "partial_rotary_factor": dims / HEAD_DIM, **rope}
    length = TRAINED if rope.get("rope_type") == "dynamic" else LENGTH
    config = kind(**{**SIZES, "max_position_embeddings": length}, head_dim=HEAD_DIM, rope_parameters=parameters)
    return rotary(module, config, q, k)


def neox(q, k, dims, base, **rope):
    return with_rope(gpt_neox, transformers.GPTNeoXConfig, q, k, dims, base, **rope)


def phi(q, k, dims, base):
    return with_rope(phi3, transformers.Phi3Config, q, k, dims, base)


def chatglm(q, k, dims, base):
    return with_rope(glm, transformers.GlmConfig, q, k, dims, base)


def gpt_j(q, k, dims, base):
    assert base == 10000
    config = transformers.GPTJConfig(n_embd=HEAD_DIM * QUERY_HEADS, n_head=QUERY_HEADS, n_positions=LENGTH, rotary_dim=dims)
    sin, cos = gptj.GPTJRotaryEmbedding(config)(q, torch.tensor([POSITIONS]))

    def rotated(x):
        x = x.transpose(1, 2)  # its heads come after the positions
        out = torch.cat([gptj.apply_rotary_pos_emb(x[..., :dims], sin, cos), x[..., dims:]], dim=-1)
        return out.transpose(1, 2)

    return rotated(q), rotated(k)


def gemma(q, k, dims, base):
    config = transformers.Gemma4TextConfig(
        num_hidden_layers=2, layer_types=["sliding_attention", "full_attention"], head_dim=HEAD_DIM, global_head_dim=HEAD_DIM,
        hidden_size=HEAD_DIM * QUERY_HEADS, num_attention_heads=QUERY_HEADS, num_key_value_heads=KEY_HEADS,
        rope_parameters={
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            "full_attention": {"rope_type": "proportional", "rope_theta": base, "partial_rotary_factor": dims / HEAD_DIM},
        },
    )  # fmt: skip
    cos, sin = gemma4.Gemma4TextRotaryEmbedding(config)(q, torch.tensor([POSITIONS]), "full_attention")
    return gemma4.apply_rotary_pos_emb(q, cos, sin), gemma4.apply_rotary_pos_emb(k, cos, sin)


def cases():
    """Name, function and its arguments, our options."""
    for dims in (2, 4, 12, 16):
        yield f"gpt_neox-{dims}", neox, (dims, 10000.0), {}
        yield f"gptj-{dims}", gpt_j, (dims, 10000), {"ROPE_STYLE": "interleaved"}
        yield f"phi3-{dims}", phi, (dims, 500000.0), {"ROPE_BASE": 500000.0}
        yield f"glm-{dims}", chatglm, (dims, 10000.0), {"ROPE_STYLE": "interleaved"}
        yield f"gemma4-{dims}", gemma, (dims, 1000000.0), {"ROPE_SELECT": "high", "ROPE_BASE": 1000000.0}
    for dims in (4, 16):
        linear = {"rope_type": "linear", "factor": 4.0}
        yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": TRAINED}
        # Its factor grows with the length: 2 * 2048/512 - (2 - 1).
        dynamic = {"rope_type": "dynamic", "factor": 2.0}
        yield f"gpt_neox-linear-{dims}", neox, (dims, 10000.0, linear), {"ROPE_SCALING": "linear", "ROPE_SCALING_FACTOR": 4.0}
        yield f"gpt_neox-yarn-{dims}", neox, (dims, 10000.0, yarn), {
            "ROPE_SCALING": "yarn", "ROPE_SCALING_FACTOR": 4.0, "ROPE_ORIGINAL_SEQ_LEN": TRAINED}  # fmt: skip
        yield f"gpt_neox-dynamic-{dims}", neox, (dims, 10000.0, dynamic), {"ROPE_SCALING": "ntk", "ROPE_SCALING_FACTOR": 7.0}


def main():
    generator = torch.Generator().manual_seed(1)
    q = torch.randn(1, QUERY_HEADS, len(POSITIONS), HEAD_DIM, generator=generator)
    k = torch.randn(1, KEY_HEADS, len(POSITIONS), HEAD_DIM, generator=generator)
    tensors = {"q": q, "k": k, "positions": torch.tensor(POSITIONS)}
    metadata = {"transformers": transformers.__version__}
    for name, rotate, (dims, base, *rope), options in cases():
        tensors[name + ".q"], tensors[name + ".k"] = rotate(q, k, dims, base, **(rope[0] if rope else {}))
        metadata[name] = json.dumps({"ROPE_DIMS": dims} | options)
    save_file({key: value.contiguous() for key, value in tensors.items()}, sys.argv[1], metadata)


if __name__ == "__main__":
    main()
