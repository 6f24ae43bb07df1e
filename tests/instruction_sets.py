#!/usr/bin/env python3
"""Checks that no processor executes an instruction it does not support (src/base/cpu_level.cpp).

    tests/instruction_sets.py --objects build/src/CMakeFiles build/bin/train_gpt build/bin/eval_gpt
    tests/instruction_sets.py --self-test

The kernels are compiled once per instruction set. An inline header function that is not inlined there becomes a weak symbol, of
which the linker keeps one copy for all callers, possibly one with instructions that not every processor has. So:
  1. The kernels' object files define only local symbols and their few exported tables and functions, and nothing that runs at
     program start.
  2. They contain no instruction beyond their instruction set.
  3. In the programs, only functions of these objects contain instructions beyond baseline x86-64.
Exits with 77 (skipped) where it cannot run: not x86-64, or no objdump.
"""

import argparse
import functools
import os
import pathlib
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

LEVELS = ("portable", "avx2", "avx512", "avx512bf16", "amx")
LOCAL = "abdnrt"  # nm's types; lower-case u, v, w and i are not local symbols

# Of folder pgolf_kernels_<key>.dir: the instruction set, and the demangled names that may be seen from outside. Of select
# whatever it is, weak symbols too: it is compiled as all other files are.
FOLDERS = {isa: (isa, rf"pgolf::ops::{isa}::\w+_kernels") for isa in LEVELS[:-1]}
FOLDERS["amx"] = ("amx", r"pgolf::ops::amx::\w+(\(.*\))?|pgolf::ops::amx_(attention|muon)_kernels\(\)")
FOLDERS["select"] = ("portable", None)

# A weak symbol for all that, but harmless: a pointer in the data, of the same value in whichever object it is taken from.
# Compilers make it for functions with clean-up code for exceptions.
HARMLESS = "DW.ref.__gxx_personality_v0"

# In 64-bit code only VEX (C4, C5) and EVEX (62) instructions begin with these bytes, behind prefixes for addresses.
EVEX = re.compile("((67|64|65|2e|36|3e|26) )*62 ")
WIDE = re.compile("((67|64|65|2e|36|3e|26) )*(c4|c5|62) ")
MASK = re.compile(r"k\w+ ")
AMX = re.compile("tile|ldtilecfg|sttilecfg|tdp")
BF16 = re.compile("vdpbf16ps|vcvtne2?ps2bf16")
# VEX-encoded it is F16C, of which every processor with AVX-512 also has the EVEX form.
F16C = re.compile("vcvtph2ps |vcvtps2ph ")
# What no level is compiled for, so that nothing tests for it: VNNI, IFMA, VBMI, VBMI2, BITALG, VPOPCNTDQ, CD,
# VP2INTERSECT, GFNI, VAES, FP16, and of AMX all but bfloat16.
UNTESTED = re.compile(
    r"vpdp|vpmadd52|vperm(b|i2b|t2b) |vpmultishiftqb|vpcompress[bw] |vpexpand[bw] |vpsh[lr]d|vpopcnt|vpshufbitqmb|"
    r"vpconflict|vplzcnt|vpbroadcastm|vp2intersect|vgf2p8|vaes|vpclmul|v(?!cvtps2ph |cvtph2ps )\w*[ps]h(2\w+)? |"
    r"tdp(?!bf16ps )|tcmm")
# Without VEX, but younger than x86-64: SSE3, SSSE3, SSE4 and the like. TZCNT is missing: older processors run it as BSF.
BEYOND_SSE2 = re.compile(
    r"(addsubp[sd]|h(add|sub)p[sd]|lddqu|mov(d|sh|sl)dup|fisttp\w*|pabs[bwd]|palignr|ph(add|sub|min)\w+|pmaddubsw|pmulhrsw|"
    r"pshufb|psign[bwd]|p?blend\w+|dpp[sd]|extractps|insertps|movntdqa|mpsadbw|packusdw|pcmpeqq|p(ext|ins)r[bdq]|"
    r"pm(ax|in)(sb|sd|uw|ud)|pmov[sz]x\w+|pmul(dq|ld)|ptest|round[ps][sd]|crc32\w*|pcmp[ei]str\w+|pcmpgtq|"
    r"popcnt\w?|lzcnt\w?|movbe\w?|ad[co]x\w?|aes\w+|pclmul\w+|sha(1|256)\w+|gf2p8\w+) ")


