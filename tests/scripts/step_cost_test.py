#!/usr/bin/env python3
"""benchmarks/step_cost.py: its sums against independent formulas, and what it rejects. tests/step_cost_calls.py compares its
calls with those of a run."""

import json
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from sandbox import SandboxTest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "benchmarks/step_cost.py"
BASELINE = {"VOCAB_SIZE": 1024, "NUM_LAYERS": 9, "MODEL_DIM": 512, "NUM_HEADS": 8, "NUM_KV_HEADS": 4, "MLP_MULT": 2,
            "TRAIN_SEQ_LEN": 1024, "TRAIN_BATCH_TOKENS": 524288}
SHAPES = (
    {},
    {"NUM_LAYERS": 1, "TIE_EMBEDDINGS": 0},
    {"NUM_LAYERS": 12, "MODEL_DIM": 768, "NUM_HEADS": 12, "NUM_KV_HEADS": 12, "MLP_MULT": 4, "UNET_SKIPS": 0},
    {"MODEL_DIM": 256, "NUM_HEADS": 4, "NUM_KV_HEADS": 1, "MLP_KIND": "swiglu", "VOCAB_SIZE": 32768, "PARALLEL_BLOCK": 1},
    {"TRAIN_SEQ_LEN": 4096, "RESID_MIX": 0, "OPTIMIZER": "adamw", "MICRO_BATCH_TOKENS": 131072, "CUDA_GRAPHS": "off"},
    {"XSA_LAST_N": 4, "SMEAR_GATE": 1, "BIGRAM_VOCAB_SIZE": 3072, "BIGRAM_DIM": 96, "VE_LAYERS": "7,8", "VE_DIM": 128},
)


