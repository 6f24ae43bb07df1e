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
import shutil
import signal
import sys
import tempfile
import time

sys.dont_write_bytecode = True  # leave the package unchanged
import gpu_report  # noqa: E402
from gpu_run import HERE, SECOND, Failed, Interrupted, Run, Skipped, Stage, check_libraries, say, unpack  # noqa: E402

BUDGETS = {None: 600, 1: 390, 2: 230}  # seconds, by part
UNAVAILABLE = 7  # exit code of MACHINE without a GPU

MACHINE = """
import platform, sys, torch
if not torch.cuda.is_available():
    print("this machine has no usable GPU")
    sys.exit(7)
p = torch.cuda.get_device_properties(0)
print(f"GPU: {p.name}, {p.multi_processor_count} SMs, {p.total_memory >> 20} MiB, compute capability {p.major}.{p.minor}")
print(f"software: PyTorch {torch.__version__}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}, "
      f"Python {platform.python_version()}, {platform.platform()}")
"""


def machine(run):
    try:
        text = run.call([sys.executable, "-c", MACHINE], packaged=False)
    except Failed as problem:
        run.no_gpu = str(problem) == f"exit {UNAVAILABLE}"
        raise
    note = gpu_report.last(r"^GPU: (.*)", text) or ""
    try:
        run.call(["nvidia-smi"], packaged=False)
        run.call(["nvidia-smi", "-q", "-d", "CLOCK,POWER,MEMORY,PERFORMANCE,TEMPERATURE,ECC"], packaged=False)
    except (Failed, OSError) as problem:
        note += f"; nvidia-smi: {problem}"
    return note


def libraries(run):
    return run.call([sys.executable, __file__, "libraries", run.torch, run.programs], packaged=False).splitlines()[-1]


def refuse(text, *phrases):
    """Fails if the output says that a program fell back to a slow path, which exits with 0."""
    for phrase in phrases:
        if phrase in text:
            raise Failed(f'output has "{phrase}"')


def train(run, name, *options, **call):
    """A run of train_gpt; `options` set its length and validation."""
    # Weights compress badly after a few steps, so the budget is unlimited. The log has the sizes.
    fixed = ("--out-dir", "runs", "--run-id", name, "--val-loss-every", "0", "--budget-bytes", "1000000000")
    return run.call([run.program("train_gpt"), *run.data, *fixed, *options], **call)


SHORT = ("--max-wallclock-seconds", "0", "--eval-tokens", "65536", "--train-log-every", "1")


def smoke(run):
    text = train(run, "smoke", *SHORT, "--iterations", "7", "--warmup-steps", "3", "--rope-dims", "16")
    refuse(text, "could not be recorded", "kernel not used because")
    return gpu_report.last(r"^(step:7/7 .*)", text)


