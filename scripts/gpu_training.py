"""The stages that train, time steps, and use what was trained. See gpu_stages.py."""

import contextlib
import math
import sys

import gpu_report
from gpu_run import HERE, Failed, Skipped, TimedOut

# What replaces the defaults if they do not work, the fastest first.
WAYS = (("--cuda-graphs", "off"),
        ("--deterministic", "1"),  # flash attention instead of cuDNN's
        ("--ops", "reference"), ("--ops", "reference", "--dtype", "float32"))  # fmt: skip
EVAL_FLAGS = ("--ops", "--dtype")  # of these, what eval_gpt has
TRY_SECONDS = 40  # of a way
NO_GRAPH = "could not be recorded"
SHARD_HEADER = 1024  # bytes
TRAINING_OVERHEAD = 75  # seconds: start, warm-up, validation, artifact


def refuse(text, *phrases):
    """Fails if the output says that a program fell back to a slow path, which exits with 0."""
    for line in text.splitlines():
        if any(phrase in line for phrase in phrases):
            raise Failed(line[:200])


def with_way(run, options, flags=("--cuda-graphs", "--deterministic", "--ops", "--dtype")):
    """`options`, and those of run.way that they do not set and the program has."""
    pairs = zip(run.way[::2], run.way[1::2])
    return [*options, *(word for pair in pairs if pair[0] in flags and pair[0] not in options for word in pair)]


def train(run, name, *options, **call):
    """A run of train_gpt; `options` set its length and validation."""
    # Weights compress badly after a few steps, so the budget is unlimited. The log has the sizes.
    fixed = ("--out-dir", "runs", "--run-id", name, "--val-loss-every", "0", "--budget-bytes", "1000000000")
    return run.call([run.program("train_gpt"), *run.data, *fixed, *with_way(run, options)], **call)


# At the full learning rate: the usual decay over the last 1,200 steps would leave next to none of it.
SHORT = ("--max-wallclock-seconds", "0", "--warmdown-iters", "0", "--eval-tokens", "65536", "--train-log-every", "1")
SMOKE = (*SHORT, "--rope-dims", "16")


def smoke(run):
    text = train(run, "smoke", *SMOKE, "--iterations", "7", "--warmup-steps", "3")
    refuse(text, NO_GRAPH)
    run.defaults_work = True
    refuse(text, "kernel not used because")
    return gpu_report.last(r"^(step:7/7 .*)", text)


def find_way(run, stage, attempt):
    """If `stage` failed: the first of WAYS for which attempt(way, its number) passes, for this and all later stages."""
    if run.status(stage) not in ("FAILED", "TIMEOUT"):
        raise Skipped("not needed")
    run.way, problems = (), []
    for number, way in enumerate(WAYS):
        try:
            attempt(way, number)
        except (Failed, TimedOut) as problem:
            problems.append(f"{' '.join(way)}: {str(problem) or 'too slow'}")
            continue
        run.way = way
        return f"{' '.join(way)} works"
    raise Failed("; ".join(problems))


def fallback(run):
    """Three steps; if the kernels fail, one more that tells which."""
    if run.defaults_work:  # smoke failed for another reason
        raise Skipped("not needed")

    def steps(way, number):
        name = f"fallback_{number}"
        train(run, name, *SMOKE, "--iterations", "3", "--warmup-steps", "1", *way, limit=TRY_SECONDS)
        run.first = name

    def attempt(way, number):
        try:
            steps(way, number)
        except Failed:
            if number == 0:
                with contextlib.suppress(Failed, TimedOut):
                    train(run, "blocking", *SMOKE, "--iterations", "1", "--warmup-steps", "0", *way, limit=TRY_SECONDS,
                          environment={"CUDA_LAUNCH_BLOCKING": "1"})  # fmt: skip
            raise

    return find_way(run, "smoke", attempt)


