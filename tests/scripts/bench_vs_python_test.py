#!/usr/bin/env python3
"""scripts/bench_vs_python.sh: who is run how often and with what, and the arithmetic of its table."""

import unittest

from sandbox import SCRIPTS, SandboxTest

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
OURS = SAMPLE + 'sample ${float32:+3}9 "" "$@"; env >"$HOME/environment"'
PYTHON = (
    SAMPLE
    + r"""
case $1 in *time_upstream.py) ;; *) exec python3 "$@" ;; esac
case "$*" in
  *--compile*bfloat16*) echo "InductorError: no such luck" >&2; echo >&2; exit 1 ;;
  *--compile*) sample 99 ',"warmup_ms":[5100, 100]' "$@" ;;
  *) sample ${float32:+1}29 ',"warmup_ms":[30]' "$@" ;;
esac
"""
)


class BenchVsPythonTest(SandboxTest):
    def bench(self, *options):
        self.fake("bench_step", OURS)
        self.fake("python", PYTHON)
        self.environment["PYTHON"] = str(self.fakes / "python")
        self.environment["NUM_LAYERS"] = "77"
        upstream = self.root / "train_gpt.py"
        upstream.touch()
        return self.run_script(
            SCRIPTS / "bench_vs_python.sh", "--bench-step", self.fakes / "bench_step", *options, upstream
        )

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
        rows = {
            tuple(cells[1:4]): cells[4:]
            for cells in ([cell.strip() for cell in line.split("|")] for line in result.stdout.splitlines())
            if len(cells) > 4
        }
        self.assertEqual(rows["9x512", "float32", "ours"][:3], ["40.0 (40.0-40.0)", "204800", "1"])
        self.assertEqual(rows["9x512", "bfloat16", "ours"][:3], ["10.0 (10.0-10.0)", "819200", "1"])
        self.assertEqual(rows["9x512", "bfloat16", "Python, eager"][2], "3.00 (3.00-3.00)")
        compiled = rows["9x512", "float32", "Python, compiled"]
        self.assertEqual(compiled[2:6], ["2.50 (2.50-2.50)", "0.98", "1", "5.0"])
        self.assertNotIn(("9x512", "bfloat16", "Python, compiled"), rows)
        for line in (
            "- 9x512: in float32 Python's best (compiled) takes 2.50 (2.50-2.50) times as long as ours.",
            "- 9x512: in bfloat16 Python's best (eager) takes 3.00 (3.00-3.00) times as long as ours.",
            "- 9x512: of all dtypes Python's best (bfloat16, eager) takes 3.00 (3.00-3.00) times as long as ours (bfloat16).",
            "- 9x512: Python, compiled in bfloat16 failed: InductorError: no such luck",
        ):
            self.assertIn(line, result.stdout.splitlines())

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
            (["--speed", "high"], "--speed"),
        ):
            result = self.bench(*options)
            self.assertEqual(result.returncode, 2, options)
            self.assertIn(reason, result.stderr)
        self.assertEqual(self.called(""), [])


if __name__ == "__main__":
    unittest.main()
