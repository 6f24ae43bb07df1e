#!/usr/bin/env python3
"""scripts/plot_run.sh: a picture from metrics.jsonl."""

import json
import shutil
import unittest

from sandbox import SCRIPTS, SandboxTest


class PlotRunTest(SandboxTest):
    def plot(self, *lines):
        run = self.root / "a run"
        run.mkdir(exist_ok=True)
        (run / "metrics.jsonl").write_text("\n".join(lines) + "\n")
        return run / "loss.png", self.run_script(SCRIPTS / "plot_run.sh", run)

    train = [json.dumps({"kind": "train", "step": i, "train_loss": 7 - i / 10}) for i in range(20)]
    val = [json.dumps({"kind": "val", "step": i, "val_loss": 6.0, "val_bpb": 4 - i / 10}) for i in (0, 10, 20)]

    @unittest.skipUnless(shutil.which("gnuplot"), "gnuplot is not installed")
    def test_picture(self):
        other = [json.dumps({"kind": "config", "step": 1}), '{"kind": "train", "st']  # the last line of a killed run
        picture, result = self.plot(*self.train, *self.val, *other)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(picture.read_bytes()[:8], b"\x89PNG\r\n\x1a\n")

    @unittest.skipUnless(shutil.which("gnuplot"), "gnuplot is not installed")
    def test_nothing_to_draw(self):
        picture, result = self.plot(*self.train)
        self.assertEqual(result.returncode, 1)
        self.assertIn("has no val records", result.stderr)
        self.assertFalse(picture.exists())

    def test_no_run(self):
        result = self.run_script(SCRIPTS / "plot_run.sh", self.root)
        self.assertEqual(result.returncode, 1)
        self.assertIn("no metrics.jsonl", result.stderr)


if __name__ == "__main__":
    unittest.main()