def ours_fallback(run):
    def attempt(way, _):
        time_steps(run, "ours_before.json", "--total-only", "--steps", "3", "--warmup", "1", training=way, limit=TRY_SECONDS)

    return find_way(run, "ours_before", attempt)


def records(run, name):
    return gpu_report.train_records(run.text(f"runs/{name}/metrics.jsonl"))


# For runs on the same tokens whose arithmetic differs by rounding only. Their first steps have the same weights: a loss in
# bfloat16 is off by less than 0.01 (docs/equality.md), gradients by less than 5 % (tests/train/device_test.cpp). From then on
# Muon and Adam enlarge rounding, as they make large steps of small gradients too: ten steps of the small models in
# tests/train/device_test.cpp differ by 0.01. The first steps at the full rate change the loss by units, as wrong gradients would.
FIRST_LOSS, FIRST_NORM, LATER_LOSSES = 0.01, 0.05, 0.05  # the last two relative


def train_like_the_first(run, *options):
    """A run with the first one's losses, of as many steps as both have."""
    first = records(run, run.first)
    if not first:
        raise Skipped("nothing to compare with: needs the stage smoke")
    train(run, run.name, *SMOKE, *options)
    pairs = list(zip(first, records(run, run.name)))
    if not pairs:
        raise Failed("no losses")
    losses = [abs(b["train_loss"] - a["train_loss"]) for a, b in pairs]
    norm, own_norm = (record.get("grad_norm", math.nan) for record in pairs[0])
    off = abs(own_norm - norm) / norm
    later = max(losses[1:], default=0)
    note = (f"{len(pairs)} losses of {run.first}, off by {losses[0]:.1e} at first, later by up to {later:.1e}; "
            f"first gradient norm off by {100 * off:.2f} %")  # fmt: skip
    allowed = [FIRST_LOSS, *(LATER_LOSSES * a["train_loss"] for a, _ in pairs[1:])]
    if not off <= FIRST_NORM or not all(loss <= limit for loss, limit in zip(losses, allowed)):  # NaN fails
        raise Failed(f"another training: {note}")
    return note


def reference(run):
    """By the plain definition of all operations."""
    if "reference" in run.way:
        raise Skipped("what the other stages use already")
    return train_like_the_first(run, "--iterations", "5", "--warmup-steps", "1", "--ops", "reference")


def nccl(run):
    """A job of one process, but through NCCL's collectives."""
    options = ("--iterations", "7", "--warmup-steps", "3", "--check-ranks", "1")
    return train_like_the_first(run, *options, "--dist-backend", "nccl")


def profiled(run, *options):
    text = train(run, run.name, *SHORT, "--iterations", "7", "--warmup-steps", "3", "--profile", "3", *options)
    return gpu_report.last(r"^profile: (\d+ steps of \S+ ms each)", text)


def profile(run):
    return profiled(run, "--cuda-graphs", "off")


def graphs_profile(run):
    if run.way:
        raise Skipped(f"graphs were not tried with {' '.join(run.way)}")
    return profiled(run, "--cuda-graphs", "on")


def time_steps(run, json_file, *options, training=(), **call):
    """Milliseconds per step, the median, by bench_step."""
    training = with_way(run, training)
    text = run.call([run.program("bench_step"), *options, "--json", json_file, "--", *run.data, *training], **call)
    refuse(text, NO_GRAPH)
    samples = gpu_report.bench_samples(gpu_report.parse(run.text(json_file)))
    if not samples:
        raise Failed(f"no times in {json_file}")
    return gpu_report.quantile(samples, 0.5)


def bench(*options, training=()):
    def body(run):
        return f"{time_steps(run, f'{run.name}.json', *options, training=training):.2f} ms per step"

    return body


