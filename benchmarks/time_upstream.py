#!/usr/bin/env python3
"""Times the optimiser step of the Python train_gpt.py on the CPU, eagerly, with its own classes.

The configuration comes from the environment, as that program takes it. Its main() asks for CUDA and compiles; what main()
does around a step is done here instead: 8 micro-steps, gradients into .grad, then embedding, Muon and scalars in turn.
"""

import argparse
import contextlib
import importlib.util
import json
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


class Step:
    def __init__(self, upstream, bfloat16):
        self.args = args = upstream.Hyperparameters()
        self.bfloat16 = bfloat16
        torch.manual_seed(args.seed)
        self.model = model = upstream.GPT(
            **{
                name: getattr(args, name)
                for name in (
                    "vocab_size", "num_layers", "model_dim", "num_heads", "num_kv_heads", "mlp_mult", "tie_embeddings",
                    "tied_embed_init_std", "logit_softcap", "rope_base", "qk_gain_init",
                )
            }
        )  # fmt: skip
        if bfloat16:
            model.bfloat16()
            for module in model.modules():
                if isinstance(module, upstream.CastedLinear):
                    module.float()
            upstream.restore_low_dim_params_to_fp32(model)
        self.loader = upstream.DistributedTokenLoader(args.train_files, 0, 1, torch.device("cpu"))

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
        total = torch.zeros(())
        for _ in range(MICRO_STEPS):
            x, y = self.loader.next_batch(args.train_batch_tokens, args.train_seq_len, MICRO_STEPS)
            with torch.autocast("cpu", torch.bfloat16) if self.bfloat16 else contextlib.nullcontext():
                loss = self.model(x, y)
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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("upstream", help="the Python program")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--json", required=True)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    # As main() sets them; the CPU has a flash attention of its own.
    torch.backends.cuda.enable_flash_sdp(True)
    torch.backends.cuda.enable_cudnn_sdp(False)
    torch.backends.cuda.enable_mem_efficient_sdp(False)
    torch.backends.cuda.enable_math_sdp(False)
    step = Step(load(args.upstream), args.dtype == "bfloat16")
    losses, samples, cpu = [], [], 0.0
    for i in range(-args.warmup, args.steps):
        start, cpu_start = time.perf_counter(), time.process_time()
        losses.append(step())
        if i >= 0:
            samples.append(1000 * (time.perf_counter() - start))
            cpu += time.process_time() - cpu_start
    with open(args.json, "w", encoding="utf-8") as out:
        json.dump(
            {
                "dtype": args.dtype,
                "threads": args.threads,
                "torch": torch.__version__,
                "ms": {"total": {"samples": samples}},
                "cpu_share": 1000 * cpu / (sum(samples) * args.threads),
                "first_loss": losses[0],
            },
            out,
        )


if __name__ == "__main__":
    main()
