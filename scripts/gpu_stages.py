#!/usr/bin/env python3
"""The stages of gpu_check.sh on the machine with the GPU; see `gpu_check.sh --help` for commands and options.

A stage is a line of stages() with a function that runs programs with Run.call() and returns a note for the summary. It has its
own time limit, its output goes to NAME.txt, and it ends as "ok", "FAILED", "TIMEOUT" or "SKIPPED"; the next one runs in any case.
The report is published after each stage, because the machine may disappear before the next one ends.
"""

import argparse
import importlib.util
import pathlib
import re
import signal
import sys
import tempfile
import time

sys.dont_write_bytecode = True  # leave the package unchanged
from gpu_machine import device_tests, libraries, machine, operations, sanitizer  # noqa: E402
from gpu_run import Interrupted, Run, Stage, check_libraries, going_on, library_path, say, unpack  # noqa: E402
from gpu_training import (  # noqa: E402
    TIMED, TRAINING_OVERHEAD, bench, deterministic, evaluate, fallback, generate, gptq, graphs_profile, nccl, ours_after,
    ours_fallback, profile, reference, resume, smoke, sweep, training, upstream,
)  # fmt: skip

BUDGETS = {None: 560, 1: 390, 2: 230}  # seconds, by part


def stages(options):
    """In order. Both parts start with the most informative stages; part 2 does not need part 1."""
    return (
        Stage("machine", 0, 60, machine),
        Stage("libraries", 0, 40, libraries),
        Stage("smoke", 1, 75, smoke),
        Stage("fallback", 1, 120, fallback, min_seconds=30),
        Stage("reference", 1, 60, reference),
        Stage("step_graphs", 1, 60, TIMED),
        Stage("step_parts", 1, 60, bench("--steps", "6", "--warmup", "2", training=("--cuda-graphs", "off"))),
        Stage("test_ops", 1, 60, device_tests),
        Stage("test_model", 1, 45, device_tests),
        Stage("test_train", 1, 60, device_tests),
        Stage("operations", 1, 60, operations),
        Stage("profile", 1, 75, profile),
        Stage("test_optim", 1, 45, device_tests),
        Stage("train", 1, options.seconds + TRAINING_OVERHEAD, training, min_seconds=60),
        Stage("evaluate", 1, 45, evaluate),
        Stage("resume", 1, 75, resume, min_seconds=30),
        Stage("generate", 1, 45, generate),
        Stage("nccl", 1, 60, nccl),
        Stage("ours_before", 2, 45, TIMED),
        Stage("ours_fallback", 2, 90, ours_fallback, min_seconds=30),
        Stage("upstream", 2, 150, upstream, min_seconds=45),
        Stage("ours_after", 2, 45, ours_after),
        Stage("micro_batches", 2, 45, sweep("--micro-batch-tokens", "131072", "262144", "524288"), min_seconds=20),
        Stage("rope_dims", 2, 30, sweep("--rope-dims", "16", "none"), min_seconds=20),
        Stage("deterministic", 2, 45, deterministic, min_seconds=25),
        Stage("gptq", 2, 30, gptq, min_seconds=15),
        Stage("graphs_profile", 2, 30, graphs_profile, min_seconds=15),
        Stage("memcheck", 2, 75, sanitizer),
        Stage("racecheck", 2, 75, sanitizer),
    )


# The commands.


class Parser(argparse.ArgumentParser):
    def error(self, message):
        say(f"error: {message}; see gpu_check.sh --help", sys.stderr)
        sys.exit(2)


def whole(low):
    def parse(text):
        if not re.fullmatch(r"\d+", text) or int(text) < low:
            raise argparse.ArgumentTypeError(f'takes an integer of at least {low}, not "{text}"')
        return int(text)

    return parse


