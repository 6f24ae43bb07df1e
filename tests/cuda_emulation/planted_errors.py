#!/usr/bin/env python3
"""Proves that test_cuda_emulation finds errors: plants one at a time in a copy of the kernels, builds, and expects a failure.

    ctest --test-dir build -C planted_errors -R planted_errors -V      a few minutes; no other run of ctest includes it
    tests/cuda_emulation/planted_errors.py --build build [WORD ...]    only the errors whose names have one of the words

Needs test_cuda_emulation as built from these sources. Fails, before it builds anything, where the text to be replaced is not in
the kernels exactly once: then update the table below.
"""

import argparse
import concurrent.futures
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

TARGET = "test_cuda_emulation.dir"
DEADLINE_S = 300  # for one run of the tests


class PlantedError(NamedTuple):
    name: str
    file: str
    text: str
    wrong: str


ERRORS = [
    # What threads do together.
    PlantedError("missing barrier in a team's sum", "team.cuh",
                 "sums[threadIdx.x / kWarp] = value;\n    __syncthreads();", "sums[threadIdx.x / kWarp] = value;"),
    PlantedError("missing barrier in a team's maximum", "team.cuh",
                 "values[threadIdx.x / kWarp] = value;\n    __syncthreads();", "values[threadIdx.x / kWarp] = value;"),
    PlantedError("one shared buffer for all sums", "team.cuh", "buffer_ = 1 - buffer_;", ""),
    PlantedError("teams share their place in shared memory", "team.cuh",
                 "float* const sums = next() + threadIdx.y * warps;", "float* const sums = next();"),
    PlantedError("missing lane in a shuffle", "team.cuh",
                 "value += __shfl_xor_sync(0xffffffffu, value, step);", "value += __shfl_xor_sync(0x7fffffffu, value, step);"),
    PlantedError("missing step of shuffles", "team.cuh", "for (int step = lanes / 2;", "for (int step = lanes / 4;"),
    PlantedError("idle lanes leave before a shuffle", "rope.cu",
                 "const T* const from = head_of(x, shape.time, active ? row : 0, blockIdx.y);",
                 "if (!active) continue;\n    const T* const from = head_of(x, shape.time, row, blockIdx.y);"),
    PlantedError("lanes without a value leave early", "exclusive.cu",
                 "const float r = direction_of(", "if (!group.active) return;\n  const float r = direction_of("),
    PlantedError("block beyond its launch bounds", "residual.cu", "threads_per_block = 256;", "threads_per_block = 1024;"),
    # Places in memory.
    PlantedError("store past the row", "row_math.h",
                 "if (first + i < width) row[first + i] = rounded<T>(pack.elements[i]);",
                 "row[first + i] = rounded<T>(pack.elements[i]);"),
    PlantedError("load past the row", "row_math.h",
                 "first + i < width ? to_float(row[first + i]) : 0.0f;", "to_float(row[first + i]);"),
    PlantedError("sums stored past the row", "residual.cu",
                 "if (first + i < shape.width) sums[first + i] = pack.elements[i];", "sums[first + i] = pack.elements[i];"),
    PlantedError("load past the last row", "residual.cu",
                 "row < shape.rows ? load_pack(x + row * shape.width, first, shape.width, shape.aligned) : Pack<T>{};",
                 "load_pack(x + row * shape.width, first, shape.width, shape.aligned);"),
    PlantedError("alignment of pointers assumed", "residual.cu",
                 "width % kPack<T> == 0 && on_boundaries(pointers...)", "width % kPack<T> == 0"),
    PlantedError("alignment of rows assumed", "cross_entropy.cu",
                 "vocab % kPack<T> == 0 && on_boundaries(logits, gradient)", "on_boundaries(logits, gradient)"),
    PlantedError("wrong index of rstd", "rope.cu",
                 "rstd[row * shape.heads + blockIdx.y] = r;", "rstd[row + blockIdx.y * layout.rows] = r;"),
    PlantedError("wrong index of the angle", "row_math.h",
                 "own.elements[i] * angles.cos[element / 2] +", "own.elements[i] * angles.cos[element % half] +"),
    PlantedError("target not checked", "cross_entropy.cu",
                 "const bool valid = target >= 0 && target < vocab;", "const bool valid = target >= 0;"),
    PlantedError("end of a long row left out", "cross_entropy.cu", "ceil_div<int64_t>(packs, 8)", "packs / 8"),
    PlantedError("too few partial sums", "residual.cu",
                 "partial_sums(rows, width), dy, normed.dnormed, normed.y, x, x0,",
                 "(partial_sums(rows, width) + 1) / 2, dy, normed.dnormed, normed.y, x, x0,"),
    PlantedError("too many partial sums", "residual.cu",
                 "partial_sums(rows, width), dy, normed.dnormed, normed.y, scale,",
                 "max_teams(rows), dy, normed.dnormed, normed.y, scale,"),
    PlantedError("partial sum of the last iteration only", "rope.cu", "gain_sum += product;", "gain_sum = product;"),
    # Arithmetic.
    PlantedError("padding in the softmax", "cross_entropy.cu",
                 "sum += first_of(p) + i < vocab ? e : 0.0f;", "sum += e;"),
    PlantedError("gradient not scaled", "cross_entropy.cu",
                 "const float per_sum = grad_scale / sum;", "const float per_sum = 1 / sum;"),
    PlantedError("rotation's sign, pairs of packs", "row_math.h",
                 "scaled(sin, low ? direction : -direction)", "scaled(sin, low ? -direction : direction)"),
    PlantedError("rotation's sign, interleaved", "row_math.h",
                 "(i % 2 == 0 ? direction : -direction)", "(i % 2 == 0 ? -direction : direction)"),
    PlantedError("rotation's sign, element by element", "row_math.h",
                 "(low ? direction : -direction) * other", "(low ? -direction : direction) * other"),
    PlantedError("gain left out", "rope.cu", "scaled(rotated_x, r * head_gain)", "scaled(rotated_x, r)"),
    PlantedError("exclusion without the group", "exclusive.cu",
                 "index % layout.shape.kv_heads * layout.shape.group + member", "index % layout.shape.kv_heads + member"),
    PlantedError("a group's last gradient only", "exclusive.cu",
                 "sums = combined(1.0f, sums, 1.0f, combined(c, own, p, gradient));", "sums = combined(c, own, p, gradient);"),
    PlantedError("value's gradient along the value", "row_math.h",
                 "combined(n.unit ? n.r * 2 * product * n.r : 0.0f, v, -n.r, sums)", "combined(0.0f, v, -n.r, sums)"),
    PlantedError("gradient through a constant length", "row_math.h",
                 "n.unit ? n.r * 2 * product * n.r : 0.0f", "n.r * 2 * product * n.r"),
    PlantedError("norm's gradient with r squared", "row_math.h",
                 "return product * r * r * (factor * r) / static_cast<float>(width);",
                 "return product * r * (factor * r) / static_cast<float>(width);"),
    PlantedError("norm's factor left out", "residual.cu", "scaled(x, factor * r)", "scaled(x, r)"),
    PlantedError("norm's factor left out of the gradient", "row_math.h",
                 "return product * r * r * (factor * r) / static_cast<float>(width);",
                 "return product * r * r * r / static_cast<float>(width);"),
    PlantedError("norm of what was not stored", "row_math.h",
                 "result.elements[i] = to_float(rounded<T>(pack.elements[i]));", "result.elements[i] = pack.elements[i];"),
    PlantedError("halves of a word swapped", "row_math.h",
                 "bfloat16_pair(pack.elements[2 * i], pack.elements[2 * i + 1]);",
                 "bfloat16_pair(pack.elements[2 * i + 1], pack.elements[2 * i]);"),
    PlantedError("negative values without their slope", "row_math.h",
                 "return 2 * leaky(x, slope_squared) * dy;", "return 2 * x * dy;"),
]


