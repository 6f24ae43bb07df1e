#!/usr/bin/env python3
"""Prints the measurements of `gpu_check.sh run` as a table.

    gpu_report.py REPORT...

A REPORT is a folder that `gpu_check.sh run` filled, or an unpacked report.tar.gz. Several, such as those of part 1 and part 2,
are merged into one table; "-" marks what was not measured.
"""

import json
import pathlib
import re
import statistics
import sys
import tarfile

MEBIBYTE = 1 << 20
NOT_MEASURED = "-"
FACT_LENGTH = 500  # so that the end of a long output has the whole table
# Heading, the stage that measures it. Stages write NAME.json (bench_step, time_upstream.py) or a run folder.
ROWS = (
    ("step, graphs", "step_graphs"),
    ("step, no graphs", "step_parts"),
    ("training", "train"),
    ("train_gpt before upstream", "ours_before"),
    ("upstream, compiled", "upstream"),
    ("train_gpt after upstream", "ours_after"),
    ("reference operations", "reference"),
)
COLUMNS = (
    "measurement", "ms per step", "p10", "p90", "speedup over upstream", "MiB allocated", "reserved", "share of matrix peak",
    "val_bpb", "attention",
)  # fmt: skip


def read(folder):
    """{path below the report: text} of the files that the table is made of."""
    folder = pathlib.Path(folder)
    wanted = (".json", ".jsonl", ".txt")
    files = {}
    archive = folder / "report.tar.gz"
    if archive.is_file():
        with tarfile.open(archive) as tar:
            for member in tar:
                if member.isfile() and member.name.endswith(wanted):
                    files[str(pathlib.PurePosixPath(member.name))] = tar.extractfile(member).read().decode(errors="replace")
        return files
    for path in folder.rglob("*"):
        if path.is_file() and path.name.endswith(wanted):
            files[path.relative_to(folder).as_posix()] = path.read_text(encoding="utf-8", errors="replace")
    return files


def merge(reports):
    """Files and stages of all reports; later reports win."""
    files, stages = {}, {}
    for report in reports:
        files.update(report)
        for stage in parse(report.get("stages.json")) or []:
            stages[stage["name"]] = stage
    return files, list(stages.values())


def parse(text):
    """A JSON value; None if missing or truncated by a killed program."""
    try:
        return json.loads(text)
    except (TypeError, ValueError):
        return None


def quantile(samples, q):
    """Linear interpolation between order statistics, as in bench_step."""
    ordered = sorted(samples)
    at = q * (len(ordered) - 1)
    low = int(at)
    return ordered[low] + (at - low) * (ordered[min(low + 1, len(ordered) - 1)] - ordered[low])


def bench_samples(bench):
    try:
        return [float(ms) for ms in bench["ms"]["total"]["samples"]]
    except (KeyError, TypeError, ValueError):
        return []


def train_records(metrics):
    """A run's steps, of its metrics.jsonl."""
    lines = map(parse, (metrics or "").splitlines())
    return [line for line in lines if isinstance(line, dict) and line.get("kind") == "train"]


def train_samples(metrics):
    """Milliseconds between the ends of a run's steps."""
    times = [record["train_time_ms"] for record in train_records(metrics)]
    return [after - before for before, after in zip(times, times[1:])]


def last(pattern, text):
    found = re.findall(pattern, text or "", re.MULTILINE)
    return found[-1] if found else None


def attention_backend(files):
    """The backends that train_gpt logged in any of the runs."""
    logs = "\n".join(text for path, text in files.items() if path.endswith(".txt"))
    names = set(re.findall(r"^attention_backend:(\S+)", logs, re.MULTILINE))
    return " and ".join(sorted(names)) or None


def tests_line(stages):
    counts = [f"{stage['name']} {stage['note']}" for stage in stages if stage["name"].startswith("test_") and stage["note"]]
    return "; ".join(counts) or NOT_MEASURED


def ways(stages):
    """What the stages after a failed one used."""
    found = [(stage["name"], last(r"^(.*) works$", stage["note"])) for stage in stages if stage["name"].endswith("fallback")]
    return "; ".join(f"{way} (from {name} on)" for name, way in found if way)


def first_losses(files):
    """Of the same weights and tokens."""
    stages = {"train_gpt": "ours_before", "upstream": "upstream"}
    benches = {name: parse(files.get(f"{stage}.json")) for name, stage in stages.items()}
    return ", ".join(f"{name} {bench['first_loss']:.4f}" for name, bench in benches.items() if bench and bench.get("first_loss"))


def swept(files, name):
    """The median of each value in NAME_VALUE.json."""
    found = {last(rf"^{name}_(\w+)\.json$", path): bench_samples(parse(text)) for path, text in sorted(files.items())}
    return ", ".join(f"{value}: {statistics.median(samples):.2f} ms" for value, samples in found.items() if value and samples)


