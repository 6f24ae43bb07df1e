#!/usr/bin/env python3
"""scripts/bench_vs_python.sh: which programs it runs, how often and with what options, and the arithmetic of its table."""

import signal
import subprocess
import unittest

from sandbox import SCRIPTS, SandboxTest, alive, wait_until

# Takes --json FILE and writes two samples there: the first argument of `sample`, and 2 ms more.
SAMPLE = r"""
sample() {
  local ms=$1 file="" more=$2; shift 2
  while [ $# -gt 0 ]; do [ "$1" != --json ] || file=$2; shift; done
  printf '{"device":"cpu","threads":2,"torch":"2.11.0","ms":{"total":{"samples":[%s,%s]}},"tokens":8192,' \
    "$ms" $((ms + 2)) >"$file"
  printf '"cpu_share":0.98,"peak_bytes":1048576,"first_loss":6.9%s}' "$more" >>"$file"
}
case "$*" in *float32*) float32=1 ;; *) float32="" ;; esac
"""
OURS = (
    SAMPLE
    + r"""
case "$*" in
  *--dtype*) env >"$HOME/environment"; sample ${float32:+3}9 ',"cpu_level":"avx512"' "$@" ;;
  *) env >"$HOME/own_environment"; sample 19 ',"dtype":"float32","cpu_level":"avx512","muon_dtype":"float32"' "$@" ;;
esac
"""
)
PYTHON = (
    SAMPLE
    + r"""
case $1 in *time_upstream.py) env >"$HOME/python_environment" ;; *) exec python3 "$@" ;; esac
case "$*" in
  *bfloat16*--compile*) echo "InductorError: no such luck" >&2; echo >&2; exit 1 ;;
  *--compile*) sample 99 ',"cpu_level":"avx2","warmup_ms":[5100, 100]' "$@" ;;
  *) sample ${float32:+1}29 ',"cpu_level":"avx2","warmup_ms":[30]' "$@" ;;
esac
"""
)
OLDER = SAMPLE + """sample 19 ',"dtype":"bfloat16"' "$@" """
ENDLESS = "echo $$ >>$HOME/endless; sleep 60 & echo $! >>$HOME/endless; wait"