class Build:
    """The target's own compile commands, for kernels elsewhere and tests as they are."""

    def __init__(self, build, gtest):
        self.root = Path(__file__).resolve().parents[2]
        self.gtest = gtest
        self.kernels, self.tests = [], []
        for entry in json.loads((build / "compile_commands.json").read_text()):
            words = shlex.split(entry["command"])
            if "-o" not in words or TARGET not in words[words.index("-o") + 1]:
                continue
            made = str(Path(entry["directory"]) / words[words.index("-o") + 1])
            words[words.index("-o") + 1] = made
            if entry["file"].endswith(".cu"):
                self.kernels.append((Path(entry["file"]), words))
            else:
                self.tests.append(made)
        if not self.kernels or not all(Path(made).exists() for made in self.tests):
            sys.exit(f"{build} has no test_cuda_emulation; build it first")

    def program(self, folder, error):
        """The test program with the kernels of folder/src/ops/kernels/cuda, where the error is planted; None: all as they are."""
        objects = []
        for file, words in self.kernels:
            made = Path(words[words.index("-o") + 1])
            if error is not None and (error.file == file.name or not error.file.endswith(".cu")):
                words = [str(folder / file.relative_to(self.root)) if word == str(file) else word for word in words]
                made = folder / (file.name + ".o")
                words[words.index("-o") + 1] = str(made)
                self.run(words)
            objects.append(str(made))
        words = self.kernels[0][1]
        compiler = next(word for word in words if re.search(r"(\+\+|cc|clang)(-\d+)?$", word) and "ccache" not in word)
        sanitizers = [word for word in words if word.startswith("-fsanitize=")]
        program = folder / "test"
        # Of inline functions the linker takes the first it meets: the kernels' own.
        self.run([compiler, *sanitizers, *objects, *self.tests, self.gtest, "-pthread", "-o", str(program)])
        return program

    @staticmethod
    def run(words):
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"{shlex.join(words)}\n{done.stdout}{done.stderr}")


