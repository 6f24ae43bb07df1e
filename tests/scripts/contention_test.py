#!/usr/bin/env python3
"""benchmarks/contention.py with a fake bench_step whose times are known: the neighbors, and the table."""

import contextlib
import io
import os
import pathlib
import signal
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from sandbox import SandboxTest, alive, wait_until

BENCHMARKS = pathlib.Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
import contention

# Notes the process id and state of every other child of the program that called it, as "ID STATE", and counts them.
LOOK_AROUND = """
sleep 0.1
count=0
for stat in /proc/[0-9]*/stat; do
  { read -r pid _ state parent _ <"$stat"; } 2>/dev/null || continue
  [ "$parent" = $PPID ] && [ "$pid" != $$ ] || continue
  echo "$pid $state" >>"$HOME/neighbors"
  count=$((count + 1))
done
"""
# 10 ms undisturbed; what a neighbor adds to that, and the pace of the machine, grow with every round.
BENCH = (
    LOOK_AROUND
    + """
calls=$(grep -c "^bench_step" "$HOME/calls")
round=$(((calls - 1) / ${CALLS_A_ROUND:-2} + 1))
while [ "$1" != --json ]; do shift; done
ms=$((10 * (1 + count * round) * round ${PASSIVE:+/ 2}))
printf '{"ms":{"total":{"median":%s},"update":{"median":%s}},"cpu_share":0.%s}' $ms $((ms / 5)) $((9 - count)) >"$2"
"""
)