class BenchVsPythonTest(SandboxTest):
    def prepare(self, *options, ours=OURS, python=PYTHON):
        self.fake("bench_step", ours)
        self.fake("python", python)
        self.environment["PYTHON"] = str(self.fakes / "python")
        self.environment["NUM_LAYERS"] = "77"
        upstream = self.root / "train_gpt.py"
        upstream.touch()
        return [SCRIPTS / "bench_vs_python.sh", "--bench-step", self.fakes / "bench_step", *options, upstream]

    def bench(self, *options, **programs):
        return self.run_script(*self.prepare(*options, **programs))

    def rows(self, result):
        return {
            tuple(cells[1:4]): cells[4:]
            for cells in ([cell.strip() for cell in line.split("|")] for line in result.stdout.splitlines())
            if len(cells) > 4
        }

    def environment_of(self, name):
        return (self.root / name).read_text(encoding="utf-8").splitlines()

    def test_keeps_what_is_in_the_folder_to_keep(self):
        folder = self.root / "mine"
        folder.mkdir()
        (folder / "results.json").write_text("{}", encoding="utf-8")
        result = self.bench("--keep", folder)
        self.assertEqual(result.returncode, 2)
        self.assertIn(f"--keep {folder} is not empty", result.stderr)
        self.assertTrue((folder / "results.json").exists())

    def test_table(self):
        result = self.bench("--configs", "9x512", "--rounds", "2", "--threads", "2")
        self.assertEqual(result.returncode, 0, result.stderr)
        rows = self.rows(result)
        self.assertEqual(rows["9x512", "float32", "train_gpt"][:3], ["40.0 (40.0-40.0)", "204800", "1"])
        self.assertEqual(rows["9x512", "bfloat16", "train_gpt"][:3], ["10.0 (10.0-10.0)", "819200", "1"])
        self.assertEqual(rows["9x512", "bfloat16", "upstream, eager"][2], "3.00 (3.00-3.00)")
        compiled = rows["9x512", "float32", "upstream, compiled"]
        self.assertEqual(compiled[2:6], ["2.50 (2.50-2.50)", "0.98", "1", "5.0"])
        self.assertNotIn(("9x512", "bfloat16", "upstream, compiled"), rows)
        for line in (
            "- 9x512: in float32 upstream's fastest (compiled) takes 2.50 (2.50-2.50) times as long as train_gpt.",
            "- 9x512: in bfloat16 upstream's fastest (eager) takes 3.00 (3.00-3.00) times as long as train_gpt.",
            "- 9x512: upstream's fastest of all (bfloat16, eager) takes 3.00 (3.00-3.00) times as long as train_gpt (bfloat16).",
            "- 9x512: upstream, compiled in bfloat16 failed: InductorError: no such luck",
        ):
            self.assertIn(line, result.stdout.splitlines())
        self.assertIn("; instruction set level train_gpt: avx512, upstream: avx2; device cpu; 2 thread(s); ", result.stdout)

    def test_as_each_program_starts_by_itself(self):
        result = self.bench("--configs", "9x512", "--rounds", "2", "--threads", "2")
        self.assertEqual(result.returncode, 0, result.stderr)
        own = self.rows(result)["9x512", "float32", "train_gpt, own settings"]
        self.assertEqual(own[:3], ["20.0 (20.0-20.0)", "409600", "0.50 (0.50-0.50)"])
        self.assertEqual(
            result.stdout.splitlines()[-1],
            "- 9x512: with each program's own settings, upstream's fastest (bfloat16, eager) takes 1.50 (1.50-1.50) times "
            "as long as train_gpt (float32, Muon in float32).",
        )
        own = [call for call in self.called("bench_step") if "--dtype" not in call]
        self.assertEqual(len(own), 2, "once a round, not once a dtype")
        for option in ("--muon-dtype", "--num-threads"):
            self.assertNotIn(option, own[0])
        self.assertNotIn("OMP_NUM_THREADS=", "".join(self.environment_of("own_environment")))
        for name in ("environment", "python_environment"):
            self.assertIn("OMP_NUM_THREADS=2", self.environment_of(name))

    def test_older_programs_do_not_name_their_level(self):
        options = ("--configs", "4x128", "--programs", "own,eager", "--dtypes", "bfloat16")
        result = self.bench(*options, ours=OLDER)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("; instruction set level upstream: avx2; ", result.stdout)
        self.assertTrue(result.stdout.splitlines()[-1].endswith(" 1.50 (1.50-1.50) times as long as train_gpt (bfloat16)."))

    def test_a_program_is_stopped_at_the_time_limit_and_left_out(self):
        ours = f'case "$*" in *--dtype*) ;; *) {ENDLESS} ;; esac\n{OURS}'
        python = f'case "$*" in *--compile*) {ENDLESS} ;; esac\n{PYTHON}'
        options = ("--configs", "4x128", "--rounds", "2", "--dtypes", "float32", "--time-limit", "1")
        result = self.bench(*options, ours=ours, python=python)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(self.rows(result)["4x128", "float32", "upstream, eager"][2], "3.25 (3.25-3.25)")
        self.assertEqual(
            result.stdout.splitlines()[-2:],
            [
                "- 4x128: upstream, compiled in float32 was stopped after 1 s",
                "- 4x128: train_gpt, own settings was stopped after 1 s",
            ],
        )
        self.assertEqual(len(self.called("python")), 4, "eager twice, compiled once, the table")
        self.assertEqual(len(self.called("bench_step")), 3, "fast twice, own once")
        wait_until(lambda: not any(map(alive, self.endless())))

    def test_nobody_left_to_compare(self):
        result = self.bench("--configs", "4x128", "--programs", "own", "--time-limit", "1", ours=ENDLESS)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(result.stdout.splitlines()[-1], "- 4x128: train_gpt, own settings was stopped after 1 s")

    def test_ours_failing_ends_the_script(self):
        result = self.bench("--configs", "4x128", ours="echo 'error: no such data' >&2; exit 3")
        self.assertEqual(result.returncode, 3)
        self.assertIn("error: no such data", result.stderr)
        self.assertEqual(len(self.called("")), 1)

    def test_ends_its_program_with_itself(self):
        with subprocess.Popen(self.prepare(ours=ENDLESS), env=self.environment, stderr=subprocess.DEVNULL) as script:
            wait_until(lambda: len(self.endless()) == 2)
            script.send_signal(signal.SIGTERM)
        self.assertNotEqual(script.returncode, 0)
        wait_until(lambda: not any(map(alive, self.endless())))

    def endless(self):
        pids = self.root / "endless"
        return [int(pid) for pid in pids.read_text(encoding="utf-8").split()] if pids.exists() else []

    def test_cap_of_the_instructions(self):
        names = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS")
        for level, flags, values in (
            ("portable", "avx2 avx512vl", ("default", "SSE41", "SSE4_2")),
            ("avx2", "avx2 avx512vl", ("avx2", "AVX2", "AVX2")),
            ("avx512", "avx2 avx512vl", ("avx512", "AVX512_CORE", None)),
            ("avx512bf16", "avx2 avx512vl", ("avx512", "AVX512_CORE_BF16", None)),
            ("amx", "avx2 avx512vl", ("avx512", None, None)),
            ("avx512", "avx2", (None, "AVX512_CORE", None)),
            (None, "avx2 avx512vl", (None, None, None)),
        ):
            with self.subTest(level=level, flags=flags):
                self.environment.pop("PGOLF_CPU_LEVEL", None)
                if level:
                    self.environment["PGOLF_CPU_LEVEL"] = level
                self.fake("lscpu", f'case "$*" in -p*) echo 0,0 ;; *) echo "Flags:  sse2 {flags} ht" ;; esac')
                result = self.bench(
                    "--configs", "4x128", "--programs", "fast,own,eager", "--dtypes", "float32", "--rounds", "1"
                )
                self.assertEqual(result.returncode, 0, result.stderr)
                python = dict(line.split("=", 1) for line in self.environment_of("python_environment"))
                self.assertEqual(tuple(python.get(name) for name in names), values)
                for name in ("environment", "own_environment"):
                    ours = dict(line.split("=", 1) for line in self.environment_of(name))
                    self.assertEqual(ours.get("PGOLF_CPU_LEVEL"), level)
                    self.assertFalse(set(names) & set(ours), "train_gpt sets these itself")
        self.environment["PGOLF_CPU_LEVEL"] = "sse9"
        result = self.bench()
        self.assertEqual(result.returncode, 2)
        self.assertIn("not sse9", result.stderr)

    def test_programs_take_turns_with_the_same_settings(self):
        result = self.bench("--configs", "4x128", "--rounds", "2", "--programs", "fast,eager", "--dtypes", "float32")
        self.assertEqual(result.returncode, 0, result.stderr)
        calls = [call.split()[0] for call in self.called("") if "table_vs_python" not in call]
        self.assertEqual(calls, ["bench_step", "python", "bench_step", "python"])
        environment = (self.root / "environment").read_text()
        self.assertIn("\nNUM_LAYERS=4\n", environment, "not the caller's")

    def test_mistakes(self):
        for options, reason in (
            (["--configs", "5x5"], "5x5"),
            (["--programs", "fast,slow"], "slow"),
            (["--rounds"], "--rounds"),
            (["--time-limit", "1.5"], "--time-limit takes whole seconds, not 1.5"),
            (["--speed", "high"], "--speed"),
        ):
            result = self.bench(*options)
            self.assertEqual(result.returncode, 2, options)
            self.assertIn(reason, result.stderr)
        self.assertEqual(self.called(""), [])


if __name__ == "__main__":
    unittest.main()
