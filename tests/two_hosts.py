#!/usr/bin/env python3
"""Checks a job of train_gpt on two hosts: two network namespaces of this machine, joined by a pair of virtual interfaces. Each has
a folder of its own for its runs.

The job is stopped by a signal to one side and resumed; then it is cut in two by taking an interface down, after which both sides
must end and name the rank that they lost, and is resumed again. It must end with the same bytes as an uninterrupted job. Exits
with 77 (skipped) where namespaces cannot be created, which takes root and iproute2.
"""

import os
import random
import signal
import subprocess
import sys
import time

from programs import parser_of
from ranks import INTERRUPTED, PEER_LOST, Job, report
from resume_kill import Run, compare, steps_done

SKIPPED, PORT, TIMEOUT_S = 77, 29517, 10
HOSTS = ("10.99.77.1", "10.99.77.2")


class Network:
    def __init__(self):
        self.names = [f"ranks{os.getpid()}{side}" for side in "ab"]

    def __enter__(self):
        try:
            for name in self.names:
                self.ip("netns", "add", name)
            self.ip("link", "add", "veth0", "netns", self.names[0], "type", "veth", "peer", "veth1", "netns", self.names[1])
            for side, address in enumerate(HOSTS):
                self.ip("-n", self.names[side], "address", "add", f"{address}/24", "dev", f"veth{side}")
                self.ip("-n", self.names[side], "link", "set", "lo", "up")
                self.link(side, "up")
        except (OSError, subprocess.CalledProcessError) as error:
            self.__exit__()
            detail = getattr(error, "stderr", "") or error
            print(f"skipped: cannot create network namespaces: {detail}")
            sys.exit(SKIPPED)
        return self

    def __exit__(self, *_):
        for name in self.names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)

    @staticmethod
    def ip(*words):
        subprocess.run(["ip", *words], check=True, capture_output=True, text=True)

    def link(self, side, state):
        self.ip("-n", self.names[side], "link", "set", f"veth{side}", state)

    def limit(self, side, rate):
        """What a side sends."""
        words = "root tbf burst 256k latency 50ms rate".split()
        subprocess.run(self.command(side, ["tc", "qdisc", "add", "dev", f"veth{side}", *words, rate]), check=True)

    def command(self, side, words):
        return ["ip", "netns", "exec", self.names[side], *words]


class TwoHosts(Job):
    def __init__(self, args, work, rng, network):
        super().__init__(args, work, rng)
        self.options["DIST_TIMEOUT_SECONDS"] = TIMEOUT_S
        self.network = network

    def start_both(self, out_dir, *extra, **changes):
        def start(side):
            environment = {**self.environment, "RANK": str(side), "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1",
                           "MASTER_ADDR": HOSTS[0], "MASTER_PORT": str(PORT)}  # fmt: skip
            command = [str(self.args.train_gpt), *self.flags(f"{out_dir}_{side}", **changes), *extra]
            return Run(self.network.command(side, command), environment)

        return [start(0), start(1)]

    def finish_both(self, out_dir, *extra):
        runs = self.start_both(out_dir, *extra)
        statuses = [run.finish() for run in runs]
        if statuses != [0, 0]:
            sys.exit(f"{out_dir}: exit statuses {statuses}:\n{runs[0].text()}\n{runs[1].text()}")
        return self.folder(f"{out_dir}_0")


def check_stop(job):
    runs = job.start_both("disturbed", "--resume", "auto")
    runs[0].wait_for(lambda line: (steps_done(line) or 0) >= 3)
    runs[1].process.send_signal(signal.SIGTERM)
    statuses = [run.finish() for run in runs]
    print(f"SIGTERM to rank 1: exit statuses {statuses}", flush=True)
    return [] if statuses == [INTERRUPTED] * 2 else [f"stop: exit statuses {statuses}:\n{runs[0].text()}\n{runs[1].text()}"]


def check_cut(job, network):
    runs = job.start_both("disturbed", "--resume", "auto")
    runs[0].wait_for(lambda line: (steps_done(line) or 0) >= 7)
    network.link(1, "down")
    cut = time.monotonic()
    statuses = [run.finish() for run in runs]
    took = time.monotonic() - cut
    network.link(1, "up")
    errors = [line for run in runs for _, line in run.lines if "error:" in line]
    print(f"cut: exit statuses {statuses} after {took:.1f} s\n  " + "\n  ".join(errors), flush=True)
    problems = []
    if statuses != [PEER_LOST] * 2 or took > 4 * TIMEOUT_S:
        problems.append(f"cut: exit statuses {statuses} after {took:.1f} s:\n{runs[0].text()}\n{runs[1].text()}")
    for side, missed in enumerate(("rank 1 ", "rank 0 ")):
        if not any("error:" in line and missed in line for _, line in runs[side].lines):
            problems.append(f"cut: rank {side} does not name {missed}:\n{runs[side].text()}")
    return problems


def prove(args, work):
    with Network() as network:
        job = TwoHosts(args, work, random.Random(1), network)
        calm = job.finish_both("calm")
        problems = [] if (calm / "rank_1.txt").exists() else ["rank 1 wrote no log"]
        problems += check_stop(job)
        problems += check_cut(job, network)
        problems += compare(calm, job.finish_both("disturbed", "--resume", "auto"))
    return problems


def main():
    parser = parser_of(__doc__, "train_gpt", "prepare_data")
    args = parser.parse_args()
    args.steps, args.launch = 12, None

    return report(lambda work: prove(args, work))


if __name__ == "__main__":
    sys.exit(main())
