"""Runs the stages of gpu_stages.py: unpacking, time limits, environment, and the report after each stage."""

import contextlib
import ctypes
import gzip
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import traceback
from dataclasses import dataclass
from typing import Callable

sys.dont_write_bytecode = True  # leave the package unchanged
import gpu_report  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
SECOND = float(os.environ.get("GPU_CHECK_SCALE", "1"))  # the tests shorten all limits
GRACE = 3  # between SIGTERM and SIGKILL
RESERVE = 5  # seconds of the budget for ending a stage and publishing
REPORT_BYTES = 15 << 20  # larger reports cannot be copied from some rented machines
TEXT_BYTES = 1 << 20  # of a stage's output
MODELS = (".pt", ".ptz", ".safetensors")
ERROR = re.compile(r"[Ee]rror:|CUDA error|ERROR OCCURRED|terminate|what\(\)")
BACKTRACE = ("frame #", "Exception raised from")  # beginnings of its lines in a c10::Error

libc = ctypes.CDLL(None)


class Failed(Exception):
    code = None  # of a program's exit


class TimedOut(Exception):
    pass


class Skipped(Exception):
    pass


class Interrupted(BaseException):  # `except Exception` must not catch it
    def __init__(self, number):
        super().__init__(signal.Signals(number).name)
        self.number = number


@dataclass
class Stage:
    name: str
    part: int  # 0: both
    limit: float
    body: Callable
    min_seconds: float = 10  # skipped if less time is left


def say(text, file=None):
    print(f"gpu_check: {text}", file=file or sys.stdout, flush=True)


# The programs and their libraries.


def unpack(folder):
    archive = HERE / "programs.tar.xz"
    if not archive.is_file():
        sys.exit(f"gpu_check: error: {archive} is missing; run this from a package made by gpu_check.sh pack")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))


def library_path(programs, torch):
    """LD_LIBRARY_PATH of the programs, for the LibTorch in `torch`."""
    return ":".join(map(str, (programs / "lib", torch / "lib", *sorted(torch.parent.glob("nvidia/*/lib")))))


def check_libraries(programs, torch):
    """Whether every library of every program is found, and LibTorch in `torch`."""
    if not (torch / "lib/libtorch_cuda.so").exists():
        say(f"error: {torch} has no lib/libtorch_cuda.so: not the torch folder of a CUDA build of PyTorch", sys.stderr)
        return False
    complete = True
    names = sorted((programs / "bin").iterdir())
    for program in names:
        environment = {**os.environ, "LD_LIBRARY_PATH": library_path(programs, torch)}
        ldd = subprocess.run(["ldd", program], env=environment, text=True, capture_output=True, check=False)
        found = ldd.stdout
        if ldd.returncode != 0:
            say(f"error: {program.name}: ldd: exit {ldd.returncode}: {ldd.stderr.strip()}", sys.stderr)
        # The driver, libcuda, comes with the GPU.
        lines = [line.strip() for line in found.splitlines()]
        missing = [line for line in lines if "not found" in line and not line.startswith("libcuda.so")]
        if missing:
            say(f"error: {program.name}: {', '.join(missing)}", sys.stderr)
        elsewhere = "libtorch" in found and f"libtorch_cuda.so => {torch}/" not in found
        if elsewhere:
            say(f"error: {program.name} does not load libtorch_cuda.so from {torch}", sys.stderr)
        complete = complete and ldd.returncode == 0 and not missing and not elsewhere
    if complete:
        print(f"all libraries of {len(names)} programs found")
    return complete


# The run: stages, their time limits, the report.


