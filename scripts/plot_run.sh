#!/usr/bin/env bash
# usage: plot_run.sh RUN_DIR   plots the training loss and validation bits per byte in RUN_DIR/metrics.jsonl as RUN_DIR/loss.png
set -euo pipefail
die() {
  printf 'plot_run: error: %s\n' "$*" >&2
  exit 1
}
[ $# = 1 ] || die "usage: plot_run.sh RUN_DIR"
[ -f "$1/metrics.jsonl" ] || die "$1 has no metrics.jsonl; pass a run folder"
command -v gnuplot >/dev/null || die "gnuplot is missing; scripts/setup.sh installs it"

points=$(mktemp -d)
trap 'rm -rf "$points"' EXIT
python3 - "$1/metrics.jsonl" "$points" <<'PY' || die "no curve was drawn"
import json, sys

columns = {"train": "train_loss", "val": "val_bpb"}
points = {kind: [] for kind in columns}
with open(sys.argv[1], encoding="utf-8") as lines:
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except ValueError:
            print(f"plot_run: line {number} of {sys.argv[1]} is not JSON; skipped", file=sys.stderr)
            continue
        if record.get("kind") in columns:
            points[record["kind"]].append((record["step"], record[columns[record["kind"]]]))
for kind, rows in points.items():
    if not rows:
        sys.exit(f"plot_run: {sys.argv[1]} has no {kind} records")
    with open(f"{sys.argv[2]}/{kind}", "w") as out:
        out.writelines(f"{step} {value}\n" for step, value in rows)
PY
POINTS=$points OUT=$1/loss.png gnuplot <<'GNUPLOT'
points = system("echo \"$POINTS\"")
set terminal pngcairo size 900,500
set output system("echo \"$OUT\"")
set grid
set xlabel "step"
set ylabel "training loss (nats per token)"
set y2label "validation bits per byte"
set ytics nomirror
set y2tics
plot points."/train" using 1:2 with lines lw 2 title "training loss", \
     points."/val" using 1:2 axes x1y2 with linespoints lw 2 pt 7 title "validation bpb"
GNUPLOT
echo "plot_run: $1/loss.png"