def sweep(flag, *values):
    """A step's time with each of the values. The table has those that were timed, also if another one fails."""
    def body(run):
        times, failed = [], []
        for value in values:
            file = f"{run.name}_{value}.json"
            try:
                ms = time_steps(run, file, "--total-only", "--steps", "5", "--warmup", "3", training=(flag, value))
                times.append(f"{value}: {ms:.2f} ms")
            except Failed as problem:
                failed.append(f"{value}: {problem}")
        if failed:
            raise Failed(", ".join([*times, *failed]))
        return ", ".join(times)

    return body


def deterministic(run):
    """Two runs with the same losses and gradient norms to the last bit, and their time next to that of ours_after."""
    steps, samples = [], []
    for name in ("deterministic_1", "deterministic_2"):
        train(run, name, *SHORT, "--iterations", "7", "--warmup-steps", "3", "--deterministic", "1")
        steps.append([(record["train_loss"], record.get("grad_norm")) for record in records(run, name)])
        samples += gpu_report.train_samples(run.text(f"runs/{name}/metrics.jsonl"))
    note = f"{gpu_report.quantile(samples, 0.5):.2f} ms per step" if samples else "no times"
    default = gpu_report.bench_samples(gpu_report.parse(run.text("ours_after.json")))
    if default:
        note += f", {gpu_report.quantile(default, 0.5):.2f} by default"
    different = [number for number, (one, other) in enumerate(zip(*steps), 1) if one != other]
    if different or not steps[0]:
        raise Failed(f"{note}; two runs differ in {len(different)} of {len(steps[0])} steps")
    return f"{note}; two runs are equal"


def gptq(run):
    options = ("--iterations", "3", "--warmup-steps", "1", "--quantizer", "gptq", "--gptq-calibration-batches", "4")
    return gpu_report.last(r"^final_\S+_roundtrip_exact (.*)", train(run, "gptq", *SHORT, *options))


def training(run):
    seconds = min(run.options.seconds, int(run.left() - TRAINING_OVERHEAD * 0.6))
    with run.in_background(["nvidia-smi", "--query-gpu=timestamp,clocks.sm,clocks.mem,power.draw,temperature.gpu,memory.used,"
                     "clocks_throttle_reasons.active", "--format=csv", "-l", "5"], "clocks.csv"):  # fmt: skip
        text = train(run, "train", "--max-wallclock-seconds", str(seconds), "--warmdown-frac", "0.4", "--rope-dims", "16")
    note = gpu_report.last(r"^final_int8_zlib_roundtrip_exact (.*)", text) or "no final score"
    packed = sum((path.stat().st_size - SHARD_HEADER) // 2 for path in (HERE / "data").glob("fineweb_train_*.bin"))
    steps = records(run, "train")
    if packed and steps:
        note += f"; {steps[-1]['tokens'] / packed:.2f} epochs"
    return note + (f" (only {seconds} s of training fit into the budget)" if seconds < run.options.seconds else "")


def trained(run):
    """A run folder with a model: of the longest training that got that far."""
    for name in ("train", "resume", "profile", "reference", run.first):
        if any((run.results / "runs" / name / file).exists() for file in ("final_model.int8.ptz", "final_model.pt")):
            return f"runs/{name}"
    raise Skipped("no model: no stage has trained one")


def evaluate(run):
    """All of it; then a part, alone and shared by two copies of the model on the GPU: the same loss."""
    def score(*options):
        options = with_way(run, options, flags=EVAL_FLAGS)
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
    options = with_way(run, options, flags=EVAL_FLAGS)
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
    options = ("--device", "cuda", "--compile", "--steps", "6", "--warmup", "3", "--json", "upstream.json")
    command = [sys.executable, HERE / "time_upstream.py", upstream_file(run), *options]
    run.call(command, packaged=False, environment=environment)
    samples = gpu_report.bench_samples(gpu_report.parse(run.text("upstream.json")))
    return f"{gpu_report.quantile(samples, 0.5):.2f} ms per step"


def ours_after(run):
    upstream_file(run)
    return TIMED(run)


TIMED = bench("--total-only", "--steps", "10", "--warmup", "4")
