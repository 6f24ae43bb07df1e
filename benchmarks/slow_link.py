#!/usr/bin/env python3
"""Times training by two processes, as if on two hosts that are joined by a link of a given rate.

The hosts are two network namespaces of this machine, joined by a pair of virtual interfaces. This takes root, iproute2 and the
kernel's token bucket filter. Several programs (builds of train_gpt) are timed in turn. The ratio is the time of the last program
over that of the first.

  DATA_PATH=... TOKENIZER_PATH=... benchmarks/slow_link.py 200mbit build/bin/train_gpt ... -- --config configs/cpu_small.env
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from two_hosts import HOSTS, PORT, Network

SHORT = ("--num-threads", "1", "--device", "cpu", "--max-wallclock-seconds", "0", "--val-loss-every", "0", "--save-every", "0",
         "--warmup-steps", "1", "--train-log-every", "1", "--eval-tokens", "4096")  # fmt: skip


def step_ms(network, program, options):
    """Median over the steps of a short run."""
    with tempfile.TemporaryDirectory() as folder:
        processes = []
        for side in (0, 1):
            environment = {**os.environ, "RANK": str(side), "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1",
                           "MASTER_ADDR": HOSTS[0], "MASTER_PORT": str(PORT)}  # fmt: skip
            command = network.command(side, [program, *options, *SHORT, "--out-dir", f"{folder}/{side}"])
            processes.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
        text = processes[0].communicate()[0] + processes[1].communicate()[0]
    times = [float(ms) for ms in re.findall(r"train_time:([\d.]+)ms", text)]
    if any(process.returncode != 0 for process in processes) or len(times) < 3:
        sys.exit(f"{program} failed:\n{text}")
    return statistics.median(after - before for before, after in zip(times, times[1:]))


def main():
    arguments, options = sys.argv[1:], []
    if "--" in arguments:
        at = arguments.index("--")
        arguments, options = arguments[:at], arguments[at + 1 :]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rate", help="rate of the link in each direction, as tc writes it, such as 1gbit")
    parser.add_argument("program", nargs="+", help="a build of train_gpt")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--iterations", default="10")
    args = parser.parse_args(arguments)
    options += ["--iterations", args.iterations]

    ratios = []
    with Network() as network:
        for side in (0, 1):
            network.limit(side, args.rate)
        for _ in range(args.rounds):
            times = [step_ms(network, program, options) for program in args.program]
            ratios.append(times[-1] / times[0])
            print(" ".join(f"{ms:.1f} ms" for ms in times), f"ratio {ratios[-1]:.3f}", flush=True)
    print(f"median ratio {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()
