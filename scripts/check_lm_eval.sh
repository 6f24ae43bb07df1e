#!/usr/bin/env bash
# Checks that lm-evaluation-harness and the openai client work with `eval_gpt serve`, and that the harness gets the same results
# as `eval_gpt choices`.
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"
cd "$OLDPWD" # paths in arguments are relative to the caller's folder

usage() {
  cat <<'USAGE'
Usage: scripts/check_lm_eval.sh MODEL TOKENIZER TASK.jsonl [OPTION...] [-- EVAL_GPT_OPTION...]

Scores a local task with lm-evaluation-harness against `eval_gpt serve` in three ways: one prompt per request, eight prompts per
request, eight concurrent requests. Accuracy and all log-likelihoods must equal those of `eval_gpt choices` bit for bit. Then
completions, streaming and errors are tested with the openai client. Options after -- go to both eval_gpt commands, such as
-- --dtype float32

  --limit N             use only the first N items (default: all)
  --delimiter WHAT      what separates context and choice: space or none (default: space)
  --environment DIR     virtual environment with both clients, created if missing (default: a temporary one)
  --eval-gpt PATH       default: build/bin/eval_gpt

A new environment takes two minutes, a 200 MB download from PyPI and 900 MB on disk; PYTHON=... picks the interpreter.
USAGE
}

clients=("lm-eval[api]==0.4.13" "openai==3.54.0")
limit=0 delimiter=space environment="" eval_gpt=$root/build/bin/eval_gpt files=() options=()
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --) shift; options=("$@"); break ;;
    --*) [ $# -ge 2 ] || die "$1 needs a value" ;;&
    --limit) limit=$2; shift ;;
    --delimiter) delimiter=$2; shift ;;
    --environment) environment=$2; shift ;;
    --eval-gpt) eval_gpt=$2; shift ;;
    -*) die "unknown option $1; see --help" ;;
    *) files+=("$1") ;;
  esac
  shift
done
[ ${#files[@]} = 3 ] || { usage >&2; exit 2; }
for file in "${files[@]}"; do
  [ -e "$file" ] || die "$file does not exist"
done
[ -x "$eval_gpt" ] || die "$eval_gpt is missing; build it with: cmake --build build --target eval_gpt"
[[ $limit =~ ^[0-9]+$ ]] || die "--limit takes a number, not $limit"
[[ $delimiter =~ ^(space|none)$ ]] || die "--delimiter must be space or none, not $delimiter"
checkpoint=${files[0]} tokenizer=${files[1]} task=$(realpath "${files[2]}")
options+=(--tokenizer-path "$tokenizer")

work=$(mktemp -d)
server=""
finish() {
  [ -z "$server" ] || kill "$server" 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT

environment=${environment:-$work/environment}
if [ ! -x "$environment/bin/lm-eval" ]; then
  say "installing ${clients[*]} into $environment"
  "${PYTHON:-python3}" -m venv "$environment"
  "$environment/bin/pip" install --quiet --disable-pip-version-check "${clients[@]}"
fi
check() { "$environment/bin/python" "$root/scripts/check_lm_eval.py" "$@"; }

say "eval_gpt choices"
"$eval_gpt" choices "$checkpoint" --tasks "$task" --limit "$limit" --delimiter "$delimiter" --format jsonl \
  --output "$work/choices.jsonl" --log-samples "$work/samples.jsonl" "${options[@]}"

"$eval_gpt" serve "$checkpoint" --port 0 --model-name checked "${options[@]}" >"$work/server.txt" &
server=$!
until grep -q '^serving ' "$work/server.txt"; do
  kill -0 "$server" 2>/dev/null || die "eval_gpt serve exited before it was ready"
  sleep 0.2
done
address=$(sed -n '1s/^serving .* at //p' "$work/server.txt")
say "eval_gpt serve is at $address"

# The harness must not download anything: task and data are local, and the server is its tokenizer.
export HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 HF_HOME=$work/huggingface
failed=0
mkdir "$work/tasks"
context=$(check task "$task" "$delimiter" "$address" "$work/tasks/checked.yaml")
# harness NAME MODEL_ARGUMENTS OPTION...
harness() {
  local name=$1 arguments=$2
  shift 2
  [ "$limit" = 0 ] || set -- "$@" --limit "$limit"
  "$environment/bin/lm-eval" run --model local-completions --tasks checked --include_path "$work/tasks" --log_samples \
    --model_args "model=checked,base_url=$address/v1/completions,max_length=$context$arguments" \
    --output_path "$work/$name" "$@" >"$work/$name.txt" 2>&1 ||
    { tail -n 20 "$work/$name.txt" >&2 && die "lm-eval failed; see above"; }
  check compare "$work/$name" "$work/choices.jsonl" "$work/samples.jsonl" "$name" || failed=1
}
harness "one prompt per request" "" --batch_size 1
harness "8 prompts per request" "" --batch_size 8
harness "8 concurrent requests" ",num_concurrent=8" --batch_size 1

check client "$address" || failed=1

kill "$server"
wait "$server" || die "eval_gpt serve exited with status $?"
server=""
[ "$failed" = 0 ] || die "some results are wrong or differ from eval_gpt's; see above"
say "all results are equal"
