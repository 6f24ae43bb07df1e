"""The stages that look at the machine, run the device tests, and time or check single operations. See gpu_stages.py."""

import shutil
import sys

import gpu_report
from gpu_run import HERE, Failed, Skipped

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
    return run.call([sys.executable, HERE / "gpu_stages.py", "libraries", run.torch, run.programs], packaged=False).splitlines()[-1]


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
