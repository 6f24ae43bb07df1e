#!/usr/bin/env python3
"""Every arm of a sweep against full rotation without any other change, seed by seed: study_differences.py SWEEP_CSV

sweep_gpt's own report compares only arms whose other settings are equal. Runs of one seed begin with the same weights, so the
differences are taken per seed; the interval is Student's for their mean, 95 %. Prints a Markdown table.
"""

import csv
import math
import statistics
import sys

QUANTILES = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571}  # of Student's t at 0.975, by degrees of freedom
LONGER = 4  # times the training length
BASELINE = "ROPE_DIMS=full"


def main():
    losses, longer = {}, {}  # settings -> seed -> loss
    with open(sys.argv[1], encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            losses.setdefault(row["requested"], {})[row["seed"]] = float(row["final_val_loss"])
            if int(row["eval_seq_len"]) == LONGER * int(row["train_seq_len"]):
                longer.setdefault(row["requested"], {})[row["seed"]] = float(row["length_val_loss"])
    seeds = set(losses.get(BASELINE, {}))
    if not 2 <= len(seeds) <= 6 or any(set(by_seed) != seeds for by_seed in losses.values()):
        sys.exit(f"error: {sys.argv[1]}: every arm, and {BASELINE} among them, needs the same 2 to 6 seeds")
    print("| arm | loss | difference to full | loss at four times the length |\n|---|---:|---:|---:|")
    for arm, by_seed in sorted(losses.items(), key=lambda item: statistics.mean(item[1].values())):
        differences = [loss - losses[BASELINE][seed] for seed, loss in by_seed.items()]
        mean = statistics.mean(differences)
        half = QUANTILES[len(differences) - 1] * statistics.stdev(differences) / math.sqrt(len(differences))
        difference = "" if arm == BASELINE else f"{mean:+.3f} [{mean - half:+.3f}, {mean + half:+.3f}]"
        print(f"| `{arm}` | {spread(by_seed)} | {difference} | {spread(longer[arm])} |")


def spread(by_seed):
    values = by_seed.values()
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"


if __name__ == "__main__":
    main()