class StepCost(SandboxTest):
    def run_with(self, options=(), *arguments):
        settings = [word for name, value in dict(options).items() for word in ("--set", f"{name}={value}")]
        return self.run_script(PROGRAM, *settings, *arguments)

    def cost(self, options=(), *arguments):
        result = self.run_with(options, "--json", self.root / "cost.json", *arguments)
        self.assertEqual(result.returncode, 0, result.stderr)
        return json.loads((self.root / "cost.json").read_text())

    def rows(self, options=(), *arguments):
        return {row["operation"]: row for row in self.cost(options, *arguments)["rows"]}

    def test_flops_are_those_of_bench_step_and_the_scores_computed_anew(self):
        for shape in SHAPES:
            with self.subTest(shape):
                m = {**BASELINE, **shape}
                dim, layers, length = m["MODEL_DIM"], m["NUM_LAYERS"], m["TRAIN_SEQ_LEN"]
                kv = m["NUM_KV_HEADS"] * dim // m["NUM_HEADS"]
                mlp_matrices = 3 if m.get("MLP_KIND") == "swiglu" else 2
                # flops_per_token of benchmarks/bench_step.cpp.
                block = 2 * dim * dim + 2 * dim * kv + mlp_matrices * dim * dim * m["MLP_MULT"]
                projections = dim * m.get("BIGRAM_DIM", 0) + kv * m.get("VE_DIM", 0)
                matrices = layers * block + projections + dim * m["VOCAB_SIZE"]
                model = 6 * (matrices + layers * dim * length) * m["TRAIN_BATCH_TOKENS"]
                # Of five products in attention's backward pass one repeats the forward's.
                recomputed = layers * dim * length * m["TRAIN_BATCH_TOKENS"]
                cost = self.cost(shape)
                counted = sum(row["flops"] for row in cost["rows"] if row["group"] != "update")
                self.assertAlmostEqual(counted / (model + recomputed), 1, 12)
                self.assertAlmostEqual(cost["model_flops"] / model, 1, 12)

    def test_flops_of_muon_are_those_of_bench_ops(self):
        flops = sum(9 * 5 * (4 * low * low * wide + 2 * low**3)
                    for low, wide in ((512, 512), (256, 512), (256, 512), (512, 512), (512, 1024), (512, 1024)))
        self.assertEqual(self.rows()["muon_update_: products"]["flops"], flops)
        self.assertNotIn("muon_update_: products", self.rows({"OPTIMIZER": "adamw"}))

    def test_bytes_are_those_of_the_tensors(self):
        rows, passes, tokens, dim, layers = self.rows(), 8, 65536, 512, 9
        stream, rstd = 2 * tokens * dim, 4 * tokens
        mix = rows["residual_mix_norm"]
        self.assertEqual(mix["calls"], layers * passes)
        self.assertEqual(mix["forward_bytes"], mix["calls"] * (4 * stream + rstd + 12 * 2 * dim))
        # The partial sums of 1024 teams, for two parameters of one number per channel: written, read, added up.
        self.assertEqual(mix["backward_bytes"], mix["calls"] * (7 * stream + rstd + (2 * 1024 + 1) * 4 * 2 * dim))
        up = rows["linear: MLP up"]
        weight, hidden = 2 * dim * dim, 2 * stream  # elements; bytes
        self.assertEqual(up["forward_bytes"], up["calls"] * (stream + 2 * weight + hidden))
        self.assertEqual(up["backward_bytes"], up["calls"] * (hidden + 2 * weight + stream + hidden + stream + 2 * 4 * weight))
        self.assertEqual(rows["leaky_squared"]["backward_bytes"], up["calls"] * 3 * hidden)
        self.assertEqual(rows["gradient sums: activations"]["backward_bytes"], passes * (layers + 4) * 3 * stream)
        # Of what a step does once: every gradient is zeroed by one write, and read for its norm.
        gradients = 4 * (17059912 - 1024 * dim) + 2 * 1024 * dim
        self.assertEqual(rows["zeroing of gradients"]["update_bytes"], gradients)
        self.assertEqual(rows["gradient norms"]["update_bytes"], gradients)

    def test_bytes_of_what_records_add(self):
        extras = {"XSA_LAST_N": 4, "SKIP_GATES_ENABLED": 1, "SMEAR_GATE": 1, "BIGRAM_VOCAB_SIZE": 3072, "VE_LAYERS": "7,8",
                  "MUON_ROW_NORMALIZE": 1, "MUON_WD": 0.1, "EMA_DECAY": 0.99}
        plain, rows, passes, tokens, dim, kv_dim = self.rows(), self.rows(extras), 8, 65536, 512, 256
        stream, values = 2 * tokens * dim, 2 * tokens * kv_dim
        exclude = rows["exclude_value"]
        self.assertEqual(exclude["calls"], 4 * passes)
        self.assertEqual(exclude["forward_bytes"], exclude["calls"] * (2 * stream + values))
        self.assertEqual(exclude["backward_bytes"], exclude["calls"] * (3 * stream + 2 * values))
        self.assertEqual(rows["gradient sums: values"]["backward_bytes"], passes * (4 + 1) * 3 * values)
        mix = rows["residual_mix"]  # four skips and the smear
        self.assertEqual(mix["calls"], 5 * passes)
        self.assertEqual(mix["forward_bytes"], mix["calls"] * (3 * stream + 12 * 2 * dim))
        self.assertEqual(plain["scaled_add"]["calls"] - rows["scaled_add"]["calls"], 4 * passes)
        self.assertEqual(rows["values' embedding: scale, sum"]["forward_bytes"], 2 * passes * (6 + 5 * values))
        # Tables in bfloat16 and their projections, gates and scales in float32; averages of all of them in float32.
        tables, floats = 3072 * 128 + 1024 * 128, 128 * (dim + kv_dim) + (4 + 1) * dim + 4
        added = rows["zeroing of gradients"]["update_bytes"] - plain["zeroing of gradients"]["update_bytes"]
        self.assertEqual(added, 2 * tables + 4 * floats)
        parameters = 17059912 + tables + floats
        self.assertEqual(rows["EMA"]["update_bytes"], 5 * 4 * parameters + 6 * (tables + 1024 * dim))
        matrices = 9 * (3 * dim * dim + 4 * dim * dim)  # elements; rows: q, k, v, projection, up, down
        around = "muon_update_: element by element"
        added = rows[around]["update_bytes"] - plain[around]["update_bytes"]
        self.assertEqual(added, 4 * (3 + 2) * matrices + 4 * 4 * 9 * (dim + kv_dim + kv_dim + dim + 2 * dim + dim))

    def test_without_graphs_the_first_pass_makes_the_gradients(self):
        recorded, made = self.rows(), self.rows({"CUDA_GRAPHS": "off"})
        self.assertNotIn("zeroing of gradients", made)
        up = "linear: MLP up"
        self.assertEqual(recorded[up]["backward_bytes"] - made[up]["backward_bytes"], 9 * 4 * 2 * 512 * 512)

    def test_an_operation_takes_the_larger_of_its_times(self):
        rates = ("--bandwidth", "2", "--efficiency", "0.5", "--matrix", "100", "--attention-forward", "50",
                 "--attention-backward", "25", "--launch", "10")
        cost = self.cost({}, *rates)
        rows = {row["operation"]: row for row in cost["rows"]}
        swap = rows["leaky_squared"]
        self.assertEqual(swap["bound"], "memory")
        self.assertAlmostEqual(swap["ms"], (swap["forward_bytes"] + swap["backward_bytes"]) / 1e12 * 1e3)
        up = rows["linear: MLP up"]
        self.assertEqual(up["bound"], "matrix")
        self.assertAlmostEqual(up["ms"], up["flops"] / 100e12 * 1e3)
        attention = rows["causal_attention"]
        self.assertAlmostEqual(attention["ms"], attention["flops"] / 3.5 * (1 / 50e12 + 2.5 / 25e12) * 1e3)
        self.assertAlmostEqual(cost["sums_ms"]["launches"], cost["kernels"] * 10e-3)
        self.assertAlmostEqual(cost["step_ms"], sum(row["ms"] for row in cost["rows"]) + cost["kernels"] * 10e-3)

    def test_options_come_from_files_and_then_from_set(self):
        config = self.root / "shape.env"
        config.write_text("# a comment\nNUM_LAYERS=4 # of ours\nMODEL_DIM=\"256\"\nNUM_HEADS=4\nDATA_PATH=./some where\n")
        options = self.cost({"NUM_LAYERS": 3}, "--config", config, "--micro-batches", "2")["options"]
        self.assertEqual([options[name] for name in ("NUM_LAYERS", "MODEL_DIM", "NUM_HEADS", "VOCAB_SIZE")], [3, 256, 4, 1024])
        self.assertEqual(self.cost({"MICRO_BATCH_TOKENS": 262144})["passes"], 2)
        self.assertEqual(self.cost({}, "--config", ROOT / "configs/baseline.env"), self.cost())

    def test_the_table_says_that_it_is_a_prediction(self):
        result = self.run_with()
        self.assertIn("ASSUMED rates: 3.35 TB/s", result.stdout)
        self.assertIn("A prediction; no device has been measured", result.stdout)
        self.assertLessEqual(max(map(len, result.stdout.splitlines())), 130)

    def test_what_is_not_counted_and_wrong_usage_are_refused_in_one_line(self):
        bad = self.root / "bad.env"
        bad.write_text("NUM_LAYERS=4\nNORM_WEIGHTS=1\n")
        for arguments, expected in (
            (("--set", "MLP_KIND=gelu"), "MLP_KIND=gelu is not supported, only relu2 or leaky_relu2 or swiglu"),
            (("--set", "DTYPE=float32"), "DTYPE=float32 is not supported, only auto or bfloat16"),
            (("--set", "CONTROL_TENSOR_NAME_PATTERNS=proj"), "CONTROL_TENSOR_NAME_PATTERNS=proj is not supported; remove it"),
            (("--config", bad), "bad.env:2: NORM_WEIGHTS=1 is not supported"),
            (("--set", "NUM_LAYER=4"), "NUM_LAYER"),
            (("--set", "NUM_LAYERS"), "NAME=VALUE"),
            (("--set", "NUM_LAYERS=none"), "NUM_LAYERS must be a number, not none"),
            (("--set", "NUM_LAYERS=0"), "at least 1"),
            (("--set", "MODEL_DIM=500"), "MODEL_DIM=500"),
            (("--set", "UNET_SKIPS=0", "--set", "SKIP_GATES_ENABLED=1"), "SKIP_GATES_ENABLED=1: there are no skip connections"),
            (("--set", "VE_LAYERS=1;2"), "VE_LAYERS takes numbers separated by commas, not 1;2"),
            (("--set", "VE_LAYERS=3,9"), "VE_LAYERS=3,9 must be different blocks, from 0 to 8"),
            (("--set", "VE_LAYERS=3,3"), "VE_LAYERS=3,3 must be different blocks"),
            (("--set", "NUM_LOOPS=2"), "NUM_LOOPS needs LOOP_START and LOOP_END"),
            (("--set", "MODEL_DIM=8192"), "more than the fused kernels support"),
            (("--set", "TRAIN_BATCH_TOKENS=1000"), "multiple of 8 * TRAIN_SEQ_LEN=1024"),
            (("--set", "MICRO_BATCH_TOKENS=1000"), "MICRO_BATCH_TOKENS=1000"),
            (("--micro-batches", "3"), "--micro-batches must be 1, 2, 4 or 8, not 3"),
            (("--bandwidth", "fast"), "--bandwidth"),
            (("--matrix", "0"), "rates must be above 0"),
            (("--efficiency", "1.5"), "at most 1"),
            (("--device-rates", "abacus"), "abacus"),
            (("--config", self.root / "absent.env"), "absent.env: No such file"),
            (("--json", self.root / "absent/cost.json"), "cannot write"),
            (("--cpu",), "--cpu"),
        ):
            with self.subTest(arguments):
                result = self.run_script(PROGRAM, *arguments)
                self.assertEqual(result.returncode, 2)
                self.assertEqual(result.stdout, "")
                self.assertEqual(len(result.stderr.splitlines()), 1, result.stderr)
                self.assertTrue(result.stderr.startswith("step_cost: "), result.stderr)
                self.assertIn(expected, result.stderr)


if __name__ == "__main__":
    unittest.main()
