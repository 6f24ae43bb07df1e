#!/usr/bin/env python3
"""Checks that a full disk costs no training.

A small run writes to a file system that has room for its records but not for its checkpoints and final files. It must train to
the end, with a warning for each checkpoint, leave no half-written file, put the final files into FALLBACK_DIR, byte for byte
those of a run with room, and end with exit code 6. A second run gets its room back in the middle: it must end with exit code 0,
with a checkpoint and every record. A run that is interrupted on the full disk can be resumed from FALLBACK_DIR.

The file system is a small tmpfs in a mount namespace of its own; exit code 77 where the system does not allow that.
"""

import json
import random
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from programs import parser_of
from resume_kill import make_data

IO, SKIPPED = 6, 77
FINAL = ("final_model.pt", "final_model.int8.ptz")


def options_of(data, tokenizer):
    return {
        "DATA_PATH": data, "TOKENIZER_PATH": tokenizer, "VOCAB_SIZE": 320, "NUM_LAYERS": 2, "MODEL_DIM": 64, "NUM_HEADS": 2,
        "NUM_KV_HEADS": 1, "TRAIN_SEQ_LEN": 32, "TRAIN_BATCH_TOKENS": 1024, "VAL_BATCH_SIZE": 1024, "EVAL_TOKENS": 1024,
        "WARMDOWN_ITERS": 4, "WARMUP_STEPS": 0, "MAX_WALLCLOCK_SECONDS": 0, "VAL_LOSS_EVERY": 0, "SAVE_EVERY": 4,
        "NUM_THREADS": 1, "DEVICE": "cpu", "RUN_ID": "run", "TRAIN_LOG_EVERY": 1,
    }  # fmt: skip


