#!/usr/bin/env python3
"""Makes the Markdown table of scripts/bench_vs_python.sh from its folder of CONFIG.DTYPE.PROGRAM.ROUND.json and *.failed."""

import json
import platform
import statistics
import sys
from pathlib import Path

PROGRAMS = {
    "fast": "ours",
    "own": "ours, by itself",
    "reference": "ours, OPS=reference",
    "eager": "Python, eager",
    "compiled": "Python, compiled",
}
PYTHON = ("eager", "compiled")
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

    def times(self, ours):
        """How many times as long as ours it takes: the median over rounds, and the lowest and highest round."""
        ratios = sorted(mine / other for mine, other in zip(self.medians, ours.medians))
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
    """A Variant for each (dtype, program), with what `own` chose as its dtype."""
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
    """The fastest Python variant over ours, for each dtype and for all."""
    lines = []
    for dtype in [*dict.fromkeys(dtype for dtype, _ in variants), None]:
        ours, python = best(variants, ("fast",), dtype), best(variants, PYTHON, dtype)
        if ours and python:
            what = f"in {dtype} Python's best ({python[1]})" if dtype else f"of all dtypes Python's best ({', '.join(python)})"
            against = "ours" if dtype else f"ours ({ours[0]})"
            lines.append(f"- {config}: {what} takes {variants[python].times(variants[ours])} times as long as {against}.")
    return lines


def summary_of_own(config, variants):
    """The fastest Python variant over ours, both as they start by themselves."""
    own, python = best(variants, ("own",)), best(variants, PYTHON)
    if not own or not python:
        return []
    ours, theirs = variants[own], variants[python]
    chosen = own[0]
    if config != "eval" and ours.runs[0].get("muon_dtype"):
        chosen += f", Muon in {ours.runs[0]['muon_dtype']}"
    line = (
        f"- {config}: as each program starts by itself, Python's best ({', '.join(python)}) takes {theirs.times(ours)} "
        f"times as long as ours ({chosen})."
    )
    if theirs.runs[0]["threads"] != ours.runs[0]["threads"]:
        line += f" Python had {theirs.runs[0]['threads']} thread(s), ours chose {ours.runs[0]['threads']}."
    return [line]


def distinct(runs, field):
    """What the programs say of themselves: "ours: 2.11.0, Python: 2.11.0"."""
    who = {True: "Python", False: "ours"}
    return ", ".join(sorted({f"{who[program in PYTHON]}: {run[field]}" for program, run in runs if run.get(field)}))


def setting(configs):
    """Processor, device, threads, versions."""
    runs = [(key[1], run) for of in configs.values() for key, variant in of.items() for run in variant.runs]
    devices = sorted({run["device"] for _, run in runs})
    threads = sorted({run["threads"] for _, run in runs})
    levels = distinct(runs, "cpu_level")
    parts = [processor()]
    if levels:
        parts.append(f"level of instructions {levels}")
    if runs:
        parts += [f"device {', '.join(devices)}", f"{', '.join(map(str, threads))} thread(s)"]
        parts.append(f"PyTorch {distinct(runs, 'torch')}")
    return "; ".join(parts)


def main():
    configs, failed = load(sys.argv[1])
    print(f"{setting(configs)}.")
    print()
    print("ms: median of all steps (4x128, 9x512) or validations (eval), with the lowest and highest round's. Ratio: how")
    print("many times as long as ours in the same dtype and round. By itself: with its own choice of dtype and threads. CPU:")
    print("CPU time over wall time x threads, lowest round; on the CPU well below 1.00 something else was running and the")
    print("times mean little. Preparation: what the first calls took longer than later ones, compilation mostly.")
    print()
    print("| config | dtype | program | ms | tokens/s | ratio | CPU | peak MiB | preparation s | first loss |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for config, variants in configs.items():
        for (dtype, program), v in variants.items():
            ours = variants.get((dtype, "fast"))
            ratio = "1" if program == "fast" else v.times(ours) if ours else ""
            preparation = f"{v.preparation_s:.1f}" if program in PYTHON else ""
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