def required(code, text):
    """The index of the first of LEVELS that has an instruction, len(LEVELS) if none has."""
    if not WIDE.match(code):
        return 1 if BEYOND_SSE2.match(text) else 0
    text = re.sub(r"^(\{\w+\} )+", "", text) + " "
    if UNTESTED.match(text):
        return len(LEVELS)
    if AMX.match(text):
        return LEVELS.index("amx")
    if BF16.match(text):
        return LEVELS.index("avx512bf16")
    if EVEX.match(code) or MASK.match(text) or F16C.match(text):
        return LEVELS.index("avx512")
    return LEVELS.index("avx2")


def output_lines(*command):
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "LC_ALL": "C"}) as process:
        yield from process.stdout
    if process.returncode:
        raise RuntimeError(f"{shlex.join(map(str, command))}: exit status {process.returncode}")


def instructions(path):
    """(address of the function, its name, bytes, text) of every instruction."""
    address = name = ""
    # On one line whatever their length, with their bytes.
    for line in output_lines("objdump", "-d", "--insn-width=15", path):
        fields = line.rstrip("\n").split("\t", 2)
        if len(fields) == 3:
            yield address, name, fields[1], fields[2]
        elif header := re.match("([0-9a-f]+) <(.*)>:$", line):
            address, name = header.groups()


def symbols(path, *options):
    """(address, type, name) of what a file defines."""
    return [tuple(line.rstrip("\n").split(" ", 2)) for line in output_lines("nm", "--defined-only", *options, path)]


@functools.cache
def demangled(name):
    return "".join(output_lines("c++filt", name)).strip()


def seen_from_outside(path, allowed):
    """Problems of check 1."""
    for _, kind, name in symbols(path, "-C"):
        if kind in LOCAL or name == HARMLESS:
            continue
        if kind not in "BDRT":
            yield f"{path}: defines a weak symbol or similar, which the linker may keep for all processors: {name} ({kind})"
        elif not re.fullmatch(allowed, name):
            yield f"{path}: defines a symbol that this test does not know: {name}"
    for line in output_lines("objdump", "-h", path):
        if section := re.search(r" (\.(preinit_array|init_array|fini_array|ctors|dtors)\S*) ", line):
            yield f"{path}: has code that runs on all processors when a program starts or ends: section {section[1]}"


def too_wide(path, level):
    """Problems of check 2, one per function, and the levels of the instructions that are there."""
    problems, found = {}, set()
    for _, name, code, text in instructions(path):
        needs = required(code, text)
        found.add(needs)
        if (needs > LEVELS.index(level) or "(bad)" in text) and name not in problems:
            problems[name] = f"{path}: not an instruction of {level}: {text} in {demangled(name)}"
    return list(problems.values()), found


def kernel_functions(paths):
    """Names of the functions of objects, by nm's type: of local ones, and of those that other objects can call by name."""
    defined = [(kind, name) for path in paths for _, kind, name in symbols(path)]
    return {wanted: {name for kind, name in defined if kind == wanted} for wanted in "tT"}


def check_objects(folder):
    """Problems of checks 1 and 2, and the objects whose functions are for some processors only."""
    problems, wide_objects = [], []
    for key, (level, allowed) in FOLDERS.items():
        found = set()
        objects = sorted((folder / f"pgolf_kernels_{key}.dir").rglob("*.o"))
        for path in objects:
            problems += seen_from_outside(path, allowed) if allowed else []
            of_object, levels = too_wide(path, level)
            problems += of_object
            found |= levels
        if LEVELS.index(level) not in found:
            problems.append(f"{folder / f'pgolf_kernels_{key}.dir'}: no instruction of {level} in its {len(objects)} objects")
        if level != "portable":
            wide_objects += objects
    return problems, wide_objects


