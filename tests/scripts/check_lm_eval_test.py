#!/usr/bin/env python3
"""scripts/check_lm_eval.sh: what it rejects before it installs anything, and that its comparison finds every difference."""

import json
import sys
import unittest

from sandbox import SCRIPTS, SandboxTest

SCRIPT = SCRIPTS / "check_lm_eval.sh"
ACCURACIES = {"acc": 0.5, "acc_norm": 1.0, "acc_bytes": 0.0}
SCORED = [{"line": 1 + i // 2, "option": i % 2, "log_prob": -3.25 - i, "greedy": i == 1, "truncated": False} for i in range(4)]


class CheckLmEvalTest(SandboxTest):
    def setUp(self):
        super().setUp()
        for name in ("model", "tokenizer", "task"):
            (self.root / name).touch()

    def refused(self, wanted, *arguments):
        result = self.run_script(SCRIPT, *(str(self.root / a) if a in ("model", "tokenizer", "task") else a for a in arguments))
        self.assertNotEqual(result.returncode, 0)
        self.assertIn(wanted, result.stderr)

    def test_wrong_arguments(self):
        self.refused("Usage:", "model", "tokenizer")
        self.refused("nothing does not exist", "model", "tokenizer", "nothing")
        self.refused("unknown option -x", "model", "tokenizer", "task", "-x")
        self.refused("--limit needs a value", "model", "tokenizer", "task", "--limit")
        program = ("--eval-gpt", "/bin/true")
        self.refused("--limit takes a number", "model", "tokenizer", "task", "--limit", "-1", *program)
        self.refused("--delimiter must be space or none", "model", "tokenizer", "task", "--delimiter", "auto", *program)
        self.refused("/no/program is missing", "model", "tokenizer", "task", "--eval-gpt", "/no/program")

    def compare(self, answers, theirs=ACCURACIES):
        """`answers`: (log-probability, greedy) as the harness writes them, in SCORED's order."""
        folder = self.root / "results" / "checked"
        folder.mkdir(parents=True, exist_ok=True)
        results = {"results": {"checked": {f"{name},none": value for name, value in theirs.items()}}}
        (folder / "results_now.json").write_text(json.dumps(results))
        samples = [{"doc_id": i, "resps": [[list(a)] for a in answers[2 * i : 2 * i + 2]]} for i in range(len(answers) // 2)]
        # The harness need not write the items in their order.
        (folder / "samples_checked_now.jsonl").write_text("".join(json.dumps(sample) + "\n" for sample in reversed(samples)))
        (self.root / "choices.jsonl").write_text(json.dumps(ACCURACIES) + "\n")
        (self.root / "scored.jsonl").write_text("".join(json.dumps(option) + "\n" for option in SCORED))
        self.environment["PYTHONDONTWRITEBYTECODE"] = "1"
        return self.run_script(sys.executable, str(SCRIPTS / "check_lm_eval.py"), "compare", str(self.root / "results"),
                               str(self.root / "choices.jsonl"), str(self.root / "scored.jsonl"), "at once")  # fmt: skip

    def test_finds_every_difference(self):
        equal = [(str(option["log_prob"]), str(option["greedy"])) for option in SCORED]
        result = self.compare(equal)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertIn("lm-eval, at once: 2 items, 4 log-likelihoods", result.stdout)
        self.assertIn("0 differences, the largest 0 nats", result.stdout)
        for changed, theirs, wanted in (
            ([*equal[:2], ("-5.250000000000001", "False"), equal[3]], ACCURACIES, "line 2, option 0: lm-eval -5.250000000000001"),
            ([("-3.25", "True"), *equal[1:]], ACCURACIES, "line 1, option 0: greedy is True"),
            (equal[:2], ACCURACIES, "lm-eval scored 2 options, choices 4"),
            (equal, ACCURACIES | {"acc_norm": 0.5}, "acc_norm: lm-eval 0.5, choices 1.0"),
        ):
            result = self.compare(changed, theirs)
            self.assertEqual(result.returncode, 1)
            self.assertIn("1 differences", result.stdout)
            self.assertIn(wanted, result.stdout)


if __name__ == "__main__":
    unittest.main()
