#!/usr/bin/env python3
"""Counts the bytes and FLOPs of one optimizer step on a GPU, operation by operation, and predicts its time from assumed rates.

    benchmarks/step_cost.py --config configs/baseline.env --device-rates h100
    benchmarks/step_cost.py --set MODEL_DIM=768 --set NUM_HEADS=12 --bandwidth 2.0 --matrix 250 --json cost.json

Nothing runs on a GPU. Options come from --config files and --set, with train_gpt's names and defaults; the environment is not
read. It counts OPS=fast in bfloat16 on one CUDA device, by these rules:

- Every kernel and every product reads each of its operands once and writes each of its results once. Nothing stays in a cache
  between two kernels, and no tile is read twice within one.
- Weights count like activations: casting them once per step, reading the casts in products, and their float32 gradients, which
  every micro-batch reads and writes (new ones are only written). Partial sums, the saved 1/rms of norms, and the gradients that
  autograd sums count, too.
- FLOPs are those of matrix products and attention, two per multiply-add. Attention counts its causal half; its backward pass
  recomputes the scores, so it has 2.5 times the FLOPs of its forward pass. Other arithmetic is assumed to overlap with memory
  traffic.
- A kernel takes the larger of its memory time and its matrix time. The cost of launching the kernels is added at the end.
- Not counted: rotation tables, scalars, workspaces of library kernels (attention's backward pass has a large one), gaps in which
  the GPU waits for the host, and copying the tokens to the GPU. The numbers of kernels in the backward passes of embedding and
  attention are estimates.
"""

import argparse
import dataclasses
import json
import math
import pathlib
import sys

from step_options import UsageError, micro_batches_of, read_options

# ASSUMED. Bandwidth from the data sheets; efficiency and FLOP/s are what large kernels are expected to reach.
RATES = {
    "h100": {"bandwidth": 3.35, "matrix": 530, "attention_forward": 280, "attention_backward": 220, "efficiency": 0.8},
    "h200": {"bandwidth": 4.8, "matrix": 530, "attention_forward": 280, "attention_backward": 220, "efficiency": 0.8},
}
LAUNCH_US = 2.0

BF16, FLOAT, LONG = 2, 4, 8  # bytes


class Parser(argparse.ArgumentParser):
    def error(self, message):
        raise UsageError(message)


def main():
    try:
        run(sys.argv[1:])
    except UsageError as error:
        print(f"step_cost: {error}", file=sys.stderr)
        sys.exit(2)