class Disk:
    """A tmpfs of so many KiB at `path` that only the processes started through it see; `filler` on it is removed from outside by
    free()."""

    def __init__(self, path, kibibytes):
        self.path, self.kibibytes = path, kibibytes
        path.mkdir()

    def start(self, command, fill_kib=0, free_when=None):
        """fill_kib: taken from the start; until the file free_when exists."""
        script = [f"mount -t tmpfs -o size={self.kibibytes}k tmpfs {self.path}"]
        if fill_kib:
            script.append(f"head -c {fill_kib}k /dev/zero > {self.path}/filler")
        if free_when:
            script.append(f"(while [ ! -e {free_when} ]; do sleep 0.02; done; rm {self.path}/filler; touch {free_when}.done) & waiter=$!")
        # The process gets signals itself; what it left is listed afterwards.
        script.append('"$@" & child=$!; trap "kill -INT $child" INT; wait $child; code=$?; '
                      "[ $code -gt 128 ] && { wait $child; code=$?; }; trap - INT")
        script.append("[ -z $waiter ] || kill $waiter 2> /dev/null")
        script.append(f"cp -r {self.path} {self.path}.after; exit $code")
        return subprocess.Popen(["unshare", "-rm", "bash", "-c", "\n".join(script), "bash", *command], stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # fmt: skip

    def left(self):
        return self.path.with_name(self.path.name + ".after")


def namespaces_work():
    probe = ["unshare", "-rm", "bash", "-c", "mount -t tmpfs -o size=64k tmpfs /tmp"]
    try:
        return subprocess.run(probe, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


class Check:
    def __init__(self):
        self.problems = []

    def expect(self, condition, text):
        if not condition:
            self.problems.append(text)


def steps_in(*files):
    """Steps of the train records of metrics files, one after the other."""
    lines = [json.loads(line) for file in files if file.exists() for line in file.read_text().splitlines()]
    return [line["step"] for line in lines if line["kind"] == "train"]


def only_folder(parent):
    folders = list(parent.iterdir())
    if len(folders) != 1:
        sys.exit(f"expected one folder in {parent}, found {folders}")
    return folders[0]


def half_written(folder):
    return [str(path) for path in folder.rglob("*.tmp.*")]


def main():
    parser = parser_of(__doc__, "train_gpt", "prepare_data")
    args = parser.parse_args()
    if not namespaces_work():
        print("skipped: no mount namespaces here (unshare -rm)")
        sys.exit(SKIPPED)
    check, steps = Check(), 12
    with tempfile.TemporaryDirectory(prefix="full_disk_") as name:
        work = Path(name)
        data, tokenizer = make_data(work, args.prepare_data, 320, random.Random(1))

        def command(out_dir, fallback, **changes):
            options = {**options_of(data, tokenizer), "OUT_DIR": out_dir, "FALLBACK_DIR": fallback, "ITERATIONS": steps, **changes}
            flags = (text for key, value in options.items() for text in ("--" + key.lower().replace("_", "-"), str(value)))
            return [str(args.train_gpt), *flags]

        # With room.
        done = subprocess.run(command(work / "roomy", work / "unused"), capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"the run with room failed:\n{done.stdout}{done.stderr}")
        roomy = work / "roomy/run"
        check.expect(not (work / "unused").exists(), "a run with room used FALLBACK_DIR")

        # Full to the end: 64 KiB hold the records of twelve steps, not a checkpoint.
        disk = Disk(work / "full", 64)
        process = disk.start(command(disk.path, work / "elsewhere"))
        output, _ = process.communicate(timeout=300)
        check.expect(process.returncode == IO, f"full: exit code {process.returncode}, not {IO}")
        for step in (4, 8, 12):
            check.expect(f"no checkpoint of step {step}: cannot write" in output, f"full: no warning about step {step}")
        left, saved = disk.left() / "run", only_folder(work / "elsewhere")
        check.expect(not half_written(left), f"full: half-written {half_written(left)}")
        for file in FINAL:
            check.expect((saved / file).exists(), f"full: {file} was not saved")
            same = (saved / file).exists() and (saved / file).read_bytes() == (roomy / file).read_bytes()
            check.expect(same, f"full: {file} differs from that of the run with room")
            check.expect(not (left / file).exists(), f"full: {file} is on the full disk, too")
        found = steps_in(left / "metrics.jsonl", saved / "metrics.jsonl")
        check.expect(found == list(range(1, steps + 1)), f"full: records of steps {found}")
        check.expect(str(saved) in output, "full: the message does not say where the files are")
        if check.problems:
            print(output)

        # Full at first: not even records fit until step 6.
        disk, reached = Disk(work / "freed", 4096), work / "reached"
        process = disk.start(command(disk.path, work / "unused", ITERATIONS=200),
                             fill_kib=4072, free_when=reached)  # fmt: skip
        output = ""
        for line in process.stdout:
            output += line
            if "step:6/" in line and "train_loss" in line:
                reached.touch()
        code = process.wait()
        left, problems = disk.left() / "run", len(check.problems)
        check.expect(code == 0, f"freed: exit code {code}")
        check.expect("no checkpoint of step 4: cannot write" in output, "freed: no warning about step 4")
        check.expect((left / "checkpoints/step_00000200.safetensors").exists(), "freed: no checkpoint of step 200")
        check.expect(steps_in(left / "metrics.jsonl") == list(range(1, 201)), "freed: records are missing")
        check.expect(not half_written(left), f"freed: half-written {half_written(left)}")
        if len(check.problems) > problems:
            print(output)

        # Interrupted while full.
        disk = Disk(work / "stopped", 64)
        process = disk.start(command(disk.path, work / "saved", SAVE_EVERY=0, ITERATIONS=100000))
        output = ""
        for line in process.stdout:
            output += line
            if "step:5/" in line and "train_loss" in line:
                process.send_signal(signal.SIGINT)
        code, problems = process.wait(), len(check.problems)
        check.expect(code == IO, f"stopped: exit code {code}, not {IO}")
        saved = only_folder(work / "saved")
        checkpoints = list((saved / "checkpoints").glob("step_*.safetensors"))
        check.expect(len(checkpoints) == 1, f"stopped: checkpoints {checkpoints}")
        if checkpoints:
            again = [*command(work / "again", work / "unused", SAVE_EVERY=0, ITERATIONS=100000), "--resume", str(checkpoints[0])]
            resumed = subprocess.Popen(again, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            goes_on = any(line.startswith("resumed:step:") for line in resumed.stdout)
            resumed.kill()
            resumed.wait()
            check.expect(goes_on, f"stopped: {checkpoints[0]} cannot be resumed")
        if len(check.problems) > problems:
            print(output)
    for problem in check.problems:
        print(problem)
    print("ok: a full disk cost nothing" if not check.problems else f"{len(check.problems)} problems")
    sys.exit(bool(check.problems))


if __name__ == "__main__":
    main()
