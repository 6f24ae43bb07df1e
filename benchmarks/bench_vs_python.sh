#!/usr/bin/env bash
# Times an optimiser step of the Python train_gpt.py and of ours, in turn on the same machine, and prints a table.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")

usage() {
  cat <<'USAGE'
Usage: benchmarks/bench_vs_python.sh [OPTION...] PATH_TO/train_gpt.py

Every program is started anew in every round: ours with OPS=reference, ours with OPS=fast, Python (eager), and so on.
All do 8,192 tokens a step in 8 micro-steps, on the same shard, with the same arithmetic (Muon in bfloat16).

  --config NAME         tiny (4x128, 8 sequences of 128 a micro-step; the default) or default (9x512, one of 1,024)
  --dtypes LIST         float32, bfloat16 or both (default: float32,bfloat16)
  --threads N           default: 1
  --rounds N            default: 3
  --steps N             measured in each process (default: 10 for tiny, 3 for default)
  --warmup N            steps before them (default: 2)
  --python PROGRAM      a Python with PyTorch, numpy and sentencepiece (default: python3)
  --bench-step PATH     default: build/bin/bench_step
  --data-path DIR       shards (default: data/datasets/fineweb10B_sp1024)
  --tokenizer-path FILE their tokenizer, 1,024 pieces (default: data/tokenizers/fineweb_1024_bpe.model)
  --keep DIR            keep every process's samples there (JSON)

Look at the column "CPU": well below 1.00 something else was running, and the times mean nothing.
USAGE
}

die() { echo "error: $*" >&2; exit 2; }

config=tiny dtypes=float32,bfloat16 threads=1 rounds=3 steps="" warmup=2 python=python3 keep="" upstream=""
bench_step=$root/build/bin/bench_step
data=$root/data/datasets/fineweb10B_sp1024
tokenizer=$root/data/tokenizers/fineweb_1024_bpe.model
while [ $# -gt 0 ]; do
  case $1 in
    -h|--help) usage; exit 0 ;;
    --*) [ $# -ge 2 ] || die "$1 needs a value" ;;&
    --config) config=$2; shift ;;
    --dtypes) dtypes=$2; shift ;;
    --threads) threads=$2; shift ;;
    --rounds) rounds=$2; shift ;;
    --steps) steps=$2; shift ;;
    --warmup) warmup=$2; shift ;;
    --python) python=$2; shift ;;
    --bench-step) bench_step=$2; shift ;;
    --data-path) data=$2; shift ;;
    --tokenizer-path) tokenizer=$2; shift ;;
    --keep) keep=$2; shift ;;
    -*) die "no option $1; see --help" ;;
    *) [ -z "$upstream" ] || die "one Python program, not two"; upstream=$1 ;;
  esac
  shift
done
[ -n "$upstream" ] || { usage >&2; exit 2; }
[ -f "$upstream" ] || die "$upstream is not a file"
[ -x "$bench_step" ] || die "$bench_step is missing; build it with: cmake --build build --target bench_step"

# Both programs take these from the environment, and nothing else: no setting of the caller may reach one of them only.
settings=(PATH="$PATH" HOME="$HOME" LD_LIBRARY_PATH="${LD_LIBRARY_PATH-}" OMP_NUM_THREADS="$threads"
  DATA_PATH="$data" TOKENIZER_PATH="$tokenizer" TRAIN_BATCH_TOKENS=8192 VAL_BATCH_SIZE=8192 VOCAB_SIZE=1024)
case $config in
  tiny) settings+=(NUM_LAYERS=4 MODEL_DIM=128 NUM_HEADS=4 NUM_KV_HEADS=2 TRAIN_SEQ_LEN=128); : "${steps:=10}" ;;
  default) settings+=(NUM_LAYERS=9 MODEL_DIM=512 NUM_HEADS=8 NUM_KV_HEADS=4 TRAIN_SEQ_LEN=1024); : "${steps:=3}" ;;
  *) die "--config is tiny or default, not $config" ;;
esac

work=$keep
if [ -z "$work" ]; then
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
fi
mkdir -p "$work"
for round in $(seq "$rounds"); do
  for dtype in ${dtypes//,/ }; do
    for ops in reference fast; do
      echo "round $round of $rounds: $dtype, ours, OPS=$ops" >&2
      env -i "${settings[@]}" "$bench_step" --total-only --steps "$steps" --warmup "$warmup" --json "$work/$dtype.$ops.$round.json" \
        -- --device cpu --dtype "$dtype" --muon-dtype bfloat16 --ops "$ops" --num-threads "$threads" >"$work/output.txt"
    done
    echo "round $round of $rounds: $dtype, Python" >&2
    env -i "${settings[@]}" "$python" "$here/time_upstream.py" "$upstream" --dtype "$dtype" --threads "$threads" --steps "$steps" --warmup "$warmup" \
      --json "$work/$dtype.python.$round.json"
  done
done

"$python" - "$work" "$rounds" "$config" "$threads" "$steps" "$dtypes" <<'TABLE'
import json, platform, statistics, sys
from pathlib import Path

work, rounds, config, threads, steps, dtypes = sys.argv[1:]
programs = {"reference": "ours, OPS=reference", "fast": "ours, OPS=fast", "python": "Python, eager"}
cpu = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
versions = set()
rows = []
for dtype in dtypes.split(","):
    runs = {name: [json.loads((Path(work) / f"{dtype}.{name}.{i + 1}.json").read_text()) for i in range(int(rounds))] for name in programs}
    medians = {name: [statistics.median(run["ms"]["total"]["samples"]) for run in of] for name, of in runs.items()}
    for name, of in runs.items():
        versions.add(f"{'Python' if name == 'python' else 'ours'}: {of[0]['torch']}")
        ms = statistics.median(x for run in of for x in run["ms"]["total"]["samples"])
        ratios = sorted(python / mine for python, mine in zip(medians["python"], medians[name]))
        ratio = "1" if name == "python" else f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})"
        rows.append(f"| {dtype} | {programs[name]} | {ms:.1f} ({min(medians[name]):.1f}-{max(medians[name]):.1f}) | {8192000 / ms:.0f} | {ratio} "
                    f"| {min(run['cpu_share'] for run in of):.2f} | {of[0]['first_loss']:.6f} |")
print(f"Config {config}, {threads} thread(s), {rounds} round(s) of {steps} steps; {cpu}; torch {', '.join(sorted(versions))}.")
print("ms: median of all steps (lowest and highest round). Ratio: Python's time over ours, of the same round. CPU: lowest")
print("share of the wall time that the threads were running.\n")
print("| dtype | program | ms per step | tokens/s | ratio | CPU | loss of step 1 |\n|---|---|---|---|---|---|---|")
print("\n".join(rows))
TABLE