def rows(files):
    """(heading, cells): predictions, then by stage."""
    for path in sorted(files):
        device, predicted = last(r"^predicted_(\w+)\.json$", path), parse(files[path]) or {}
        if device and predicted.get("step_ms"):
            yield f"predicted for {device}", (number(predicted["step_ms"], 2), *[NOT_MEASURED] * (len(COLUMNS) - 2))
    benches = {name: parse(files.get(f"{name}.json")) for _, name in ROWS}
    upstream_samples = bench_samples(benches["upstream"])
    upstream = statistics.median(upstream_samples) if upstream_samples else None
    # time_upstream.py measures no peak and counts no operations: train_gpt's are used, for the same step on the same card.
    candidates = (benches["ours_before"], benches["step_graphs"])
    yardstick = next((bench for bench in candidates if bench and bench.get("flops")), {})
    for heading, name in ROWS:
        bench, log = benches[name] or {}, files.get(f"runs/{name}/log.txt")
        samples = bench_samples(bench) or train_samples(files.get(f"runs/{name}/metrics.jsonl"))
        median = statistics.median(samples) if samples else None
        flops = bench.get("flops") or yardstick.get("flops")
        peak = bench.get("peak_flops_per_s") or yardstick.get("peak_flops_per_s")
        allocated = bench["peak_bytes"] / MEBIBYTE if bench.get("peak_bytes") else None
        reserved = bench["peak_reserved_bytes"] / MEBIBYTE if bench.get("peak_reserved_bytes") else None
        memory = last(r"^peak memory allocated: (\d+) MiB reserved: (\d+) MiB", log)
        if memory:
            allocated, reserved = map(float, memory)
        score = last(r"^final_int8_zlib_roundtrip_exact .*val_bpb:([\d.]+)", log) or last(r"^step:.* val_bpb:([\d.]+)", log)
        ours = name not in ("upstream", "reference")
        yield heading, (
            number(median, 2),
            number(quantile(samples, 0.1) if samples else None, 2),
            number(quantile(samples, 0.9) if samples else None, 2),
            number(upstream / median if upstream and median and name != "upstream" else None, 2),
            number(allocated, 0),
            number(reserved, 0),
            f"{100000 * flops / median / peak:.1f} %" if flops and peak and median else NOT_MEASURED,
            score or NOT_MEASURED,
            (attention_backend(files) or NOT_MEASURED) if ours and samples else NOT_MEASURED,
        )


def number(value, digits):
    return NOT_MEASURED if value is None else f"{value:.{digits}f}"


def table(files, stages):
    """The Markdown table of a report, followed by the facts that have no column."""
    cells = [COLUMNS, *((heading, *values) for heading, values in rows(files))]
    widths = [max(len(line[i]) for line in cells) for i in range(len(COLUMNS))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |" for line in cells]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    gpu = last(r"^GPU: (.*)", files.get("machine.txt"))
    software = last(r"^software: (.*)", files.get("machine.txt"))
    notes = {stage["name"]: stage["note"] for stage in stages}
    by_status = {}
    for stage in stages:
        why = f" ({stage['note']})" if stage["status"] == "SKIPPED" else ""
        by_status.setdefault(stage["status"], []).append(stage["name"] + why)
    outcomes = {"FAILED": "failed", "TIMEOUT": "stopped at the time limit", "INTERRUPTED": "interrupted", "SKIPPED": "skipped"}
    facts = [
        ("GPU", gpu),
        ("software", software),
        ("instead of the default options", ways(stages)),
        ("loss of step 1", first_losses(files)),
        ("training", last(r"^(step:\d+/\d+ val_loss:.*)", files.get("runs/train/log.txt"))),
        ("epochs of the packed data", last(r"([\d.]+) epochs", notes.get("train"))),
        ("artifact", last(r"^(final_int8_zlib_roundtrip_exact .*)", files.get("runs/train/log.txt"))),
        ("read back by eval_gpt", last(r"(val_loss:[\d.]+ val_bpb:[\d.]+)", files.get("evaluate.txt"))),
        ("interrupted and resumed", last(r"^(resumed:step:.*)", files.get("resume.txt"))),
        ("generation", last(r"^(\d+ tokens after .*)", files.get("generate.txt"))),
        *((name, notes.get(name)) for name in ("reference", "nccl", "deterministic", "gptq", "graphs_profile")),
        *((name, swept(files, name)) for name in ("micro_batches", "rope_dims")),
        ("device tests", tests_line(stages)),
        *((word, ", ".join(by_status.get(status, ["none"]))) for status, word in outcomes.items()),
    ]
    return "\n".join([*lines, "", *(f"{what}: {fact or NOT_MEASURED}"[:FACT_LENGTH] for what, fact in facts)]) + "\n"


def main():
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        print(__doc__.strip(), file=sys.stdout if sys.argv[1:] in (["--help"], ["-h"]) else sys.stderr)
        sys.exit(0 if sys.argv[1:] in (["--help"], ["-h"]) else 2)
    for folder in sys.argv[1:]:
        if not pathlib.Path(folder).is_dir():
            sys.exit(f"gpu_report: error: {folder} is not a folder")
    print(table(*merge(read(folder) for folder in sys.argv[1:])), end="")


if __name__ == "__main__":
    main()