class Run:
    def __init__(self, options, torch, report, work):
        self.options, self.torch, self.report = options, torch, report
        self.programs = work / "programs"
        self.scratch = work / "scratch"
        self.results = work / "results"  # working folder of all stages and source of the report
        for folder in (self.programs, self.scratch, self.results):
            folder.mkdir()
        for file in HERE.glob("predicted_*.json"):
            shutil.copy(file, self.results)
        self.end = options.began + (options.budget - RESERVE) * SECOND
        self.deadline = self.end
        self.done, self.lines, self.left_out = [], [], []
        self.name = None
        self.no_gpu = False
        self.defaults_work = False
        self.way = ()  # options that replace the defaults if those do not work
        self.first = "smoke"  # the run with whose losses others are compared

    # For the stages.

    @property
    def data(self):
        return ["--data-path", HERE / "data", "--tokenizer-path", HERE / "data/tokenizer.model", "--device", "cuda"]

    def program(self, name):
        path = self.programs / "bin" / name
        if not path.exists():
            raise Skipped(f"{name} is not in the package")
        return path

    def text(self, name):
        """What a file of the report has; "" if there is none."""
        path = self.results / name
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def output(self):
        return self.text(f"{self.name}.txt")

    def status(self, name):
        """How a stage before this one ended; None if it did not run."""
        return next((stage["status"] for stage in reversed(self.done) if stage["name"] == name), None)

    def left(self):
        """Seconds left to the stage."""
        return (self.deadline - time.monotonic()) / SECOND

    def start(self, command, output, packaged, more):
        environment = {**os.environ, **more}
        if packaged:
            # Not for Python, which was built with another libcrypto and libz than those of the package.
            paths = (library_path(self.programs, self.torch), os.environ.get("LD_LIBRARY_PATH"))
            environment["LD_LIBRARY_PATH"] = ":".join(filter(None, paths))
        with open(self.results / output, "ab") as file:
            return subprocess.Popen(
                [str(word) for word in command], cwd=self.results, env=environment, stdin=subprocess.DEVNULL, stdout=file,
                stderr=subprocess.STDOUT, start_new_session=True,
                preexec_fn=lambda: libc.prctl(1, signal.SIGKILL),  # PR_SET_PDEATHSIG: no program outlives this one
            )  # fmt: skip

    def call(self, command, *, packaged=True, environment=None, code=0, interrupt=None, limit=None):
        """Runs a program, which must exit with `code`; sends it SIGTERM once interrupt() returns true. Returns its output."""
        if self.left() <= 0:
            raise TimedOut
        deadline = self.deadline if limit is None else min(self.deadline, time.monotonic() + limit * SECOND)
        path = self.results / f"{self.name}.txt"
        with open(path, "a", encoding="utf-8") as file:
            settings = [f"{name}={value}" for name, value in (environment or {}).items()]
            print("+", shlex.join([*settings, *map(str, command)]), file=file)
        before = path.stat().st_size
        process = self.start(command, path.name, packaged, environment or {})
        try:
            while True:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimedOut
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(min(left, 0.1))
                    break
                if interrupt and interrupt():
                    process.send_signal(signal.SIGTERM)
                    interrupt = None
        finally:
            end_group(process)
        text = path.read_bytes()[before:].decode(errors="replace")
        if process.returncode != code:
            found = f"exit {process.returncode}" + (f", expected {code}" if code else "")
            failure = Failed(": ".join(filter(None, (found, first_error(text)))))
            failure.code = process.returncode
            raise failure
        return text

    @contextlib.contextmanager
    def in_background(self, command, output):
        """Runs a program during the block and ignores its result."""
        process = self.start(command, output, False, {}) if shutil.which(command[0]) else None
        try:
            yield
        finally:
            if process:
                end_group(process)

    # For the list of stages.

    def stage(self, stage):
        self.name = stage.name
        began = time.monotonic()
        left = (self.end - began) / SECOND
        status, note = "ok", ""
        try:
            if self.no_gpu:
                raise Skipped("no GPU")
            if left < stage.min_seconds:
                raise Skipped(f"only {max(0, left):.0f} s of the budget left")
            self.deadline = began + min(stage.limit, left) * SECOND
            note = stage.body(self) or ""
        except Skipped as reason:
            status, note = "SKIPPED", str(reason)
        except TimedOut:
            status, note = "TIMEOUT", f"after {min(stage.limit, left):.0f} s"
        except Interrupted as what:
            status, note = "INTERRUPTED", str(what)
            raise
        except Exception as problem:  # a bug in a stage must not end the run either
            status, note = "FAILED", str(problem) if isinstance(problem, Failed) else repr(problem)
        finally:
            self.record(status, note, time.monotonic() - began)

    def record(self, status, note, seconds):
        entry = {"name": self.name, "status": status, "seconds": round(seconds, 1), "note": note}
        self.done.append(entry)
        with going_on():
            end = []
            if status not in ("ok", "SKIPPED"):
                if status == "TIMEOUT":
                    entry["note"] = ": ".join(filter(None, (note, first_error(self.output()))))
                end = [f"    {line[:300]}" for line in telling_lines(self.output())[-15:]]
            lines = [f"{status:8} {self.name:12} {seconds:5.0f} s  {entry['note']}".rstrip(), *end]
            self.lines += lines
            print("\n".join(lines), flush=True)
        with going_on():
            self.publish()

    def table(self):
        try:
            return gpu_report.table(gpu_report.read(self.results), self.done)
        except Exception:  # the outputs are worth more
            return f"no table:\n{traceback.format_exc()}"

    def overview(self):
        """A line for each stage."""
        return "\n".join(f"{stage['status']} {stage['name']} {stage['seconds']:.0f} s {stage['note'][:120]}".rstrip()
                         for stage in self.done)  # fmt: skip

    def publish(self):
        """Writes REPORT/summary.txt and REPORT/report.tar.gz with everything so far."""
        for path in self.results.rglob("*"):
            if path.is_file() and not path.name.endswith(MODELS):
                shorten(path)
        (self.results / "stages.json").write_text(json.dumps(self.done, indent=1), encoding="utf-8")
        archive = self.report / ".report.tar.gz.tmp"
        while True:
            lines = [*self.lines, "", self.table()]
            lines += [f"not in report.tar.gz because of its size: {name}\n" for name in self.left_out]
            (self.results / "summary.txt").write_text("\n".join(lines), encoding="utf-8")
            files = pack_results(self.results, archive, self.left_out)
            if archive.stat().st_size <= REPORT_BYTES or not files:
                break
            self.left_out.append(max(files, key=lambda name: (self.results / name).stat().st_size))
        archive.replace(self.report / "report.tar.gz")
        shutil.copyfile(self.results / "summary.txt", self.report / ".summary.txt.tmp")
        (self.report / ".summary.txt.tmp").replace(self.report / "summary.txt")