def first_failure(output):
    """The first failure that a failed run reports."""
    for pattern in (r"ERROR: AddressSanitizer: (\S+)", r"runtime error: (.*)",
                    r"C\+\+ exception with description \"(.*)\" thrown", r"Failure\n(?:Failed\n)?(.*)"):
        found = re.search(pattern, output)
        if found:
            tests = re.findall(r"\[ RUN      \] (\S+)", output[:found.start()])
            return f"{found.group(1)[:70]} [{tests[-1] if tests else '-'}]"
    return "no known failure"


def outcome(build, error):
    """(found, how, seconds) of a planted error, or of the kernels as they are if there is none."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(build.root / "src" / "ops", folder / "src" / "ops")
        if error is not None:
            path = folder / "src" / "ops" / "kernels" / "cuda" / error.file
            path.write_text(path.read_text().replace(error.text, error.wrong))
        program = build.program(folder, error)
        try:
            done = subprocess.run([str(program), "--seeds=1", "--gtest_fail_fast"], stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True, errors="replace", check=False, timeout=DEADLINE_S)
        except subprocess.TimeoutExpired:
            return True, f"runs for more than {DEADLINE_S} s", time.monotonic() - start
    how = first_failure(done.stdout.replace(f"{folder}/", "")) if done.returncode != 0 else "passes"
    return done.returncode != 0, how, time.monotonic() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, required=True, help="build folder")
    parser.add_argument("--gtest", default="-lgtest", help="GoogleTest's library (-lgtest)")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("words", nargs="*")
    options = parser.parse_args()

    build = Build(options.build.resolve(), options.gtest)
    texts = {path.name: path.read_text() for path in (build.root / "src" / "ops" / "kernels" / "cuda").iterdir()}
    stale = [error for error in ERRORS if texts.get(error.file, "").count(error.text) != 1]
    if stale:
        sys.exit("\n".join(f"{error.name}: must occur exactly once in {error.file}: {error.text!r}" for error in stale))

    errors = [error for error in ERRORS if not options.words or any(word in error.name for word in options.words)]
    found, how, seconds = outcome(build, None)
    if found:
        sys.exit(f"the kernels as they are fail: {how}")
    print(f"{'nothing planted':42} {'-':17} {seconds:5.0f} s  {how}", flush=True)
    missed = 0
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for error, (found, how, seconds) in zip(errors, pool.map(lambda error: outcome(build, error), errors)):
            missed += not found
            print(f"{error.name:42} {error.file:17} {seconds:5.0f} s  {how if found else 'MISSED'}", flush=True)
    print(f"{len(errors) - missed} of {len(errors)} planted errors found")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
