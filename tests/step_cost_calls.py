#!/usr/bin/env python3
"""Compares the calls that benchmarks/step_cost.py counts with those in the trace of a step of train_gpt.

The run is on the CPU. Where the processor has vector instructions for bfloat16 products, it calls the same operations as a GPU.
At other instruction set levels some have CPU-specific forms: linear_qkv and qk_norm_rope_gain instead of qkv_heads, and
leaky_squared_mlp with its two products inside. The sums that autograd makes are the same everywhere, and are compared, too.
"""

import collections
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from programs import parser_of
from resume_kill import make_data

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
import step_cost

LEVELS = ("avx512bf16", "avx2")  # at most
SHAPE = {"VOCAB_SIZE": 320, "NUM_LAYERS": 5, "MODEL_DIM": 32, "NUM_HEADS": 4, "NUM_KV_HEADS": 2, "TRAIN_SEQ_LEN": 16,
         "TRAIN_BATCH_TOKENS": 256, "MICRO_BATCH_TOKENS": 64}
CHANGES = (
    {},
    {"NUM_LAYERS": 1, "TIE_EMBEDDINGS": 0, "MICRO_BATCH_TOKENS": 256},
    {"MLP_KIND": "swiglu", "RESID_MIX": 0, "OPTIMIZER": "adamw", "MATRIX_LR": 0.001},
    {"NUM_LAYERS": 4, "MLP_KIND": "swiglu", "PARALLEL_BLOCK": 1, "MICRO_BATCH_TOKENS": 128},
    {"NUM_LAYERS": 2, "PARALLEL_BLOCK": 1, "UNET_SKIPS": 0, "RESID_MIX": 0},
    {"XSA_LAST_N": 3, "SKIP_GATES_ENABLED": 1, "MUON_ROW_NORMALIZE": 1, "MUON_WD": 0.1, "EMA_DECAY": 0.9},
    {"MODEL_DIM": 64, "SMEAR_GATE": 1, "BIGRAM_VOCAB_SIZE": 100, "BIGRAM_DIM": 80, "VE_LAYERS": "0,2,4", "XSA_LAST_N": 9},
    {"NUM_LOOPS": 2, "LOOP_START": 1, "LOOP_END": 2, "ENABLE_LOOPING_AT": 0, "PARALLEL_RESIDUAL_START": 2, "XSA_LAST_N": 4,
     "MLP_KIND": "leaky_relu2", "LN_SCALE": 1, "SKIP_GATES_ENABLED": 1},
    {"NUM_LOOPS": 1, "LOOP_START": 0, "LOOP_END": 4, "ENABLE_LOOPING_AT": 0, "VE_LAYERS": "1", "RESID_MIX": 0},
    {"NUM_LAYERS": 1, "SMEAR_GATE": 1, "BIGRAM_VOCAB_SIZE": 100, "BIGRAM_DIM": 32, "VE_LAYERS": "0", "VE_DIM": 16,
     "RESID_MIX": 0},
)
OTHERS = {"PARALLEL_PASSES": 1, "VAL_BATCH_SIZE": 256, "EVAL_TOKENS": 256, "ITERATIONS": 4, "WARMUP_STEPS": 0,
          "WARMDOWN_ITERS": 0, "MAX_WALLCLOCK_SECONDS": 0, "VAL_LOSS_EVERY": 0, "DTYPE": "bfloat16", "DEVICE": "cpu",
          "NUM_THREADS": 1, "PROFILE": 1, "RUN_ID": "run"}
# What autograd adds up: gradients of activations, those of the tied embedding and head, and a micro-batch's to a step's.
SUM, TIED_SUM, INTO_GRADIENTS = "gradient sums: activations", "gradient sums: tied embedding", "AccumulateGrad"


def traced(folder, level, program, config, data, tokenizer):
    """What the profiled step called, by name, and the number of the model's parameters."""
    options = {**OTHERS, "DATA_PATH": data, "TOKENIZER_PATH": tokenizer, "OUT_DIR": folder}
    flags = [text for name, value in options.items() for text in ("--" + name.lower().replace("_", "-"), str(value))]
    kept = ("PATH", "HOME", "LD_LIBRARY_PATH", "TMPDIR", "ASAN_OPTIONS", "UBSAN_OPTIONS")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    done = subprocess.run([str(program), "--config", str(config), *flags], capture_output=True, text=True, timeout=300,
                          env={**environment, "PGOLF_CPU_LEVEL": level})
    if done.returncode != 0:
        sys.exit(f"train_gpt failed with exit status {done.returncode}:\n{done.stdout}{done.stderr}")
    events = json.loads((folder / "run/profile.json").read_text())["traceEvents"]
    events = [event for event in events if event.get("ph") == "X" and event.get("cat") in ("cpu_op", "user_annotation")]
    events.sort(key=lambda event: (event["tid"], event["ts"], -event["dur"]))
    calls, open_events = collections.Counter(), []
    for event in events:
        while open_events and (open_events[-1]["tid"] != event["tid"] or
                               open_events[-1]["ts"] + open_events[-1]["dur"] <= event["ts"]):
            open_events.pop()
        around = open_events[-1]["name"] if open_events else ""
        open_events.append(event)
        if event["cat"] == "user_annotation":
            calls[event["name"]] += 1
        elif event["name"] in ("aten::add", "aten::add_"):
            if around.startswith("autograd::engine::evaluate_function"):
                # Select: of skip_weights, whose rows are parameters of their own to the layers.
                calls[TIED_SUM if "Embedding" in around else "" if "Select" in around else SUM] += 1
            elif around.endswith("AccumulateGrad"):
                calls[INTO_GRADIENTS] += 1
    del calls[""]
    return calls, int(re.search(r"model_params:(\d+)", done.stdout).group(1))