@contextlib.contextmanager
def going_on():
    """Prints what the block throws: an error in the report must not end the run."""
    try:
        yield
    except Exception:
        traceback.print_exc(file=sys.stdout)


def telling_lines(text):
    return [line for line in text.splitlines() if not line.lstrip().startswith(BACKTRACE)]


def first_error(text):
    return next((line.strip()[:200] for line in telling_lines(text) if ERROR.search(line)), None)


def end_group(process):
    """Ends a program and its children."""
    # A program that hangs in the driver may survive even SIGKILL; the run continues.
    for number, timeout in ((signal.SIGTERM, GRACE * SECOND), (signal.SIGKILL, GRACE * SECOND)):
        with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, number if process.poll() is None else signal.SIGKILL)
            process.wait(timeout)


def shorten(path):
    """Cuts the middle of a long log; compresses large JSON files."""
    size = path.stat().st_size
    if path.suffix in (".txt", ".csv") and size > TEXT_BYTES:
        text = path.read_bytes()
        half = TEXT_BYTES // 2
        path.write_bytes(text[:half] + f"\n... {size - 2 * half} bytes left out ...\n".encode() + text[-half:])
    elif path.suffix == ".json" and size > TEXT_BYTES:
        with open(path, "rb") as file, gzip.open(f"{path}.gz", "wb", compresslevel=6) as compressed:
            shutil.copyfileobj(file, compressed)
        path.unlink()


def pack_results(folder, archive, left_out):
    """Writes everything but models and `left_out`; returns the names."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]
    names = [path.relative_to(folder).as_posix() for path in files]
    names = [name for name in names if not name.endswith(MODELS) and name not in left_out]
    with tarfile.open(archive, "w:gz", compresslevel=6) as tar:
        for name in names:
            tar.add(folder / name, name)
    return names