def train_losses(run, name):
    lines = (run.results / "runs" / name / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [line["train_loss"] for line in map(gpu_report.parse, lines) if "train_loss" in line]


def nccl(run):
    """A job of one process, but through NCCL's collectives: the same losses as without."""
    if not (run.results / "runs/smoke/metrics.jsonl").exists():
        raise Skipped("nothing to compare with: needs the stage smoke")
    options = (*SHORT, "--iterations", "7", "--warmup-steps", "3", "--rope-dims", "16", "--check-ranks", "1")
    train(run, "nccl", *options, "--dist-backend", "nccl")
    alone, together = train_losses(run, "smoke"), train_losses(run, "nccl")
    if not alone or len(alone) != len(together):
        raise Failed(f"{len(together)} losses with NCCL, {len(alone)} without")
    largest = max(abs(a - b) for a, b in zip(alone, together))
    if largest > NCCL_TOLERANCE:
        raise Failed(f"losses differ by up to {largest:.1e}")
    return f"{len(together)} losses, largest difference {largest:.1e}"


def profile(run):
    train(run, "profile", *SHORT, "--iterations", "7", "--warmup-steps", "3", "--profile", "3", "--cuda-graphs", "off")


def bench(*options, training=()):
    def body(run):
        json_file = f"{run.name}.json"
        text = run.call([run.program("bench_step"), *options, "--json", json_file, "--", *run.data, *training])
        refuse(text, "could not be recorded")
        samples = gpu_report.bench_samples(gpu_report.parse((run.results / json_file).read_text(encoding="utf-8")))
        if not samples:
            raise Failed(f"no times in {json_file}")
        return f"{gpu_report.quantile(samples, 0.5):.2f} ms per step"

    return body


def operations(run):
    """The baseline's shape in bfloat16: times, rates and, for attention, both backends of LibTorch."""
    run.call([run.program("bench_ops"), "--benchmark_filter=/9x512/bfloat16/fast/", "--benchmark_min_time=0.02s"])


def device_tests(run):
    def count(word):
        return int(gpu_report.last(rf"^\[ +{word} +\] (\d+) tests?[.,]", text) or 0)

    try:
        text = run.call([run.program(run.name), "--gtest_filter=*Cuda*:*OnDevice*"])
    except Failed as problem:
        text = run.output()
        raise Failed(f"{count('PASSED')} passed, {count('SKIPPED')} skipped, {count('FAILED')} failed: {problem}") from problem
    note = f"{count('PASSED')} passed, {count('SKIPPED')} skipped"
    if "no CUDA device" in text:
        raise Failed(f"{note}: the tests saw no GPU")
    if count("PASSED") == 0:
        raise Skipped(f"{note}: no GPU tests")
    return note


def training(run):
    left = (run.deadline - time.monotonic()) / SECOND
    seconds = min(run.options.seconds, int(left - TRAINING_OVERHEAD * 0.6))
    with run.in_background(["nvidia-smi", "--query-gpu=timestamp,clocks.sm,clocks.mem,power.draw,temperature.gpu,memory.used,"
                     "clocks_throttle_reasons.active", "--format=csv", "-l", "5"], "clocks.csv"):  # fmt: skip
        text = train(run, "train", "--max-wallclock-seconds", str(seconds), "--rope-dims", "16")
    shorter = f" (only {seconds} s of training fit into the budget)" if seconds < run.options.seconds else ""
    return (gpu_report.last(r"^final_int8_zlib_roundtrip_exact (.*)", text) or "no final score") + shorter


def trained(run):
    if not (run.results / "runs/train/final_model.int8.ptz").exists():
        raise Skipped("no model: needs the stage train")
    return "runs/train"


def evaluate(run):
    """All of it; then a part, alone and shared by two copies of the model on the GPU: the same loss."""
    def score(*options):
        return run.call([run.program("eval_gpt"), "score", trained(run), *run.data, *options])

    text = score()
    losses = [gpu_report.last(r"val_loss:(\S+) val_bpb", score("--eval-tokens", "1048576", *devices))
              for devices in ((), ("--devices", "0,0"))]  # fmt: skip
    if losses[0] != losses[1]:
        raise Failed(f"--devices 0,0 changes val_loss from {losses[0]} to {losses[1]}")
    return gpu_report.last(r"(val_loss:.*)", text)


def resume(run):
    log = run.results / "runs/resume/log.txt"
    options = (*SHORT, "--iterations", "24", "--warmup-steps", "2")

    def in_the_middle():
        return log.exists() and "\nstep:8/24 train_loss" in log.read_text(encoding="utf-8")

    train(run, "resume", *options, code=130, interrupt=in_the_middle)
    text = train(run, "resume", *options, "--resume", "auto")
    resumed = gpu_report.last(r"^(resumed:step:\d+)", text)
    finished = gpu_report.last(r"^(step:24/24 val_loss.*)", text)
    if not resumed or not finished:
        raise Failed("the second call did not resume from the first one's checkpoint")
    return f"{resumed}, then {finished}"


def generate(run):
    options = ("--prompt", "The", "--temperature", "0", "--max-new-tokens", "200")
    where = ("--tokenizer-path", HERE / "data/tokenizer.model", "--device", "cuda")
    text = run.call([run.program("eval_gpt"), "generate", trained(run), *where, *options])
    return gpu_report.last(r"^(\d+ tokens after .*)", text)


def upstream_file(run):
    file = run.options.upstream or HERE / "train_gpt.py"
    if not file.exists():
        raise Skipped("no upstream train_gpt.py; pass it with --upstream")
    return file


def upstream(run):
    environment = {
        "DATA_PATH": str(HERE / "data"),
        "TOKENIZER_PATH": str(HERE / "data/tokenizer.model"),
        "TORCHINDUCTOR_CACHE_DIR": str(run.scratch),
    }
    options = ("--device", "cuda", "--compile", "--steps", "10", "--warmup", "4", "--json", "upstream.json")
    command = [sys.executable, HERE / "time_upstream.py", upstream_file(run), *options]
    run.call(command, packaged=False, environment=environment)
    samples = gpu_report.bench_samples(gpu_report.parse((run.results / "upstream.json").read_text(encoding="utf-8")))
    return f"{gpu_report.quantile(samples, 0.5):.2f} ms per step"


def ours_after(run):
    upstream_file(run)
    return TIMED(run)


def sanitizer(run):
    """The stage is named like the tool."""
    program = shutil.which("compute-sanitizer") or shutil.which("/usr/local/cuda/bin/compute-sanitizer")
    if not program:
        raise Skipped("compute-sanitizer is not installed")
    options = ("--tool", run.name, "--error-exitcode", "9", "--kernel-name", "kernel_substring=pgolf")
    try:
        text = run.call([program, *options, run.program("test_ops"), "--gtest_filter=Cuda.*:*ExcludeValue*/Cuda"])
    except Failed:
        if "Device not supported" in run.output():
            raise Skipped("compute-sanitizer does not support this device") from None
        raise
    return gpu_report.last(r"^=+ (ERROR SUMMARY: .*|RACECHECK SUMMARY: .*)", text)


TIMED = bench("--total-only", "--steps", "10", "--warmup", "4")
NCCL_TOLERANCE = 0.02  # of a loss; LibTorch's attention and embedding gradients differ from run to run
TRAINING_OVERHEAD = 75  # seconds: start, warm-up, validation, artifact


def stages(options):
    """In order. Part 1 starts with the most informative stages; part 2 does not need part 1."""
    return (
        Stage("machine", 0, 30, machine),
        Stage("libraries", 0, 20, libraries),
        Stage("smoke", 1, 75, smoke),
        Stage("step_graphs", 1, 60, TIMED),
        Stage("test_ops", 1, 60, device_tests),
        Stage("test_model", 1, 45, device_tests),
        Stage("test_optim", 1, 45, device_tests),
        Stage("test_train", 1, 60, device_tests),
        Stage("test_eval", 1, 45, device_tests),
        Stage("nccl", 1, 60, nccl),
        Stage("profile", 1, 75, profile),
        Stage("step_parts", 1, 60, bench("--steps", "6", "--warmup", "2", training=("--cuda-graphs", "off"))),
        Stage("operations", 1, 60, operations),
        Stage("train", 1, options.seconds + TRAINING_OVERHEAD, training, min_seconds=TRAINING_OVERHEAD),
        Stage("evaluate", 1, 45, evaluate),
        Stage("resume", 1, 75, resume, min_seconds=30),
        Stage("generate", 1, 45, generate),
        Stage("ours_before", 2, 45, TIMED),
        Stage("upstream", 2, 150, upstream, min_seconds=45),
        Stage("ours_after", 2, 45, ours_after),
        Stage("memcheck", 2, 75, sanitizer),
        Stage("racecheck", 2, 75, sanitizer),
        Stage("reference", 2, 60, bench("--total-only", "--steps", "4", "--warmup", "1", training=("--ops", "reference"))),
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
    parser.add_argument("--seconds", type=whole(1), default=60)
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
            run.publish()  # the signal may have interrupted publishing
        print("\n" + run.table(), flush=True)
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


if __name__ == "__main__":
    command, *rest = sys.argv[1:] or [None]
    commands = {"run": run_stages, "libraries": libraries_command}
    if command not in commands:
        sys.exit("gpu_check: error: call this as gpu_check.sh run or gpu_check.sh libraries")
    sys.exit(commands[command](rest))