def check_program(path, kernels):
    """Problems of check 3, one per function, and how many functions of kernels hold what x86-64 has not always had."""
    at = {}
    for address, kind, name in symbols(path):
        at.setdefault(address, set()).add((kind, name))
    good, problems = set(), {}
    for address, name, code, text in instructions(path):
        if address in good or address in problems or required(code, text) == 0:
            continue
        # A weak symbol is never a kernel, though one of them may be called the same.
        if any(known in kernels.get(kind, ()) for kind, known in at.get(address, ())):
            good.add(address)
        else:
            problems[address] = f"{path}: not a kernel, but needs more than baseline x86-64: {demangled(name)}, which has {text}"
    if not good and not problems:
        problems[""] = f"{path}: contains no kernels"
    return list(problems.values()), len(good)


KERNEL = """
SHARED __attribute__((noinline)) void twice(float* x) {
  for (int i = 0; i < 64; ++i) x[i] += x[i];
}
using Function = void (*)(float*);
namespace pgolf::ops::avx2 { extern const Function test_kernels, other; }
"""
KERNELS = KERNEL + """
const Function pgolf::ops::avx2::test_kernels = twice;
#ifdef OTHER
const Function pgolf::ops::avx2::other = twice;
#endif
#ifdef STARTS
static volatile float start = [] { float x[64] = {}; twice(x); return x[0]; }();
#endif
"""
MAIN = KERNEL + """
int main(int count, char**) {
  float x[64] = {};
  (count > 1 ? twice : pgolf::ops::avx2::test_kernels)(x);
}
"""
# The first of LEVELS that has them.
ASSEMBLER = {
    "addps %xmm1,%xmm0": "portable", "verw %ax": "portable", "tzcnt %eax,%ecx": "portable", "rep stosq": "portable",
    "popcnt %eax,%ecx": "avx2", "lzcnt %eax,%ecx": "avx2", "pshufb %xmm1,%xmm0": "avx2", "mulx %rax,%rbx,%rcx": "avx2",
    "andn %rax,%rbx,%rcx": "avx2", "vaddps %xmm1,%xmm2,%xmm3": "avx2", "vaddps %fs:(%eax),%ymm2,%ymm3": "avx2",
    "vzeroupper": "avx2", "vfmadd231ss %xmm1,%xmm2,%xmm3": "avx2", "vmaskmovps %ymm0,%ymm1,(%rax)": "avx2",
    "vaddps %xmm1,%xmm2,%xmm17": "avx512", "vpternlogd $3,%xmm1,%xmm2,%xmm3": "avx512", "kmovw %k1,%eax": "avx512",
    "vaddps %zmm1,%zmm2,%zmm3{%k1}": "avx512", "vcvtph2ps %xmm1,%ymm1": "avx512", "vcvtph2ps %ymm1,%zmm1": "avx512",
    "vcvtneps2bf16 %zmm0,%ymm0": "avx512bf16", "vcvtne2ps2bf16 %zmm0,%zmm1,%zmm2": "avx512bf16",
    "vdpbf16ps %zmm0,%zmm1,%zmm2": "avx512bf16", "tilezero %tmm0": "amx", "tilerelease": "amx", "ldtilecfg (%rax)": "amx",
    "tileloadd (%rax,%rbx),%tmm1": "amx", "tdpbf16ps %tmm0,%tmm1,%tmm2": "amx", "tdpbssd %tmm0,%tmm1,%tmm2": None,
    "vpdpbusd %zmm0,%zmm1,%zmm2": None, "{vex} vpdpbusd %ymm0,%ymm1,%ymm2": None, "vpermb %zmm0,%zmm1,%zmm2": None,
}