def parse_run(arguments):
    parser = Parser(prog="gpu_check.sh run", add_help=False, allow_abbrev=False)
    parser.add_argument("report", metavar="REPORT", type=pathlib.Path)
    parser.add_argument("--upstream", type=pathlib.Path)
    parser.add_argument("--seconds", type=whole(1), default=30)
    parser.add_argument("--budget", type=whole(1))
    parser.add_argument("--part", type=int, choices=(1, 2))
    parser.add_argument("--only")
    options = parser.parse_args(arguments)
    chosen = [stage for stage in stages(options) if options.part is None or stage.part in (0, options.part)]
    if options.only is not None:
        names = options.only.split(",")
        known = [stage.name for stage in chosen]
        for name in names:
            if name not in known:
                parser.error(f'--only takes names of stages ({", ".join(known)}), not "{name}"')
        chosen = [stage for stage in chosen if stage.name in names]
    if options.upstream:
        options.upstream = options.upstream.resolve()
        if not options.upstream.is_file():
            parser.error(f"--upstream {options.upstream} is not a file")
    if (options.report / "report.tar.gz").exists():
        parser.error(f"{options.report} already has a report; choose a new folder")
    options.budget = options.budget or BUDGETS[options.part]
    return options, chosen


def find_torch():
    found = importlib.util.find_spec("torch")
    if not found or not found.submodule_search_locations:
        sys.exit(f"gpu_check: error: {sys.executable} has no PyTorch; set PYTHON to an interpreter that has it")
    return pathlib.Path(found.submodule_search_locations[0]).resolve()


SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def interrupt(number, _):
    for other in SIGNALS:  # a second signal must not interrupt publishing
        signal.signal(other, signal.SIG_IGN)
    raise Interrupted(number)


def run_stages(arguments):
    began = time.monotonic()
    options, chosen = parse_run(arguments)
    options.began = began
    torch = find_torch()
    options.report.mkdir(parents=True, exist_ok=True)
    for number in SIGNALS:
        signal.signal(number, interrupt)
    ended_by = None
    with tempfile.TemporaryDirectory(prefix="gpu_check_", ignore_cleanup_errors=True) as work:
        run = Run(options, torch, options.report.resolve(), pathlib.Path(work))
        try:
            unpack(run.programs)
            for stage in chosen:
                run.stage(stage)
        except Interrupted as what:
            ended_by = what.number
            with going_on():
                run.publish()  # the signal may have interrupted publishing
        print(f"\n{run.table()}\n{run.overview()}", flush=True)
    if ended_by:
        say(f"stopped by {signal.Signals(ended_by).name}; results so far: {options.report}", sys.stderr)
        return 128 + ended_by
    failed = [stage["name"] for stage in run.done if stage["status"] not in ("ok", "SKIPPED")]
    if failed:
        say(f"failed: {', '.join(failed)}; see {options.report}", sys.stderr)
        return 1
    if not any(stage["status"] == "ok" for stage in run.done):
        say("no stage ran", sys.stderr)
        return 1
    say(f"all stages that ran passed; see {options.report}")
    return 0


def libraries_command(arguments):
    parser = Parser(prog="gpu_check.sh libraries", add_help=False, allow_abbrev=False)
    parser.add_argument("torch", metavar="TORCH", type=pathlib.Path)
    parser.add_argument("programs", nargs="?", type=pathlib.Path, help=argparse.SUPPRESS)  # unpacked already
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="gpu_check_") as folder:
        programs = options.programs or pathlib.Path(folder)
        if not options.programs:
            unpack(programs)
        return 0 if check_libraries(programs, options.torch.resolve()) else 1


def unpack_command(arguments):
    parser = Parser(prog="gpu_check.sh unpack", add_help=False, allow_abbrev=False)
    parser.add_argument("folder", metavar="FOLDER", type=pathlib.Path)
    folder = parser.parse_args(arguments).folder.resolve()
    torch = find_torch()
    folder.mkdir(parents=True, exist_ok=True)
    unpack(folder)
    print(library_path(folder, torch))
    return 0


if __name__ == "__main__":
    command, *rest = sys.argv[1:] or [None]
    commands = {"run": run_stages, "libraries": libraries_command, "unpack": unpack_command}
    if command not in commands:
        sys.exit(f"gpu_check: error: call this as gpu_check.sh {', '.join(commands)}")
    sys.exit(commands[command](rest))