def counted(step, as_on_a_gpu):
    """The same calls and parameters by the table."""
    rows = {row.name: row.calls for row in step.rows}
    calls = {name: rows.get(name, 0) for name in ("rms_norm", "residual_mix_norm", "residual_mix", "scaled_add",
                                                  "scaled_add_norm", "causal_attention", "exclude_value", "swiglu",
                                                  "softcap_cross_entropy", SUM)}
    # A gate is read twice, too: by 1 - g, and as g.
    calls[SUM] += rows.get("gradient sums: values", 0) + rows.get("gated skips: gate", 0)
    calls[SUM] += rows.get("smear: positions before, gate", 0)
    calls[SUM] += rows.get("gradient sums: looped parameters", 0)
    calls["leaky_squared_mlp"] = rows.get("leaky_squared", 0)
    calls["linear"] = sum(count for name, count in rows.items() if name.startswith("linear: "))
    if as_on_a_gpu:
        calls["qkv_heads"], calls["leaky_squared"] = rows["qkv_heads: product"], rows.get("leaky_squared", 0)
    else:
        calls["linear_qkv"], calls["qk_norm_rope_gain"] = rows["qkv_heads: product"], rows["qkv_heads: norm, rotation, gain"]
        calls["linear"] -= 2 * calls["leaky_squared_mlp"]
    calls["muon_update_"] = rows.get("muon_update_: products", 0)
    # The first micro-batch creates the gradients.
    calls[INTO_GRADIENTS] = (step.micro_batches - 1) * (len(step.controls()) + len(step.tables()))
    calls[TIED_SUM] = step.micro_batches if step.options["TIE_EMBEDDINGS"] else 0
    shapes = step.matrices() + step.projections() + step.tables()
    head = 0 if step.options["TIE_EMBEDDINGS"] else step.vocab * step.dim
    return calls, sum(rows * columns for rows, columns in shapes) + sum(step.controls()) + head


def problems_of(folder, changes, level, args, data, tokenizer):
    config = folder / "shape.env"
    config.write_text("".join(f"{name}={value}\n" for name, value in {**SHAPE, **changes}.items()))
    options = step_cost.read_options([config], [])
    calls, trained = traced(folder, level, args.train_gpt, config, data, tokenizer)
    expected, parameters = counted(step_cost.Step(options, step_cost.micro_batches_of(options, None)), "qkv_heads" in calls)
    problems = [f"{level}: {changes}: {name}: {calls[name]} calls in the trace, {count} in the table"
                for name, count in expected.items() if calls[name] != count]
    # muon_update_ is called for an empty list, too.
    problems = [text for text in problems if options["OPTIMIZER"] == "muon" or "muon_update_" not in text]
    unknown = set(calls) - set(expected) - {"(optimizer step)"}
    if unknown:
        problems.append(f"{level}: {changes}: in the trace, but not compared: {', '.join(sorted(unknown))}")
    if trained != parameters:
        problems.append(f"{level}: {changes}: {trained} parameters in the model, {parameters} in the table")
    return problems


def main():
    parser = parser_of(__doc__, "train_gpt", "prepare_data")
    args = parser.parse_args()
    problems = []
    with tempfile.TemporaryDirectory(prefix="step_cost_") as work:
        data, tokenizer = make_data(Path(work), args.prepare_data, SHAPE["VOCAB_SIZE"], random.Random(1))
        for level in LEVELS:
            for i, changes in enumerate(CHANGES):
                folder = Path(work) / level / str(i)
                folder.mkdir(parents=True)
                problems += problems_of(folder, changes, level, args, data, tokenizer)
    for problem in problems:
        print(problem, file=sys.stderr)
    if not problems:
        print(f"ok: the calls of {len(CHANGES)} shapes agree")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
