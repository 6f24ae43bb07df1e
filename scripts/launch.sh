#!/usr/bin/env bash
# Starts N processes of train_gpt on this machine, like torchrun --standalone --nproc_per_node=N --no-python but without Python.
#
#   scripts/launch.sh N [TRAIN_GPT OPTION]...        e.g. scripts/launch.sh 8 --config configs/baseline.env --rope-dims 16
#
# SIGINT, SIGTERM and SIGHUP are passed on to every process: all finish the step, rank 0 saves a checkpoint, and all exit with code 130.
# If a process fails, the others end, too, and the exit code is that of the first that failed (128 + signal if a signal killed
# it). Rank 0 writes the run's log.txt, the others write rank_N.txt next to it.
#   MASTER_PORT=PORT   the port on 127.0.0.1 at which the processes meet (default: a free one)
#   TRAIN_GPT=PATH     the program (default: build/bin/train_gpt)
#   GRACE_SECONDS=N    how long the others may take, after a failure, to report the lost rank before they are killed (default 30)
set -euo pipefail

die() {
  echo "launch.sh: error: $1" >&2
  exit "$2"
}

case ${1:---help} in
  -h | --help)
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"
    exit 0
    ;;
esac
[[ $1 =~ ^[1-9][0-9]{0,3}$ ]] || die "$1 is not a number of processes; see scripts/launch.sh --help" 2
size=$1
shift
program=${TRAIN_GPT:-$(dirname "$0")/../build/bin/train_gpt}
[ -x "$program" ] || die "$program is missing; build it first (see README.md)" 3

# Whether nobody answers there. Higher ports than these may be the near ends of connections, which do not answer.
free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
port=${MASTER_PORT:-}
while [ -z "$port" ]; do
  port=$((20000 + RANDOM % 12000))
  free "$port" || port=
done

# Job control puts every process into a group of its own: a terminal's Ctrl-C reaches this script alone, which passes it on once.
set -m
declare -A rank_of
for ((rank = 0; rank < size; ++rank)); do
  RANK=$rank LOCAL_RANK=$rank WORLD_SIZE=$size LOCAL_WORLD_SIZE=$size MASTER_ADDR=127.0.0.1 MASTER_PORT=$port \
    "$program" "$@" </dev/null &
  rank_of[$!]=$rank
done

# shellcheck disable=SC2317  # called by the traps
pass_on() {
  trap '' "$1"
  kill -s "$1" "${!rank_of[@]}" 2>/dev/null
}
trap 'pass_on INT' INT
trap 'pass_on TERM' TERM
trap 'pass_on HUP' HUP
trap 'kill -s KILL "${!rank_of[@]}" 2>/dev/null' EXIT

first=0 killer=''
while [ ${#rank_of[@]} -gt 0 ]; do
  ended='' code=0
  wait -n -p ended "${!rank_of[@]}" || code=$?
  [ -n "${ended:-}" ] || continue # a signal was passed on
  rank=${rank_of[$ended]}
  unset "rank_of[$ended]"
  if [ "$code" -eq 0 ] || [ "$first" -ne 0 ]; then continue; fi
  first=$code
  [ "$code" -ne 130 ] || continue
  if [ "$code" -gt 128 ]; then echo "launch.sh: rank $rank was killed by SIG$(kill -l "$code")" >&2; fi
  if [ ${#rank_of[@]} -gt 0 ]; then
    (sleep "${GRACE_SECONDS:-30}" && kill -s KILL "${!rank_of[@]}") >/dev/null 2>&1 &
    killer=$!
  fi
done
[ -z "$killer" ] || kill -s KILL -- "-$killer" 2>/dev/null || true
trap - EXIT
exit "$first"
