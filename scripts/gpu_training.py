"""The stages that train, time steps, and use what was trained. See gpu_stages.py."""

import sys

import gpu_report
from gpu_run import HERE, Failed, Skipped

NCCL_TOLERANCE = 0.02  # of a loss; LibTorch's attention and embedding gradients differ from run to run
TRAINING_OVERHEAD = 75  # seconds: start, warm-up, validation, artifact


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


def training(run):
    seconds = min(run.options.seconds, int(run.left() - TRAINING_OVERHEAD * 0.6))
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


TIMED = bench("--total-only", "--steps", "10", "--warmup", "4")
