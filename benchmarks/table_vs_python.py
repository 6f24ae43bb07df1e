#!/usr/bin/env python3
"""Makes the Markdown table of scripts/bench_vs_python.sh from its folder of CONFIG.DTYPE.PROGRAM.ROUND.json and *.failed."""

import json
import platform
import statistics
import sys
from pathlib import Path

PROGRAMS = {
    "fast": "train_gpt",
    "own": "train_gpt, own settings",
    "reference": "train_gpt, OPS=reference",
    "eager": "upstream, eager",
    "compiled": "upstream, compiled",
}
UPSTREAM = ("eager", "compiled")
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


class Variant:
    """One program on one configuration and dtype, in all rounds."""

    def __init__(self, runs):
        self.runs = runs
        self.medians = [statistics.median(run["ms"]["total"]["samples"]) for run in runs]
        self.ms = statistics.median(x for run in runs for x in run["ms"]["total"]["samples"])
        self.tokens_per_s = 1000 * runs[0]["tokens"] / self.ms
        # The first call of a process over an ordinary one; later rounds find what the first has compiled.
        excess = [sum(run["warmup_ms"]) - len(run["warmup_ms"]) * self.ms for run in runs if run.get("warmup_ms")]
        self.preparation_s = max(0, *excess) / 1000 if excess else 0
        self.cpu = min(run["cpu_share"] for run in runs)
        self.peak_mib = max(run["peak_bytes"] for run in runs) / 2**20
        self.loss = runs[0]["first_loss"]

    def times(self, other):
        """The ratio of its time to the other variant's: the median over rounds, and the lowest and highest round."""
        ratios = sorted(mine / theirs for mine, theirs in zip(self.medians, other.medians))
        return f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})"


def processor():
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    fields = {name.strip(): value.strip() for name, value in fields.items()}
    flags = [flag for flag in FLAGS if flag in fields.get("flags", "").split()]
    return f"{fields.get('model name', platform.machine())} ({' '.join(flags) or 'no vector flags of interest'})"


def load(folder):
    """{config: {(dtype, program): Variant}} in the order of PROGRAMS, and the lines of *.failed by the same names."""
    failed = {}
    for path in Path(folder).glob("*.failed"):
        failed[tuple(path.name.split(".")[:3])] = path.read_text(encoding="utf-8").strip()
    configs = {}
    for path in sorted(Path(folder).glob("*.json"), key=lambda path: int(path.name.split(".")[3])):
        config, dtype, program, _ = path.name.split(".", 3)
        if (config, dtype, program) not in failed:
            of = configs.setdefault(config, {}).setdefault((dtype, program), [])
            of.append(json.loads(path.read_text(encoding="utf-8")))
    return {config: make_variants(runs) for config, runs in configs.items()}, failed


def make_variants(runs):
    """A Variant for each (dtype, program); the dtype of `own` is the one that it chose."""
    variants = {}
    for (dtype, program), of in runs.items():
        chosen = "/".join(sorted({run["dtype"] for run in of})) if program == "own" else dtype
        variants[chosen, program] = Variant(of)
    order = list(PROGRAMS)
    return {key: variants[key] for key in sorted(variants, key=lambda key: (key[0] != "float32", order.index(key[1])))}


def best(variants, programs, dtype=None):
    """Key of the fastest, or None."""
    keys = [key for key in variants if key[1] in programs and dtype in (None, key[0])]
    return min(keys, key=lambda key: variants[key].ms, default=None)


def summary(config, variants):
    """The fastest upstream variant over train_gpt, for each dtype and for all."""
    lines = []
    for dtype in [*dict.fromkeys(dtype for dtype, _ in variants), None]:
        fast, theirs = best(variants, ("fast",), dtype), best(variants, UPSTREAM, dtype)
        if fast and theirs:
            what = f"in {dtype} upstream's fastest ({theirs[1]})" if dtype else f"upstream's fastest of all ({', '.join(theirs)})"
            against = "train_gpt" if dtype else f"train_gpt ({fast[0]})"
            lines.append(f"- {config}: {what} takes {variants[theirs].times(variants[fast])} times as long as {against}.")
    return lines


def summary_of_own(config, variants):
    """The fastest upstream variant over train_gpt, both with their own settings."""
    own, fastest = best(variants, ("own",)), best(variants, UPSTREAM)
    if not own or not fastest:
        return []
    ours, theirs = variants[own], variants[fastest]
    chosen = own[0]
    if config != "eval" and ours.runs[0].get("muon_dtype"):
        chosen += f", Muon in {ours.runs[0]['muon_dtype']}"
    line = (
        f"- {config}: with each program's own settings, upstream's fastest ({', '.join(fastest)}) takes {theirs.times(ours)} "
        f"times as long as train_gpt ({chosen})."
    )
    if theirs.runs[0]["threads"] != ours.runs[0]["threads"]:
        line += f" Upstream used {theirs.runs[0]['threads']} thread(s), train_gpt {ours.runs[0]['threads']}."
    return [line]


def distinct(runs, field):
    """What the programs report: "train_gpt: 2.11.0, upstream: 2.11.0"."""
    who = {True: "upstream", False: "train_gpt"}
    return ", ".join(sorted({f"{who[program in UPSTREAM]}: {run[field]}" for program, run in runs if run.get(field)}))


def setting(configs):
    """Processor, device, threads, versions."""
    runs = [(key[1], run) for of in configs.values() for key, variant in of.items() for run in variant.runs]
    devices = sorted({run["device"] for _, run in runs})
    threads = sorted({run["threads"] for _, run in runs})
    levels = distinct(runs, "cpu_level")
    parts = [processor()]
    if levels:
        parts.append(f"instruction set level {levels}")
    if runs:
        parts += [f"device {', '.join(devices)}", f"{', '.join(map(str, threads))} thread(s)"]
        parts.append(f"PyTorch {distinct(runs, 'torch')}")
    return "; ".join(parts)


def main():
    configs, failed = load(sys.argv[1])
    print(f"{setting(configs)}.")
    print()
    print("ms: median of all steps (4x128, 9x512) or validations (eval), and the lowest and highest median of a round. ratio:")
    print("time over train_gpt's in the same dtype and round. own settings: train_gpt's own choice of dtype and threads. CPU:")
    print("CPU time / (wall time x threads), lowest round; on the CPU, if it is well below 1.00, something else was running and")
    print("the times mean little. preparation: how much longer the first calls took than later ones, mostly compilation.")
    print()
    print("| config | dtype | program | ms | tokens/s | ratio | CPU | peak MiB | preparation s | first loss |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for config, variants in configs.items():
        for (dtype, program), v in variants.items():
            fast = variants.get((dtype, "fast"))
            ratio = "1" if program == "fast" else v.times(fast) if fast else ""
            preparation = f"{v.preparation_s:.1f}" if program in UPSTREAM else ""
            print(
                f"| {config} | {dtype} | {PROGRAMS[program]} | {v.ms:.1f} ({min(v.medians):.1f}-{max(v.medians):.1f}) "
                f"| {v.tokens_per_s:.0f} | {ratio} | {v.cpu:.2f} | {v.peak_mib:.0f} | {preparation} | {v.loss:.6f} |"
            )
    print()
    for config, variants in configs.items():
        for line in summary(config, variants):
            print(line)
    for (config, dtype, program), reason in sorted(failed.items()):
        print(f"- {config}: {PROGRAMS[program]}{'' if program == 'own' else f' in {dtype}'} {reason}")
    for config, variants in configs.items():
        for line in summary_of_own(config, variants):
            print(line)


if __name__ == "__main__":
    main()