def run(arguments):
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--config", action="append", default=[], metavar="FILE", help="as for train_gpt; later files win")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a train_gpt option; wins over files")
    parser.add_argument("--micro-batches", type=int, help="micro-batches per step, instead of MICRO_BATCH_TOKENS: 1, 2, 4 or 8")
    parser.add_argument("--device-rates", choices=RATES, default="h100", help="assumed rates; each option below replaces one")
    parser.add_argument("--bandwidth", type=float, help="memory bandwidth, TB/s")
    parser.add_argument("--efficiency", type=float, help="fraction of the bandwidth that kernels reach, above 0 and at most 1")
    parser.add_argument("--matrix", type=float, help="TFLOP/s of matrix products")
    parser.add_argument("--attention-forward", type=float, help="TFLOP/s of attention's forward pass")
    parser.add_argument("--attention-backward", type=float, help="TFLOP/s of attention's backward pass")
    parser.add_argument("--launch", type=float, default=LAUNCH_US, help="launch overhead per kernel, microseconds")
    parser.add_argument("--json", help="also write the table to this file")
    given = parser.parse_args(arguments)

    rates = dict(RATES[given.device_rates], launch=given.launch)
    rates.update({name: getattr(given, name) for name in RATES["h100"] if getattr(given, name) is not None})
    if not all(math.isfinite(rate) and rate > 0 for name, rate in rates.items() if name != "launch") or not rates["launch"] >= 0:
        raise UsageError("rates must be above 0, and --launch at least 0")
    if rates["efficiency"] > 1:
        raise UsageError(f"--efficiency is a fraction of the bandwidth, at most 1, not {rates['efficiency']:g}")
    options = read_options(given.config, given.set)
    step = Step(options, micro_batches_of(options, given.micro_batches))
    report = Report(step, rates)
    if given.json:
        try:
            pathlib.Path(given.json).write_text(json.dumps(report.as_json(), indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise UsageError(f"cannot write {given.json}: {error.strerror}") from None
    report.print()


@dataclasses.dataclass
class Kernel:
    """One kernel, or several small ones that are launched one after the other."""
    bytes: float
    launches: float = 1
    flops: float = 0
    rate: str = "matrix"  # of its flops

    def times(self, rates):
        """Seconds for its bytes, and for its flops."""
        return self.bytes / (rates["bandwidth"] * 1e12 * rates["efficiency"]), self.flops / (rates[self.rate] * 1e12)


@dataclasses.dataclass
class Row:
    name: str
    group: str
    calls: int  # a step
    forward: list
    backward: list
    once: list  # per step, not per micro-batch

    def kernels(self):
        return self.forward + self.backward + self.once


def product(rows, columns, depth, result=BF16, count=1):
    """[rows, depth] times [depth, columns]; result: bytes an element, twice that if it is added to."""
    return Kernel(count * (BF16 * depth * (rows + columns) + result * rows * columns), flops=2.0 * count * rows * columns * depth)


def tensors(*sizes):
    """A kernel that reads or writes these, in bytes."""
    return Kernel(sum(sizes))


def foreach(sizes, depth, bytes_per_element):
    """One of LibTorch's operations on lists of tensors: some tensors and some chunks fit into a launch."""
    chunks, tensors_at_once = sum(math.ceil(size / 65536) for size in sizes), (110, 64, 48, 36)[depth - 1]
    return Kernel(bytes_per_element * sum(sizes), launches=max(math.ceil(len(sizes) / tensors_at_once), math.ceil(chunks / 320)))


def rounded_parameter(size):
    """To bfloat16 and back."""
    return Kernel((2 * FLOAT + 2 * BF16) * size, launches=2)


class Step:
    """The operations of a step, in the order in which the model calls them."""

    def __init__(self, options, micro_batches):
        self.options, self.micro_batches, self.rows = options, micro_batches, []
        self.graphs = options["CUDA_GRAPHS"] != "off"
        self.tokens = options["TRAIN_BATCH_TOKENS"] // micro_batches  # of a micro-batch
        self.dim, self.layers, self.vocab = options["MODEL_DIM"], options["NUM_LAYERS"], options["VOCAB_SIZE"]
        self.heads, self.kv_heads = options["NUM_HEADS"], options["NUM_KV_HEADS"]
        self.kv_dim, self.hidden = self.dim // self.heads * self.kv_heads, int(options["MLP_MULT"] * self.dim)
        passes = self.order()
        self.passes = len(passes)
        self.skips = self.passes // 2 if options["UNET_SKIPS"] else 0
        self.gated = self.skips if options["SKIP_GATES_ENABLED"] else 0
        self.exclusive = sum(layer >= self.layers - options["XSA_LAST_N"] for layer in passes)
        self.value_layers = len(options["VE_LAYERS"])
        self.value_passes = sum(layer in options["VE_LAYERS"] for layer in passes)
        start = 0 if options["PARALLEL_BLOCK"] else options["PARALLEL_RESIDUAL_START"]
        self.parallel = sum(0 <= start <= layer for layer in passes)
        self.stream = BF16 * self.tokens * self.dim  # bytes of a [tokens, dim] activation
        self.values = BF16 * self.tokens * self.kv_dim  # of attention's values
        self.rstd = FLOAT * self.tokens
        # Without CUDA graphs a step's first micro-batch finds no gradients: it writes them without reading.
        self.sums = 1 if self.graphs else (micro_batches - 1) / micro_batches
        self.embedding()
        self.blocks()
        self.head_and_loss()
        self.gradient_sums()
        self.once_a_step()

    def order(self):
        """The block of each pass, with all loops (include/pgolf/config/block_order.h)."""
        blocks, options = list(range(self.layers)), self.options
        loop = blocks[options["LOOP_START"]:options["LOOP_END"] + 1] if options["NUM_LOOPS"] else []
        return [*blocks[:options["LOOP_END"] + 1], *loop * options["NUM_LOOPS"], *blocks[options["LOOP_END"] + 1:]]

    def add(self, name, group, calls, forward=(), backward=()):
        """calls: per micro-batch."""
        if calls > 0:
            self.rows.append(Row(name, group, calls * self.micro_batches, list(forward), list(backward), []))

    def add_once(self, name, *kernels):
        self.rows.append(Row(name, "update", 1, [], [], list(kernels)))

    def embedding(self):
        self.lookup("embedding", self.vocab, self.dim, tied=self.options["TIE_EMBEDDINGS"])
        if self.options["BIGRAM_VOCAB_SIZE"] > 0:
            self.bigrams()
        blocks_norms = 0 if self.options["RESID_MIX"] else self.passes
        self.add("rms_norm", "memory", 2 + blocks_norms, [tensors(2 * self.stream, self.rstd)],
                 [tensors(3 * self.stream, self.rstd)])
        if self.options["SMEAR_GATE"]:  # zeros, and all positions but the last; back: zeros, and the same copied into them
            self.add("smear: positions before, gate", "memory", 1, [tensors(2 * self.stream), self.gate(10, 4)],
                     [tensors(self.stream), tensors(2 * self.stream), self.gate(8, 3)])
        if self.value_layers > 0:
            self.value_embedding()

    def lookup(self, name, rows, width, tied=False):
        """Of each token, or pair of tokens, in a bfloat16 table."""
        table, looked_up, result = BF16 * rows * width, min(self.tokens, rows), BF16 * self.tokens * width
        # LibTorch sorts the tokens, sums up to ten rows at a time in float32, and then those sums.
        parts = FLOAT * (self.tokens // 10 + looked_up) * width
        backward = [Kernel(result + 2 * parts + 2 * table + 6 * LONG * self.tokens, launches=16)]
        if tied:
            backward.append(tensors(3 * table))  # and the head's gradient
        backward.append(Kernel(3 * table * self.sums, launches=self.sums))  # into the step's
        self.add(name, "memory", 1, [tensors(LONG * self.tokens, BF16 * looked_up * width, result)], backward)

    def bigrams(self):
        rows, width = self.options["BIGRAM_VOCAB_SIZE"], self.options["BIGRAM_DIM"]
        # Two products, their exclusive or, the remainder, the first position's row, and the join of both.
        self.add("bigrams: hash", "memory", 1, [Kernel(11 * LONG * self.tokens, launches=6)])
        self.lookup("bigrams: embedding", rows, width)
        self.projection("bigrams' projection", self.dim, width)
        forward, backward = self.scaled_by_parameter(self.stream)
        self.add("bigrams: scale, sum", "memory", 1, [*forward, tensors(3 * self.stream)], backward)

    def value_embedding(self):
        """One table for all of its layers, each with a scale of its own."""
        self.lookup("values' embedding", self.vocab, self.options["VE_DIM"])
        self.projection("values' projection", self.kv_dim, self.options["VE_DIM"])
        forward, backward = self.scaled_by_parameter(self.values)
        self.add("values' embedding: scale", "memory", 1, forward, backward)
        self.add("values' embedding: scale, sum", "memory", self.value_passes, [*forward, tensors(3 * self.values)], backward)

    def projection(self, name, width, table_width):
        if width != table_width:
            self.linear(name, 1, width, table_width)

    @staticmethod
    def scaled_by_parameter(size):
        """An activation times a single number: the kernels forward, and those backward, which sum products for its gradient."""
        cast = Kernel(FLOAT + BF16)
        return [cast, tensors(2 * size)], [tensors(2 * size), tensors(3 * size), tensors(size), cast]

    def gate(self, rows, kernels):
        """Small kernels on a parameter of one number per channel, and how many such rows they read and write."""
        return Kernel(FLOAT * rows * self.dim, launches=kernels)

    def partial_sums(self, width, values):
        """Bytes of a sum over rows of `values` numbers each before it is added up."""
        return FLOAT * min(self.tokens, 4096 if width <= 128 else 1024) * values

    def summed_parameter(self, width, values, *read_and_written):
        """A kernel that also leaves partial sums, and the one that adds them up."""
        partial = self.partial_sums(width, values)
        return [tensors(*read_and_written, partial), tensors(partial, FLOAT * values)]

    def blocks(self):
        options, stream, tokens, passes, dim = self.options, self.stream, self.tokens, self.passes, self.dim
        if options["RESID_MIX"]:  # x, x0 -> y, normed; dy, dnormed, y, x, x0 -> dx, dx0
            self.add("residual_mix_norm", "memory", passes, [rounded_parameter(2 * dim), tensors(4 * stream, self.rstd)],
                     self.summed_parameter(dim, 2 * dim, 7 * stream, self.rstd))
        self.attention()
        mixes = self.gated + (1 if options["SMEAR_GATE"] else 0)  # x, other -> y; dy, x, other -> dx, dother
        self.add("gated skips: gate", "memory", self.gated, [self.gate(13, 5)], [self.gate(14, 5)])
        self.add("residual_mix", "memory", mixes, [rounded_parameter(2 * dim), tensors(3 * stream)],
                 self.summed_parameter(dim, 2 * dim, 5 * stream))
        scale = rounded_parameter(dim)
        scaled_adds = self.skips - self.gated + passes + self.parallel
        # x, branch -> y, normed; dy, dnormed, y, branch -> dx, dbranch
        self.add("scaled_add_norm", "memory", passes - self.parallel, [scale, tensors(4 * stream, self.rstd)],
                 self.summed_parameter(dim, dim, 6 * stream, self.rstd))
        hidden = BF16 * tokens * self.hidden
        if options["MLP_KIND"] != "swiglu":
            self.linear("MLP up", passes, self.hidden, dim)
            self.add("leaky_squared", "memory", passes, [tensors(2 * hidden)], [tensors(3 * hidden)])
        else:
            self.linear("MLP up and gate", 2 * passes, self.hidden, dim)
            self.add("swiglu", "memory", passes, [tensors(3 * hidden)], [tensors(5 * hidden)])
        self.linear("MLP down", passes, dim, self.hidden)
        # x, branch -> y; dy, branch -> dbranch: x's gradient is dy itself.
        self.add("scaled_add", "memory", scaled_adds, [scale, tensors(3 * stream)],
                 self.summed_parameter(dim, dim, 3 * stream))

    def linear(self, name, calls, outputs, inputs, scope="linear: "):
        """The weight's gradient is float32, and the product adds to it."""
        self.add(scope + name, "product", calls, [product(self.tokens, outputs, inputs)],
                 [product(self.tokens, inputs, outputs), product(outputs, inputs, self.tokens, result=FLOAT * (1 + self.sums))])

    def attention(self):
        tokens, passes, dim, kv_dim = self.tokens, self.passes, self.dim, self.kv_dim
        self.linear("product", passes, dim + 2 * kv_dim, dim, scope="qkv_heads: ")
        rotated, kept = BF16 * tokens * (dim + kv_dim), FLOAT * tokens * (self.heads + self.kv_heads)
        gain = self.partial_sums(self.heads, self.heads)
        self.add("qkv_heads: norm, rotation, gain", "memory", passes,
                 [rounded_parameter(self.heads), Kernel(2 * rotated + kept, launches=2)],
                 [Kernel(3 * rotated + kept + gain, launches=2), tensors(gain), tensors(2 * BF16 * tokens * kv_dim)])  # dv's copy
        # q, k, v -> o, and each row's log-sum; with do -> dq, dk, dv. Keys are not repeated.
        operands, sums = BF16 * tokens * (2 * dim + 2 * kv_dim), FLOAT * tokens * self.heads
        flops = 2.0 * tokens * self.options["TRAIN_SEQ_LEN"] * dim
        self.add("causal_attention", "attention", passes, [Kernel(operands + sums, 1, flops, "attention_forward")],
                 [Kernel(2 * operands + sums, 3, 2.5 * flops, "attention_backward")])
        # y, v -> rest; drest, y, v -> dy, dv
        self.add("exclude_value", "memory", self.exclusive, [tensors(2 * self.stream, self.values)],
                 [tensors(3 * self.stream, 2 * self.values)])
        self.linear("attention's projection", passes, dim, dim)

    def head_and_loss(self):
        tokens, vocab, dim = self.tokens, self.vocab, self.dim
        if self.options["TIE_EMBEDDINGS"]:  # a bfloat16 weight, with a new gradient in each micro-batch
            self.add("linear: head", "product", 1, [product(tokens, vocab, dim)],
                     [product(tokens, dim, vocab), product(vocab, dim, tokens)])
        else:
            self.linear("head", 1, vocab, dim)
        # The gradient is written with the loss and includes 1/micro_batches: backward has nothing to scale.
        self.add("softcap_cross_entropy", "memory", 1,
                 [tensors(2 * BF16 * tokens * vocab, LONG * tokens, FLOAT * tokens), Kernel(FLOAT * tokens, launches=4)],
                 [Kernel(0, launches=4)])

    def gradient_sums(self):
        """What autograd adds up: gradients of a tensor with several readers, and of small parameters over micro-batches."""
        options, passes = self.options, self.passes
        # With RESID_MIX every block reads the embedding x0, and the first one twice; without it every block its input twice.
        sums = passes + self.skips
        sums += self.parallel + (passes if options["MLP_KIND"] == "swiglu" else 0)  # more readers of a norm's result
        sums += 1 if options["SMEAR_GATE"] else 0  # of a position and the one after it
        self.add("gradient sums: activations", "memory", sums, backward=[tensors(3 * self.stream)])
        self.add("gradient sums: values", "memory", self.exclusive + max(0, self.value_passes - 1),
                 backward=[tensors(3 * self.values)])
        block = self.controls_of_a_block()
        # A looped block's, once for each pass but one.
        self.add("gradient sums: looped parameters", "memory",
                 (passes - self.layers) * len(block) + self.value_passes - self.value_layers,
                 backward=[tensors(3 * FLOAT * sum(block) / len(block))])
        small = self.controls()
        # Of weights and gates, for each skip zeros, its row copied into them, and the sum with the others'.
        rows = self.skips + self.gated
        kernels = len(small) * self.sums + max(0, 3 * self.skips - 1) + max(0, 3 * self.gated - 1)
        self.add("gradient sums: small parameters", "memory", 1,
                 backward=[Kernel(FLOAT * (3 * sum(small) * self.sums + 5 * rows * self.skips * self.dim), launches=kernels)])

    def controls_of_a_block(self):
        return [self.heads, self.dim, self.dim] + ([2 * self.dim] if self.options["RESID_MIX"] else [])

    def controls(self):
        """Sizes of q_gain, attn_scale, mlp_scale and resid_mix of every block, of skip_weights and skip_gates, of the smear's gate,
        and of the scales of token tables."""
        skips = [self.skips * self.dim] * ((1 if self.skips else 0) + (1 if self.gated else 0))
        smear = [self.dim] if self.options["SMEAR_GATE"] else []
        scales = (1 if self.options["BIGRAM_VOCAB_SIZE"] > 0 else 0) + (1 + self.value_layers if self.value_layers else 0)
        return self.controls_of_a_block() * self.layers + skips + smear + [1] * scales

    def tables(self):
        """[rows, width] of what is looked up, in bfloat16."""
        bigrams = [(self.options["BIGRAM_VOCAB_SIZE"], self.options["BIGRAM_DIM"])] if self.options["BIGRAM_VOCAB_SIZE"] else []
        values = [(self.vocab, self.options["VE_DIM"])] if self.value_layers else []
        return [(self.vocab, self.dim)] + bigrams + values

    def projections(self):
        """[out, in] of the weights behind tables."""
        bigrams = [(self.dim, self.options["BIGRAM_DIM"])] if self.options["BIGRAM_VOCAB_SIZE"] else []
        values = [(self.kv_dim, self.options["VE_DIM"])] if self.value_layers else []
        return [(outputs, inputs) for outputs, inputs in bigrams + values if outputs != inputs]

    def matrices(self):
        """[out, in] of the blocks' weights."""
        dim, kv_dim, hidden = self.dim, self.kv_dim, self.hidden
        gate = [(hidden, dim)] if self.options["MLP_KIND"] == "swiglu" else []
        return ([(dim, dim), (kv_dim, dim), (kv_dim, dim), (dim, dim), (hidden, dim)] + gate + [(dim, hidden)]) * self.layers

    def once_a_step(self):
        matrices, controls = self.matrices(), self.controls()
        sizes, tables, projections = ([rows * columns for rows, columns in shapes]
                                      for shapes in (matrices, self.tables(), self.projections()))
        head = [] if self.options["TIE_EMBEDDINGS"] else [self.vocab * self.dim]
        tokens = self.tokens * self.micro_batches
        self.add_once("inputs and targets, device to device", Kernel(4 * LONG * tokens, launches=2))

        qkv = self.dim * (self.dim + 2 * self.kv_dim) * self.layers  # joined after their casts
        others = sum(sizes) - qkv + sum(projections) + sum(head)
        self.add_once("casts of weights", Kernel((FLOAT + 3 * BF16) * qkv, launches=4 * self.layers),
                      Kernel((FLOAT + BF16) * others, launches=len(sizes) - 3 * self.layers + len(projections) + len(head)))

        # LibTorch's operations on lists want one dtype; with the embedding's bfloat16 among them they go tensor by tensor.
        floats = sizes + projections + controls + head
        gradients, parameters = FLOAT * sum(floats) + BF16 * sum(tables), len(floats) + len(tables)
        if self.graphs:
            self.add_once("zeroing of gradients", Kernel(gradients, launches=parameters))
        self.add_once("gradient norms", Kernel(gradients, launches=parameters + 3))
        if self.options["GRAD_CLIP_NORM"] > 0:
            self.add_once("gradient clipping", Kernel(3 * gradients, launches=2 * parameters + 7))

        # Parameter, gradient and both moments are read, all but the gradient written. A list also counts its steps, and gets its
        # learning rate.
        adam = [foreach(tables, 4, 7 * BF16), foreach(controls + projections, 4, 7 * FLOAT)]
        adam += [foreach(head, 4, 7 * FLOAT)] if head else []
        if self.options["OPTIMIZER"] == "adamw":
            adam.append(foreach(sizes, 4, 7 * FLOAT))
        self.add_once("Adam", *adam, Kernel(0, launches=2 * len(adam)))
        if self.options["OPTIMIZER"] == "muon":
            self.muon(matrices, sizes)
        if self.options["EMA_DECAY"] > 0:  # averages *= decay; averages += parameters, in float32
            self.add_once("EMA", Kernel((BF16 + FLOAT) * sum(tables), launches=len(tables)),
                          foreach(floats + tables, 1, 2 * FLOAT), foreach(floats + tables, 2, 3 * FLOAT))

    def muon(self, matrices, sizes):
        """src/ops/muon_batched.cpp: matrices of one shape, tall ones transposed, as one batch."""
        # buffers *= momentum; buffers += gradients; updates = buffers * momentum; updates += gradients
        around = [foreach(sizes, depth, FLOAT * depth_bytes) for depth, depth_bytes in ((1, 2), (2, 3), (2, 2), (2, 3))]
        around.append(Kernel(3 * FLOAT, launches=3))  # momentum, learning rate, and what decay leaves
        if self.options["MUON_ROW_NORMALIZE"]:  # norms, at least a bound, and division by them
            rows = sum(rows for rows, _ in matrices)
            around.append(Kernel(FLOAT * (3 * sum(sizes) + 4 * rows), launches=3 * len(sizes)))
        if self.options["MUON_WD"] > 0:
            around.append(foreach(sizes, 1, 2 * FLOAT))
        products = []
        shapes = {}
        for rows, columns in matrices:
            shapes.setdefault((min(rows, columns), max(rows, columns)), []).append(rows > columns)
        for (low, wide), members in shapes.items():
            count, size = len(members), len(members) * low * wide
            around.append(Kernel((3 * FLOAT + BF16) * size, launches=2))  # stacked, cast
            around.append(Kernel(3 * BF16 * size, launches=3))  # norm, and division by it
            square = BF16 * count * low * low
            for _ in range(self.options["MUON_BACKEND_STEPS"]):
                products.append(product(low, low, wide, count=count))
                # baddbmm copies what it adds to into its result, and then adds to that.
                products += [tensors(2 * square), product(low, low, low, result=2 * BF16, count=count)]
                products += [tensors(2 * BF16 * size), product(low, wide, low, result=2 * BF16, count=count)]
            tall = sum(members) * low * wide  # scaled, cast, and made dense
            around.append(Kernel((BF16 + FLOAT) * (size - tall), launches=count - sum(members)))
            around.append(Kernel((3 * BF16 + 3 * FLOAT) * tall, launches=3 * sum(members)))
        around += [foreach(sizes, 1, 2 * FLOAT), foreach(sizes, 2, 3 * FLOAT)]  # times the learning rate, off the weights
        self.add_once("muon_update_: element by element", *around)
        if products:
            self.add_once("muon_update_: products", *products)

    def model_flops(self):
        """Of a step: benchmarks/bench_step.cpp's flops_per_token, which leaves out recomputation and Muon."""
        def size(shapes):
            return sum(rows * columns for rows, columns in shapes)

        weights = size(self.matrices()) / self.layers * self.passes + size(self.projections()) + self.dim * self.vocab
        attention = self.passes * self.dim * self.options["TRAIN_SEQ_LEN"]
        return 6.0 * (weights + attention) * self.tokens * self.micro_batches


class Report:
    """The table of a step at some rates."""

    def __init__(self, step, rates):
        self.step, self.rates = step, rates
        self.rows = [self.row(row) for row in step.rows]
        sums = {"memory": 0.0, "product": 0.0, "attention": 0.0, "update": 0.0}
        for row in self.rows:
            sums[row["group"]] += row["ms"]
        self.kernels = sum(row["kernels"] for row in self.rows)
        sums["launches"] = self.kernels * rates["launch"] / 1e3
        self.sums, self.total = sums, sum(sums.values())

    def row(self, row):
        times = [kernel.times(self.rates) for kernel in row.kernels()]
        memory_bound = sum(memory for memory, matrix in times if memory >= matrix)
        matrix_bound = sum(matrix for memory, matrix in times if matrix > memory)

        def total(kernels, name):
            return row.calls * sum(getattr(kernel, name) for kernel in kernels)

        return {"operation": row.name, "group": row.group, "calls": row.calls,
                "forward_bytes": total(row.forward, "bytes"), "backward_bytes": total(row.backward, "bytes"),
                "update_bytes": total(row.once, "bytes"), "flops": total(row.kernels(), "flops"),
                "ms": row.calls * (memory_bound + matrix_bound) * 1e3, "kernels": total(row.kernels(), "launches"),
                "bound": "memory" if memory_bound >= matrix_bound else "matrix"}

    def as_json(self):
        return {"prediction": True, "options": self.step.options, "passes": self.step.micro_batches, "assumed_rates": self.rates,
                "rows": self.rows, "sums_ms": self.sums, "kernels": self.kernels, "step_ms": self.total,
                "model_flops": self.step.model_flops()}

    def print(self):
        step, rates = self.step, self.rates
        print(f"A step of {step.tokens * step.micro_batches:,} tokens in {step.micro_batches} micro-batches of {step.tokens:,}, "
              f"one GPU, bfloat16, CUDA graphs {'on' if step.graphs else 'off'}")
        print(f"ASSUMED rates: {rates['bandwidth']:g} TB/s, of which {rates['efficiency']:.0%} is reached; products "
              f"{rates['matrix']:g} TFLOP/s; attention {rates['attention_forward']:g} forward,\n"
              f"{rates['attention_backward']:g} backward; {rates['launch']:g} us per launch. "
              "A prediction; no device has been measured.\n")
        self.print_rows("forward GB  backward GB", [row for row in self.rows if row["group"] != "update"],
                        lambda row: f"{row['forward_bytes'] / 1e9:10.2f}  {row['backward_bytes'] / 1e9:11.2f}")
        print()
        self.print_rows(f"{'once per step, GB':>23}", [row for row in self.rows if row["group"] == "update"],
                        lambda row: f"{row['update_bytes'] / 1e9:23.2f}")
        print()
        names = {"memory": "memory-bound operations", "product": "products", "attention": "attention", "update": "once per step",
                 "launches": f"launches, {self.kernels:,.0f} kernels"}
        for group, ms in self.sums.items():
            print(f"{names[group]:36}{ms:9.2f} ms  {ms / self.total:6.1%}")
        print(f"{'predicted step':36}{self.total:9.2f} ms")
        flops = sum(row["flops"] for row in self.rows)
        print(f"\n{flops / 1e12:.2f} TFLOP per step, of which {step.model_flops() / 1e12:.2f} are the model's, as bench_step "
              "counts them. The rest: recomputed attention scores, and Muon.")

    def print_rows(self, bytes_title, rows, bytes_text):
        print(f"{'operation':36}{'calls':>6}  {bytes_title}  {'TFLOP':>7}  {'kernels':>7}  {'ms':>8}  bound")
        for row in rows:
            flops = f"{row['flops'] / 1e12:7.2f}" if row["flops"] else " " * 7
            print(f"{row['operation']:36}{row['calls']:6}  {bytes_text(row)}  {flops}  {row['kernels']:7.0f}  {row['ms']:8.2f}  "
                  f"{row['bound']}")
        total = {name: sum(row[name] for row in rows) for name in rows[0] if name not in ("operation", "group", "bound")}
        print(f"{'':36}{'':6}  {bytes_text(total)}  {total['flops'] / 1e12:7.2f}  {total['kernels']:7.0f}  {total['ms']:8.2f}")


if __name__ == "__main__":
    main()