class Contention(SandboxTest):
    def command(self, *arguments):
        return [BENCHMARKS / "contention.py", "--bench-step", self.fakes / "bench_step", *arguments]

    def measure(self, *arguments):
        return self.run_script(*self.command(*arguments))

    def neighbors(self):
        """(process id, state) as bench_step saw them."""
        notes = self.root / "neighbors"
        lines = notes.read_text(encoding="utf-8").splitlines() if notes.exists() else []
        return [(int(pid), state) for pid, state in (line.split() for line in lines)]

    def rows(self, result):
        lines = [line for line in result.stdout.splitlines() if line.startswith("| ")]
        return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:]]

    def test_ratios_are_taken_within_a_round(self):
        self.fake("bench_step", BENCH)
        result = self.measure("--neighbors", "0,1", "--rounds", "2", "--", "--config", "some file.env")
        self.assertEqual(result.returncode, 0, result.stderr)
        # Rounds of 10 and 20 ms alone, of 20 and 60 with a neighbor.
        self.assertEqual(
            self.rows(result),
            [
                ["bench_step", "0", "15.0", "20.0", "3.0", "0.90", "1.00", "1.00", ""],
                ["bench_step", "1", "40.0", "60.0", "8.0", "0.80", "2.50", "3.00", ""],
            ],
        )
        calls = self.called("bench_step")
        self.assertEqual(len(calls), 4)
        self.assertTrue(all(call.endswith("--steps 5 --warmup 2 -- --config some file.env") for call in calls))

    def test_neighbors_are_busy_during_a_run_and_gone_afterwards(self):
        self.fake("bench_step", BENCH)
        result = self.measure("--neighbors", "2,0", "--rounds", "1")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual([row[1:3] for row in self.rows(result)], [["2", "30.0"], ["0", "10.0"]], "three times as long")
        self.assertEqual([state for _, state in self.neighbors()], ["R", "R"])
        self.assertFalse([pid for pid, _ in self.neighbors() if alive(pid)])

    def test_neighbors_are_gone_after_a_failure(self):
        self.fake("bench_step", LOOK_AROUND + "echo 'error: no such data' >&2; exit 3")
        result = self.measure("--neighbors", "2")
        self.assertEqual(result.returncode, 1)
        self.assertIn("bench_step", result.stderr)
        self.assertIn("failed: error: no such data", result.stderr)
        self.assertEqual(len(self.neighbors()), 2)
        self.assertFalse([pid for pid, _ in self.neighbors() if alive(pid)])

    def test_neighbors_end_with_the_program(self):
        self.fake("bench_step", LOOK_AROUND + 'echo $$ >"$HOME/bench_step"; exec sleep 60')
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            with self.subTest(signal=number):
                for name in ("neighbors", "bench_step"):
                    (self.root / name).unlink(missing_ok=True)
                self.end_by(number)

    def end_by(self, number):
        noted = self.root / "bench_step"
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(self.command("--neighbors", "2"), env=self.environment, **quiet) as program:
            wait_until(lambda: noted.exists() and noted.read_text(encoding="utf-8").endswith("\n"))
            program.send_signal(number)
        bench_step = int(noted.read_text(encoding="utf-8"))
        if number == signal.SIGKILL:
            self.assertEqual(program.returncode, -number)
            os.kill(bench_step, signal.SIGKILL)
        else:
            self.assertEqual(program.returncode, 128 + number)
        self.assertEqual(len(self.neighbors()), 2)
        wait_until(lambda: not any(alive(pid) for pid in (bench_step, *(pid for pid, _ in self.neighbors()))))

    def test_variants(self):
        self.fake("bench_step", BENCH)
        self.fake("older_step", BENCH.replace("10 *", "40 *").replace("^bench_step", "_step"))
        self.fake("eval_gpt", LOOK_AROUND + "sleep 0.2")
        self.environment["CALLS_A_ROUND"] = "100"
        result = self.measure(
            "--vs", self.fakes / "older_step", "--env", "PASSIVE=1", "--env", "OTHER=a=b", "--neighbors", "0,1",
            "--rounds", "2", "--total-only", "--eval-gpt", self.fakes / "eval_gpt",
            "--score", "'my model.bin' --data-path there",
        )  # fmt: skip
        self.assertEqual(result.returncode, 0, result.stderr)
        rows = {(name, count): cells for name, count, *cells in self.rows(result)}
        older = str(self.fakes / "older_step")
        self.assertEqual(rows["bench_step", "1"], ["20.0", "20.0", "4.0", "0.80", "2.00", "2.00", ""])
        self.assertEqual(rows[older, "1"], ["80.0", "80.0", "16.0", "0.80", "2.00", "2.00", "4.00 (4.00-4.00)"])
        self.assertEqual(rows["PASSIVE=1 OTHER=a=b", "1"][-1], "0.50 (0.50-0.50)")
        score = rows["eval_gpt score", "0"]
        self.assertGreater(float(score[0]), 200)
        self.assertEqual((score[2], score[4:]), ("", ["1.00", "1.00", ""]))
        self.assertEqual(self.called("eval_gpt"), ["eval_gpt score my model.bin --data-path there"] * 4)
        self.assertTrue(all("--total-only" in call for call in self.called("bench_step")))
        first_round = [call.split()[0] for call in self.called("")][:4]
        self.assertEqual(first_round, ["bench_step", "older_step", "bench_step", "eval_gpt"])

    def test_every_variant_runs_once_among_the_same_neighbors(self):
        events = []

        @contextlib.contextmanager
        def neighbors(count):
            events.append(f"+{count}")
            yield
            events.append(f"-{count}")

        def run(variant):
            events.append(variant.name)
            return contention.Run(len(events), None, 1)

        variants = [contention.Variant("a", []), contention.Variant("b", [])]
        with contextlib.redirect_stderr(io.StringIO()):
            runs = contention.measure(variants, [0, 2], 2, neighbors, run)
        self.assertEqual(" ".join(events), "+0 a b -0 +2 a b -2 +0 b a -0 +2 b a -2")
        self.assertEqual([run.ms for run in runs["a", 2]], [6, 15])
        lines = contention.table(variants, [2], {key: of for key, of in runs.items() if key[1] == 2})
        self.assertEqual(lines[2], "| a | 2 | 10.5 | 15.0 |  | 1.00 |  |  |  |", "no quiet time to compare with")
        self.assertEqual(lines[3], "| b | 2 | 10.5 | 14.0 |  | 1.00 |  |  | 1.05 (0.93-1.17) |")

    def test_a_busy_machine_is_named(self):
        self.assertIn("; 4 core(s); load average 1.10 ", contention.machine(1.1, 4)[0])
        self.assertEqual(len(contention.machine(1.1, 4)), 1)
        self.assertTrue(contention.machine(1.3, 4)[1].startswith("Warning: "))

    def test_mistakes(self):
        self.fake("bench_step", BENCH)
        for options, reason in (
            (["--neighbors", "1,-1"], "--neighbors"),
            (["--rounds", "0"], "at least one round and one step"),
            (["--env", "PASSIVE"], "PASSIVE is not NAME=VALUE"),
            (["--vs", "nowhere"], "nowhere is not a program"),
        ):
            result = self.measure(*options)
            self.assertEqual(result.returncode, 2, options)
            self.assertIn(reason, result.stderr)
        self.assertEqual(self.called(""), [])


if __name__ == "__main__":
    unittest.main()