def self_test(folder, compiler):
    def compiled(name, text, *options):
        (folder / f"{name}.cpp").write_text(text)
        subprocess.run([*compiler, "-std=c++20", "-O2", "-ftree-vectorize", *options, "-c", f"{name}.cpp", "-o", f"{name}.o"],
                       cwd=folder, check=True)
        return folder / f"{name}.o"

    def check(name, *options):
        """Problems by check, of kernels and a program that has them."""
        kernels, main = (compiled(name, KERNELS, "-mavx2", *options), compiled(f"{name}_main", MAIN, *options))
        subprocess.run([*compiler, kernels, main, "-o", folder / name], check=True)
        return (list(seen_from_outside(kernels, FOLDERS["avx2"][1])), too_wide(kernels, "avx2")[0],
                check_program(folder / name, kernel_functions([kernels]))[0])

    def expect(problems, *wanted):
        """wanted: of each check the pattern of its only problem, or None."""
        for check, (found, pattern) in enumerate(zip(problems, wanted, strict=True), 1):
            right = len(found) == 1 and re.search(pattern, found[0]) if pattern else not found
            assert right, f"check {check} should have found {pattern or 'nothing'}, but found {found or 'nothing'}"

    expect(check("clean", "-DSHARED=static"), None, None, None)
    expect(check("shared", "-DSHARED=inline"), r"weak symbol.*: twice\(float\*\) \(W\)$", None,
           r"not a kernel.*: twice\(float\*\), which has v\w+ .*mm")
    expect(check("other", "-DSHARED=static", "-DOTHER"), "does not know: pgolf::ops::avx2::other$", None, None)
    expect(check("starts", "-DSHARED=static", "-DSTARTS"), r"\.init_array|\.ctors", None, None)
    expect(too_wide(folder / "clean.o", "portable")[:1], r"not an instruction of portable: v\w+ .*mm.* in twice\(float\*\)")
    expect(check_program(folder / "clean", {})[:1], r"not a kernel.*: twice\(float\*\), which has v\w+ .*mm")

    (folder / "all.s").write_text("".join(f"{text}\n" for text in ASSEMBLER))
    subprocess.run([*compiler, "-c", folder / "all.s", "-o", folder / "all.o"], check=True)
    read = [required(code, text) for _, _, code, text in instructions(folder / "all.o")]
    for (text, level), index in zip(ASSEMBLER.items(), read, strict=True):
        got = (*LEVELS, None)[index]
        assert got == level, f"{text} is of {level or 'no level'}, but was taken for one of {got or 'no level'}"
    print(f"ok: finds what it should in 4 programs and {len(read)} instructions")


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(77)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=pathlib.Path, help="the build's folder src/CMakeFiles")
    parser.add_argument("--self-test", action="store_true", help="check this script itself, with the compiler $CXX or g++")
    parser.add_argument("programs", nargs="*", type=pathlib.Path)
    arguments = parser.parse_args()
    if not arguments.self_test and not (arguments.objects and arguments.programs):
        parser.error("--self-test, or --objects and programs, are required")
    if platform.machine() not in ("x86_64", "AMD64"):
        skip(f"this is {platform.machine()}, not x86-64")
    compiler = shlex.split(os.environ.get("CXX") or "g++")
    for tool in ("objdump", "nm", "c++filt", *(compiler[:1] if arguments.self_test else ())):
        if not shutil.which(tool):
            skip(f"{tool} is missing")

    if arguments.self_test:
        with tempfile.TemporaryDirectory() as folder:
            self_test(pathlib.Path(folder), compiler)
        return 0
    problems, wide_objects = check_objects(arguments.objects)
    kernels = kernel_functions(wide_objects)
    for program in arguments.programs:
        of_program, count = check_program(program, kernels)
        problems += of_program
        print(f"{program.name}: {count} kernel functions, {len(of_program)} problems")
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
