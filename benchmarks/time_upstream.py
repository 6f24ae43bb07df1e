#!/usr/bin/env python3
"""Times the optimizer step, or the validation, of upstream's train_gpt.py with its own classes, eager or compiled.

The configuration comes from the environment, as upstream reads it. Upstream's main() needs CUDA and runs a whole training, so
this script does what main() does in a step: 8 micro-steps, whose gradients add up in .grad, then the optimizers of the
embedding, the matrices (Muon) and the scalars. A validation is one call of upstream's eval_val with the initial weights.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import resource
import sys
import time

import torch

MICRO_STEPS = 8


def load(path):
    spec = importlib.util.spec_from_file_location("upstream", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["upstream"] = module
    spec.loader.exec_module(module)
    return module


class Program:
    """What main() sets up, on any device and in float32 too."""

    def __init__(self, upstream, device, bfloat16, compiled):
        self.upstream, self.device = upstream, device
        self.args = args = upstream.Hyperparameters()
        self.autocast = torch.autocast(device.type, torch.bfloat16) if bfloat16 else contextlib.nullcontext()
        torch.manual_seed(args.seed)
        self.model = model = upstream.GPT(
            **{
                name: getattr(args, name)
                for name in (
                    "vocab_size", "num_layers", "model_dim", "num_heads", "num_kv_heads", "mlp_mult", "tie_embeddings",
                    "tied_embed_init_std", "logit_softcap", "rope_base", "qk_gain_init",
                )
            }
        ).to(device)  # fmt: skip
        if bfloat16:
            model.bfloat16()
            for module in model.modules():
                if isinstance(module, upstream.CastedLinear):
                    module.float()
            upstream.restore_low_dim_params_to_fp32(model)
        self.forward = model
        if compiled:
            self.forward = torch.compile(model, dynamic=False, fullgraph=True)
            upstream.zeropower_via_newtonschulz5 = torch.compile(upstream.zeropower_via_newtonschulz5)


class Training(Program):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        args, model, upstream = self.args, self.model, self.upstream
        self.tokens = args.train_batch_tokens
        self.loader = upstream.DistributedTokenLoader(args.train_files, 0, 1, self.device)

        controls = upstream.CONTROL_TENSOR_NAME_PATTERNS
        matrices, scalars = [], []
        for name, parameter in model.blocks.named_parameters():
            is_matrix = parameter.ndim == 2 and not any(pattern in name for pattern in controls)
            (matrices if is_matrix else scalars).append(parameter)
        if model.skip_weights.numel() > 0:
            scalars.append(model.skip_weights)

        def adam(parameters, lr):
            return torch.optim.Adam(parameters, lr=lr, betas=(args.beta1, args.beta2), eps=args.adam_eps, fused=True)

        self.optimizers = [adam([model.tok_emb.weight], args.tied_embed_lr if args.tie_embeddings else args.embed_lr)]
        if model.lm_head is not None:
            self.optimizers.append(adam([model.lm_head.weight], args.head_lr))
        self.muon = upstream.Muon(matrices, args.matrix_lr, args.muon_momentum, args.muon_backend_steps)
        self.optimizers += [self.muon, adam(scalars, args.scalar_lr)]
        self.done = 0

    def zero_grad(self):
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    def __call__(self):
        args = self.args
        self.zero_grad()
        total = torch.zeros((), device=self.device)
        for _ in range(MICRO_STEPS):
            x, y = self.loader.next_batch(args.train_batch_tokens, args.train_seq_len, MICRO_STEPS)
            with self.autocast:
                loss = self.forward(x, y)
            total += loss.detach()
            (loss / MICRO_STEPS).backward()
        warm = args.muon_momentum_warmup_steps
        share = min(self.done / warm, 1.0) if warm > 0 else 1.0
        self.muon.param_groups[0]["momentum"] = (1 - share) * args.muon_momentum_warmup_start + share * args.muon_momentum
        if args.grad_clip_norm > 0:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), args.grad_clip_norm)
        for optimizer in self.optimizers:
            optimizer.step()
        self.zero_grad()
        self.done += 1
        return (total / MICRO_STEPS).item()

    def warm_up(self):
        return self()


class Validation(Program):
    def __init__(self, eval_tokens, *arguments):
        super().__init__(*arguments)
        args = self.args
        tokenizer = self.upstream.spm.SentencePieceProcessor(model_file=args.tokenizer_path)
        self.luts = self.upstream.build_sentencepiece_luts(tokenizer, args.vocab_size, self.device)
        tokens = self.upstream.load_validation_tokens(args.val_files, args.train_seq_len)
        self.tokens = min(eval_tokens, tokens.numel() - 1) // args.train_seq_len * args.train_seq_len
        self.val_tokens = tokens[: self.tokens + 1]
        # eval_val hard-codes "cuda" and bfloat16.
        torch.autocast = lambda **_: self.autocast

    def score(self, tokens):
        return self.upstream.eval_val(self.args, self.forward, 0, 1, self.device, MICRO_STEPS, tokens, *self.luts)[0]

    def __call__(self):
        return self.score(self.val_tokens)

    def warm_up(self):
        """Every case that is compiled: the first batch, which makes the rotary tables, a whole one, the rest at the end."""
        batch = self.args.val_batch_size // MICRO_STEPS // self.args.train_seq_len * self.args.train_seq_len
        return self.score(self.val_tokens[: min(self.tokens, 2 * batch + self.tokens % batch) + 1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("upstream", help="upstream's train_gpt.py")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--compile", action="store_true", help="compile the model and Newton-Schulz, as main() does")
    parser.add_argument("--eval-tokens", type=int, default=0, help="instead of steps, time validations of this many tokens")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--json", required=True)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    # As main() sets them; the CPU has its own flash attention, CUDA's does not support float32.
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cuda.enable_flash_sdp(True)
    torch.backends.cuda.enable_cudnn_sdp(False)
    torch.backends.cuda.enable_mem_efficient_sdp(False)
    torch.backends.cuda.enable_math_sdp(args.device == "cuda" and args.dtype == "float32")
    arguments = (load(args.upstream), device, args.dtype == "bfloat16", args.compile)
    work = Validation(args.eval_tokens, *arguments) if args.eval_tokens > 0 else Training(*arguments)

    def timed(call):
        start, cpu_start = time.perf_counter(), time.process_time()
        loss = call()  # a number, so a device has finished
        return loss, 1000 * (time.perf_counter() - start), time.process_time() - cpu_start

    warmup, runs = [], []
    for number in range(args.warmup + args.steps):
        warming_up = number < args.warmup
        done = warmup if warming_up else runs
        done.append(timed(work.warm_up if warming_up else work))
        print(f"{'warmup' if warming_up else 'step'} {len(done)}: {done[-1][1]:.2f} ms, loss {done[-1][0]:.6f}", flush=True)
        save(args, work.tokens, warmup, runs)


def save(args, tokens, warmup, runs):
    """Everything so far, as what comes next may not end in time. warmup and runs: (loss, milliseconds, CPU seconds)."""
    samples = [ms for _, ms, _ in runs]
    on_gpu = args.device == "cuda"
    resident = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    losses = [loss for loss, _, _ in (runs if args.eval_tokens > 0 else warmup + runs)]
    result = {
        "dtype": args.dtype,
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "threads": args.threads,
        "torch": torch.__version__,
        "cpu_level": torch.backends.cpu.get_cpu_capability().lower(),
        "ms": {"total": {"samples": samples}},
        "warmup_ms": [ms for _, ms, _ in warmup],
        "tokens": tokens,
        "cpu_share": 1000 * sum(cpu for _, _, cpu in runs) / (sum(samples) * args.threads) if runs else None,
        "peak_bytes": torch.cuda.max_memory_allocated() if on_gpu else resident,
        **({"peak_reserved_bytes": torch.cuda.max_memory_reserved()} if on_gpu else {}),
        "first_loss": losses[0] if losses else None,
        "losses": losses,
    }
    unfinished = f"{args.json}.tmp"
    with open(unfinished, "w", encoding="utf-8") as out:
        json.dump(result, out)
    os.replace(unfinished, args.json)


if __name__ == "__main__":
    main()
