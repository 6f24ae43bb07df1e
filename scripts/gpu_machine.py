"""The stages that look at the machine, run the device tests, and time or check single operations. See gpu_stages.py."""

import contextlib
import re
import shutil
import sys

import gpu_report
from gpu_run import HERE, Failed, Skipped, TimedOut, first_error

# All kernels on small cases: thousands of checked launches would not end in time.
SMALL_TESTS = ("Cuda.EveryKernelOnce", "Cuda.RowsThatAreNotOn16ByteBoundaries",
               *(f"Devices/DeviceExcludeValue.{test}/Cuda"
                 for test in ("OfOneDimensionNothingIsLeft", "AGradientThatNobodyNeedsChangesNothing")))  # fmt: skip
GPU_TESTS = "--gtest_filter=*Cuda*"
RESULTS = {"OK": "passed", "SKIPPED": "skipped", "FAILED": "failed"}
UNAVAILABLE = 7  # exit code of MACHINE without a GPU

FACTS = """
nproc; lscpu | head -n 20; free -m; df -h .; ldd --version | head -n 1
PATH=$PATH:/usr/local/cuda/bin; compute-sanitizer --version
true
"""
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
    """Importing PyTorch is last: from a disk that has not read it yet, it may take longer than the limit."""
    missing = ""
    for command in (["nvidia-smi"], ["nvidia-smi", "-q", "-d", "CLOCK,POWER,MEMORY,PERFORMANCE,TEMPERATURE,ECC"],
                    ["sh", "-c", FACTS]):  # fmt: skip
        try:
            run.call(command, packaged=False, limit=15)
        except (Failed, TimedOut, OSError) as problem:
            missing = f"; {command[0]}: {str(problem) or 'too slow'}"
    try:
        text = run.call([sys.executable, "-c", MACHINE], packaged=False)
    except Failed as problem:
        run.no_gpu = problem.code == UNAVAILABLE
        raise
    return (gpu_report.last(r"^GPU: (.*)", text) or "") + missing


def libraries(run):
    program = run.program("train_gpt")
    with contextlib.suppress(Failed):
        run.call(["ldd", program])
    try:
        text = run.call([sys.executable, HERE / "gpu_stages.py", "libraries", run.torch, run.programs], packaged=False)
        run.call([program, "--version"])
    except Failed:
        with contextlib.suppress(Failed):
            run.call(["sh", "-c", 'LD_DEBUG=libs "$0" --version 2>&1 | tail -n 100', program])
        raise
    return text.splitlines()[-1]


def operations(run):
    """The baseline's shape in bfloat16: times, rates and, for attention, both backends of LibTorch."""
    # Without a unit: older versions of Google Benchmark take none.
    text = run.call([run.program("bench_ops"), "--benchmark_filter=/9x512/bfloat16/fast/", "--benchmark_min_time=0.02"])
    cases, failed = (len(re.findall(rf"^\S+/9x512/\S* .*{word}", text, re.MULTILINE)) for word in ("", "ERROR OCCURRED"))
    if failed or not cases:
        raise Failed(f"{failed} of {cases} cases failed: {first_error(text) or 'no output'}")
    return f"{cases} cases"


def count_tests(text, word):
    """GoogleTest's lines of single tests."""
    return len(re.findall(rf"^\[ +{word} +\] .* \(\d+ ms\)$", text, re.MULTILINE))


def device_tests(run):
    program = run.program(run.name)
    try:
        text = run.call([program, GPU_TESTS])
    except Failed as problem:
        text = run.output()
        note = ", ".join(f"{count_tests(text, word)} {name}" for word, name in RESULTS.items())
        test, after = re.split(r"^\[ RUN +\] ", f"\n{text}\n", flags=re.MULTILINE)[-1].split("\n", 1)
        if test and not any(count_tests(after, word) for word in RESULTS):
            note += f", stopped in {test}"
        raise Failed(f"{note}: {problem}; by suite: {by_suite(run, program)}") from problem
    note = f"{count_tests(text, 'OK')} passed, {count_tests(text, 'SKIPPED')} skipped"
    if "no CUDA device" in text:
        raise Failed(f"{note}: the tests saw no GPU")
    if count_tests(text, "OK") == 0:
        raise Failed(f"{note}: no GPU tests")
    return note


def by_suite(run, program):
    """Each suite in its own process: most CUDA errors break everything after them. Blocking, so that the right test fails."""
    suites, failed, passed, suite = {}, [], 0, ""
    try:
        for line in run.call([program, GPU_TESTS, "--gtest_list_tests"]).splitlines():
            if re.match(r"\S+\.(?:\s|$)", line):
                suite = line.split()[0]
            elif line.startswith("  "):
                suites.setdefault(suite, []).append(suite + line.split()[0])
        for suite, tests in suites.items():
            try:
                run.call([program, f"--gtest_filter={':'.join(tests)}"], environment={"CUDA_LAUNCH_BLOCKING": "1"})
                passed += 1
            except Failed as problem:
                failed.append(f"{suite[:-1]} {problem}")
    except (Failed, TimedOut):
        failed.append(f"{len(suites) - len(failed) - passed} not finished")
    return ", ".join([*failed, f"{passed} passed"])


def sanitizer(run):
    """The stage is named like the tool."""
    program = shutil.which("compute-sanitizer") or shutil.which("/usr/local/cuda/bin/compute-sanitizer")
    if not program:
        raise Skipped("compute-sanitizer is not installed")
    options = ("--tool", run.name, "--error-exitcode", "9", "--report-api-errors", "no", "--target-processes", "all",
               "--kernel-name", "kernel_substring=pgolf")  # fmt: skip
    environment = {
        "PYTORCH_NO_CUDA_MEMORY_CACHING": "1",  # within LibTorch's large blocks no access is out of bounds
        "GOMP_SPINCOUNT": "1000",  # else the program would set it and execute itself again
    }
    command = [program, *options, run.program("test_ops"), f"--gtest_filter={':'.join(SMALL_TESTS)}"]
    try:
        text = run.call(command, environment=environment)
    except Failed:
        if "Device not supported" in run.output():
            raise Skipped("compute-sanitizer does not support this device") from None
        raise
    if count_tests(text, "OK") == 0:
        raise Failed("no test ran")
    return gpu_report.last(r"^=+ (ERROR SUMMARY: .*|RACECHECK SUMMARY: .*)", text)
