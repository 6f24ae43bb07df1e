"""Parts of check_lm_eval.sh: the task for lm-evaluation-harness, the comparison with `eval_gpt choices`, the openai client."""

import json
import math
import sys
import urllib.request
from pathlib import Path

MODEL = "checked"


def json_lines(path):
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]


def task(items, delimiter, address, output):
    """Writes the harness's description of a task (YAML, of which JSON is a part) and prints the model's context in tokens."""
    with open(items, encoding="utf-8") as lines:
        fields = json.loads(next(line for line in lines if line.strip())).keys()
    space = " " if delimiter == "space" else ""
    names, kind = ["acc"], {"output_type": "multiple_choice"}
    if "query" in fields:
        kind |= {"doc_to_text": "query", "doc_to_choice": "choices", "doc_to_target": "gold"}
        names += ["acc_norm", "acc_bytes"]
    elif "context_options" in fields:  # acc_norm would divide by the lengths of the contexts
        kind |= {"doc_to_text": "gold", "doc_to_choice": "context_options", "doc_to_target": "continuation"}
    else:  # the harness adds no delimiter in this kind of task
        kind = {"output_type": "loglikelihood", "doc_to_text": "context", "doc_to_target": space + "{{continuation}}"}
    metrics = [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in names]
    if kind["output_type"] == "loglikelihood":
        metrics.append({"metric": "perplexity", "aggregation": "perplexity", "higher_is_better": False})
    description = {"task": MODEL, "dataset_path": "json", "dataset_kwargs": {"data_files": {"validation": items}},
                   "validation_split": "validation", "target_delimiter": space, "num_fewshot": 0, "metric_list": metrics,
                   "metadata": {"version": 1.0}}  # fmt: skip
    Path(output).write_text(json.dumps(description | kind), encoding="utf-8")
    with urllib.request.urlopen(address + "/v1/models") as reply:
        print(json.load(reply)["data"][0]["max_model_len"])


def compare(folder, choices, samples, what):
    """Compares the harness's results in `folder` with those of `eval_gpt choices` and prints the differences. True if equal."""
    [ours] = json_lines(choices)
    [results] = Path(folder).rglob("results_*.json")
    theirs = json.loads(results.read_text(encoding="utf-8"))["results"][MODEL]
    differences, shown = [], []
    for name in ("acc", "acc_norm", "acc_bytes", "perplexity"):
        if f"{name},none" in theirs:
            number = theirs[f"{name},none"]
            shown.append(f"{name} {number:.6g}")
            if number != ours[name]:
                differences.append(f"{name}: lm-eval {number!r}, choices {ours[name]!r}")

    [log] = Path(folder).rglob("samples_*.jsonl")
    by_item = sorted(json_lines(log), key=lambda sample: sample["doc_id"])
    answers = [answer for sample in by_item for [answer] in sample["resps"]]
    scored = json_lines(samples)
    if len(answers) != len(scored):
        differences.append(f"lm-eval scored {len(answers)} options, choices {len(scored)}")
    largest = 0.0
    for (log_prob, greedy), option in zip(answers, scored):
        where = f"line {option['line']}, option {option['option']}"
        if float(log_prob) != option["log_prob"]:
            largest = max(largest, abs(float(log_prob) - option["log_prob"]))
            differences.append(f"{where}: lm-eval {log_prob}, choices {option['log_prob']!r}")
        if greedy != str(option["greedy"]):
            differences.append(f"{where}: greedy is {greedy} in lm-eval, {option['greedy']} in choices")
    truncated = sum(option["truncated"] for option in scored)
    print(f"lm-eval, {what}: {len(by_item)} items, {len(answers)} log-likelihoods ({truncated} truncated), {', '.join(shown)}; "
          f"{len(differences)} differences, the largest {largest:g} nats")  # fmt: skip
    for difference in differences[:10]:
        print("  " + difference)
    return not differences


def client(address):
    """Checks completions, streams and errors with the openai client. True if all are right."""
    import openai

    api = openai.OpenAI(base_url=address + "/v1", api_key="none", max_retries=0)
    right = []

    def verdict(what, good, seen):
        right.append(bool(good))
        print(f"openai, {what}: {'ok' if good else 'WRONG'}; {seen}")

    def error_of(call):
        try:
            return call()
        except openai.APIStatusError as error:
            return error

    [listed] = api.models.list().data
    verdict("models", listed.id == api.models.retrieve(MODEL).id == MODEL, listed.id)

    prompt = "The capital of the country is"
    for name, settings in {
        "greedy": {"temperature": 0},
        "sampled": {"temperature": 0.9, "top_p": 0.95, "seed": 7, "extra_body": {"top_k": 40}},
        "with a stop": {"temperature": 0, "stop": ["e"]},
    }.items():
        request = {"model": MODEL, "prompt": prompt, "max_tokens": 24, "logprobs": 1} | settings
        whole = api.completions.create(**request)
        events = list(api.completions.create(**request, stream=True, stream_options={"include_usage": True}))
        choices = [choice for event in events for choice in event.choices]
        text = "".join(choice.text for choice in choices)
        numbers = [number for choice in choices if choice.logprobs for number in choice.logprobs.token_logprobs]
        [choice] = whole.choices
        same = (text == choice.text and numbers == choice.logprobs.token_logprobs and events[-1].usage == whole.usage
                and choices[-1].finish_reason == choice.finish_reason)  # fmt: skip
        verdict(f"{name}, whole and streamed", same, f"{choice.text!r} ({choice.finish_reason}), {len(events)} events")

    batch = api.completions.create(model=MODEL, prompt=[prompt, "She said"], max_tokens=8, temperature=0)
    alone = [api.completions.create(model=MODEL, prompt=text, max_tokens=8, temperature=0) for text in (prompt, "She said")]
    texts = [choice.text for choice in sorted(batch.choices, key=lambda choice: choice.index)]
    verdict("two prompts in one request", texts == [reply.choices[0].text for reply in alone], repr(texts))

    echoed = api.completions.create(model=MODEL, prompt=prompt, max_tokens=0, echo=True, logprobs=1).choices[0]
    numbers = echoed.logprobs.token_logprobs
    finite = numbers[0] is None and len(numbers) > 1 and all(map(math.isfinite, numbers[1:]))
    verdict("log-probabilities of a text", echoed.text == prompt and finite, f"{len(numbers)} tokens")

    error = error_of(lambda: api.completions.create(model="another", prompt=prompt))
    verdict("an unknown model", isinstance(error, openai.NotFoundError), error)
    error = error_of(lambda: api.completions.create(model=MODEL, prompt=prompt * 10000, max_tokens=1))
    too_long = isinstance(error, openai.BadRequestError) and error.code == "context_length_exceeded"
    verdict("a text that is too long", too_long, error)
    error = error_of(lambda: api.completions.create(model=MODEL, prompt=prompt, temperature=-1))
    verdict("an invalid value", isinstance(error, openai.BadRequestError) and error.param == "temperature", error)
    return all(right)


if __name__ == "__main__":
    sys.exit({"task": task, "compare": compare, "client": client}[sys.argv[1]](*sys.argv[2:]) is False)
