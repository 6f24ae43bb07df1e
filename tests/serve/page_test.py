#!/usr/bin/env python3
"""The page of `eval_gpt serve`, used in a real headless browser with keyboard and mouse.

A tiny model is trained on a text made here and served; what the page shows is compared with what the same request to the
server answers. Exit status 77 if no browser starts.
"""

import argparse
import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import unittest
import urllib.error
import urllib.request
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1])]
from browser import CONTROL, Browser, Unusable  # noqa: E402
from resume_kill import make_data  # noqa: E402

SKIPPED = 77
CONTEXT = 64  # tokens
NAME = "tiny <i>model</i>"  # markup from the server must be shown as text
PROMPT = 'The water <b id="no">and</b> the "sea".'
TOKENS = "[...document.querySelectorAll('#text .token')]"
IDLE = "document.querySelector('#stop').disabled && document.querySelector('#status').textContent !== '…'"


def train(args, work):
    """Trains a small model on random text; returns its file and tokenizer."""
    data, tokenizer = make_data(work, args.prepare_data, 320, random.Random(1))
    options = {
        "DATA_PATH": data, "TOKENIZER_PATH": tokenizer, "VOCAB_SIZE": 320, "NUM_LAYERS": 2, "MODEL_DIM": 32, "NUM_HEADS": 2,
        "NUM_KV_HEADS": 1, "TRAIN_SEQ_LEN": CONTEXT, "TRAIN_BATCH_TOKENS": 1024, "VAL_BATCH_SIZE": 1024, "EVAL_TOKENS": 1024,
        "ITERATIONS": 60, "WARMDOWN_ITERS": 20, "WARMUP_STEPS": 1, "MAX_WALLCLOCK_SECONDS": 0, "VAL_LOSS_EVERY": 0,
        "NUM_THREADS": 1, "DEVICE": "cpu", "RUN_ID": "tiny", "OUT_DIR": work / "runs",
    }  # fmt: skip
    flags = [text for name, value in options.items() for text in ("--" + name.lower().replace("_", "-"), str(value))]
    done = subprocess.run([str(args.train_gpt), *flags], env=environment(), capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        sys.exit(f"train_gpt failed:\n{done.stdout}{done.stderr}")
    return work / "runs" / "tiny" / "final_model.pt", tokenizer


def environment():
    kept = ("PATH", "HOME", "LD_LIBRARY_PATH", "TMPDIR", "ASAN_OPTIONS", "UBSAN_OPTIONS", "PGOLF_CPU_LEVEL")
    return {name: os.environ[name] for name in kept if name in os.environ}


class Server:
    def __init__(self, args, model, tokenizer):
        command = [str(args.eval_gpt), "serve", str(model), "--tokenizer-path", str(tokenizer), "--port", "0",
                   "--num-threads", "1", "--model-name", NAME]  # fmt: skip
        self.process = subprocess.Popen(command, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        match = re.fullmatch(r"serving (.+) at (http://127\.0\.0\.1:\d+)\n", line)
        if not match:
            self.process.kill()
            sys.exit(f"eval_gpt serve began with {line!r}")
        self.name, self.address = match.groups()

    def ask(self, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as reply:
            return json.load(reply)

    def close(self):
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(timeout=30)
        self.process.stdout.close()
        return status


class PageTest(unittest.TestCase):
    server = browser = None  # set by main()

    def setUp(self):
        self.browser.events.clear()
        self.browser.open(self.server.address + "/")
        self.browser.wait(f"document.querySelector('#heading').textContent === {json.dumps(self.server.name)}")

    def tearDown(self):
        self.assertEqual(self.complaints(), [])

    def complaints(self):
        """Errors and warnings of the console, exceptions, and what the content security policy stopped."""
        return self.browser.take_events("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")

    def set(self, name, keys):
        self.browser.value(f"document.getElementById('{name}').focus()")
        for key, times in keys:
            self.browser.press(key, times)

    def field(self, name):
        return self.browser.value(f"document.getElementById('{name}').value")

    def shown(self, name):
        return self.browser.value(f"document.getElementById('{name}').textContent")

    def generated(self):
        return self.browser.value(TOKENS + ".map(span => span.textContent).join('')")

    def colors(self):
        return self.browser.value(TOKENS + ".map(span => getComputedStyle(span).backgroundColor)")

    def write_prompt(self, text=PROMPT):
        self.browser.click("#prompt")
        self.browser.press("a", modifiers=CONTROL, commands=["selectAll"])
        self.browser.press("Delete")
        self.browser.type(text)
        self.assertEqual(self.field("prompt"), text)

    def number(self, name, value):
        self.browser.value(f"document.getElementById('{name}').select()")
        self.set(name, [(digit, 1) for digit in str(value)])
        self.assertEqual(self.field(name), str(value))

    def requested(self):
        """The bodies of the completions that the page asked for."""
        sent = [event["request"] for event in self.browser.take_events("Network.requestWillBeSent")]
        return [json.loads(request["postData"]) for request in sent if request["url"].endswith("/v1/completions")]

    def check_colors(self, logprobs):
        """Every token has a color, equal for equal probabilities, different for likely and unlikely tokens."""
        colors = self.colors()
        self.assertEqual(len(colors), len(logprobs))
        self.assertNotIn("rgba(0, 0, 0, 0)", colors)
        by_number = dict(zip(logprobs, colors))
        self.assertEqual([by_number[number] for number in logprobs], colors)
        self.assertGreater(max(logprobs) - min(logprobs), 0.5, "the model is too flat for this test")
        self.assertNotEqual(by_number[max(logprobs)], by_number[min(logprobs)])
        self.assertGreater(len(set(colors)), 4)

    def test_generates_what_the_server_answers(self):
        self.write_prompt()
        self.set("temperature", [("End", 1)])
        self.assertEqual(self.field("temperature"), "2")
        self.set("temperature", [("Home", 1)])
        self.set("top_k", [("Home", 1), ("ArrowRight", 5)])
        self.number("max_tokens", 40)
        shown = self.browser.value("[...document.querySelectorAll('output')].map(output => output.textContent)")
        self.assertEqual(shown, ["0", "5", "1"])
        self.browser.press("Enter", modifiers=CONTROL)
        self.browser.wait(f"{TOKENS}.length > 0 && {IDLE}")

        [body] = self.requested()
        self.assertEqual(body, {"model": self.server.name, "prompt": PROMPT, "max_tokens": 40, "stream": True, "logprobs": 5,
                                "temperature": 0, "top_k": 5, "top_p": 1})  # fmt: skip
        [choice] = self.server.ask("/v1/completions", body | {"stream": False})["choices"]
        self.assertEqual(self.generated(), choice["text"])
        self.assertEqual(self.shown("text"), PROMPT + choice["text"])
        self.check_colors(choice["logprobs"]["token_logprobs"])
        self.assertEqual(self.browser.value("document.querySelectorAll('#text b, h1 *').length"), 0)
        self.assertRegex(self.shown("status"), r"^\d+ tokens, \d+\.\d tokens/s")
        self.assertEqual(self.shown("error"), "")
        # The tooltip: the token, its probability, and the alternatives in falling order.
        first = self.browser.value(TOKENS + "[0].title").split("\n")
        self.assertEqual(first[0], first[1])  # greedy: the token is the most likely one
        logprobs = choice["logprobs"]
        if not logprobs["tokens"][0].startswith("bytes:"):
            self.assertTrue(first[0].startswith("“" + logprobs["tokens"][0].replace(" ", "␣") + "” "), first[0])
        self.assertAlmostEqual(float(first[0].split()[-2]), 100 * math.exp(logprobs["token_logprobs"][0]), delta=0.06)
        chances = [float(re.search(r"([\d.e-]+) %$", line)[1]) for line in first[1:]]
        self.assertEqual(len(chances), 5)
        self.assertEqual(chances, sorted(chances, reverse=True))

    def test_samples_with_the_seed(self):
        self.write_prompt("She said")
        self.set("top_p", [("ArrowLeft", 10)])
        self.number("max_tokens", 20)
        self.number("seed", 7)
        self.browser.click("#generate")
        self.browser.wait(f"{TOKENS}.length > 0 && {IDLE}")
        [body] = self.requested()
        self.assertEqual((body["temperature"], body["top_p"], body["seed"]), (0.8, 0.9, 7))
        [choice] = self.server.ask("/v1/completions", body | {"stream": False})["choices"]
        self.assertEqual(self.generated(), choice["text"])

    def test_scores_the_text(self):
        self.write_prompt()
        self.browser.click("#score")
        self.browser.wait(f"{TOKENS}.length > 0 && {IDLE}")
        ids = self.server.ask("/tokenize", {"prompt": PROMPT, "add_special_tokens": False})["tokens"]
        [body] = self.requested()
        self.assertEqual((body["prompt"], body["max_tokens"], body["echo"]), ([1, *ids], 0, True))
        [choice] = self.server.ask("/v1/completions", body)["choices"]
        logprobs = choice["logprobs"]["token_logprobs"][1:]
        self.assertEqual(self.generated(), PROMPT)
        self.assertEqual(len(logprobs), len(ids))
        self.check_colors(logprobs)
        self.assertIn(f"{len(ids)} tokens, log-probability {sum(logprobs):.3f} nats", self.shown("status"))
        # The keyboard reaches what the mouse finds by hovering.
        self.set("text", [("ArrowRight", 2)])
        title = self.browser.value(TOKENS + "[1].title").split("\n")
        self.assertEqual(self.shown("detail"), title[0] + "; most likely: " + ", ".join(title[1:]))

    def test_characters_of_several_bytes(self):
        text = "the “sea” — 水"
        self.write_prompt(text)
        self.browser.click("#score")
        self.browser.wait(f"{TOKENS}.length > 0 && {IDLE}")
        self.assertEqual(self.generated(), text)
        marks = self.browser.value(TOKENS + ".map(span => span.dataset.mark || '')")
        self.assertEqual("".join(mark for mark in marks if len(mark) == 2)[-6:], "E6B0B4")

    def test_says_what_went_wrong(self):
        self.write_prompt("the sea " * CONTEXT)
        self.browser.click("#generate")
        self.browser.wait("document.querySelector('#error').textContent !== ''")
        [body] = self.requested()
        with self.assertRaises(urllib.error.HTTPError) as refused:
            self.server.ask("/v1/completions", body)
        self.assertEqual(refused.exception.code, 400)
        error = json.load(refused.exception)["error"]
        self.assertEqual(error["code"], "context_length_exceeded")
        self.assertEqual(self.shown("error"), error["message"])
        # The browser itself notes the status in its console; nothing else does.
        self.assertEqual({entry["entry"]["source"] for entry in self.complaints()}, {"network"})

        self.write_prompt("the sea")  # and the next request is none the worse
        self.browser.click("#generate")
        self.browser.wait(f"{TOKENS}.length > 0 && {IDLE}")
        self.assertEqual(self.shown("error"), "")

    def network(self, offline=False, bytes_per_second=-1):
        self.browser.call("Network.emulateNetworkConditions", offline=offline, latency=0, uploadThroughput=-1,
                          downloadThroughput=bytes_per_second)  # fmt: skip

    def test_says_that_the_server_is_gone(self):
        self.network(offline=True)
        try:
            for button in ("#generate", "#score"):
                self.browser.click(button)
                self.browser.wait("document.querySelector('#error').textContent.startsWith('The server is unreachable')")
                self.browser.wait("document.querySelector('#stop').disabled")
        finally:
            self.network()
        self.assertEqual({entry["entry"]["source"] for entry in self.complaints()}, {"network"})

    def test_stops(self):
        # A line as slow as this has most of the text still to come when the key is pressed, however fast the model is.
        self.network(bytes_per_second=20000)
        try:
            self.write_prompt("the sea")
            self.number("max_tokens", 2000)
            self.browser.click("#generate")
            self.browser.wait(f"{TOKENS}.length > 3")
            self.assertFalse(self.browser.value(IDLE))
            self.browser.press("Escape")
            self.browser.wait(IDLE)
        finally:
            self.network()
        self.assertRegex(self.shown("status"), r"^\d+ tokens, .*, stopped$")
        stopped_at = self.browser.value(TOKENS + ".length")
        self.assertLess(stopped_at, 2000)
        self.assertEqual(self.server.ask("/health"), {"status": "ok"})
        self.assertEqual(self.browser.value(f"new Promise(done => setTimeout(() => done({TOKENS}.length), 200))"), stopped_at)
        self.assertEqual(self.shown("error"), "")

        self.number("max_tokens", 2000)
        self.browser.click("#generate")
        self.browser.wait("!document.querySelector('#stop').disabled")
        self.browser.click("#stop")
        self.browser.wait(IDLE)

    def test_the_address_holds_the_settings(self):
        self.browser.open(self.server.address + "/?prompt=the+s%26a&temperature=0.3&top_k=7&top_p=0.5&max_tokens=5&seed=3&no=1")
        names = ("prompt", "temperature", "top_k", "top_p", "max_tokens", "seed")
        wanted = ["the s&a", "0.3", "7", "0.5", "5", "3"]
        self.assertEqual([self.field(name) for name in names], wanted)
        self.browser.click("#generate")
        self.browser.wait(f"{TOKENS}.length > 0 && {IDLE}")
        self.browser.open(self.browser.value("location.href"))
        self.assertEqual([self.field(name) for name in names], wanted)

    def test_can_be_used_by_all(self):
        # Every field and button has a name in the tree that screen readers get, and so has the text.
        nodes = self.browser.call("Accessibility.getFullAXTree")["nodes"]
        roles = ("textbox", "slider", "spinbutton", "button", "group")
        named = [node["name"]["value"] for node in nodes if node.get("role", {}).get("value") in roles]
        for name in ("Text", "Temperature", "Top-k (0: all)", "Top-p", "Max tokens", "Seed", "Generate", "Stop", "Score"):
            self.assertIn(name, named)
        self.assertNotIn("", named)
        papers = []
        for scheme in ("light", "dark"):
            self.browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
            papers.append(self.browser.value("getComputedStyle(document.body).backgroundColor"))
        self.browser.call("Emulation.setEmulatedMedia", features=[])
        self.assertNotEqual(*papers)

    def test_the_policy_forbids_other_hosts(self):
        with urllib.request.urlopen(self.server.address + "/", timeout=60) as reply:
            self.assertEqual(reply.headers.get_content_type(), "text/html")
            self.assertIn("default-src 'none'", reply.headers["Content-Security-Policy"])
            page = reply.read().decode()
        self.assertNotRegex(page, r"(?i)https?://|(src|href)=\"(?!data:)")
        self.assertNotIn("innerHTML", page)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--train-gpt", "--prepare-data", "--eval-gpt"):
        parser.add_argument(name, type=Path, required=True)
    args, rest = parser.parse_known_args()
    try:
        PageTest.browser = Browser()
    except Unusable as problem:
        print("skipped:", problem)
        return SKIPPED
    try:
        for domain in ("Page", "Runtime", "Log", "Network"):
            PageTest.browser.call(domain + ".enable")
        with tempfile.TemporaryDirectory(prefix="page_test_") as work:
            PageTest.server = Server(args, *train(args, Path(work)))
            try:
                passed = unittest.main(argv=[sys.argv[0], *rest], exit=False).result.wasSuccessful()
            finally:
                status = PageTest.server.close()
    finally:
        PageTest.browser.close()
    if status != 0:
        print(f"FAILED: eval_gpt serve ended with status {status} at SIGTERM")
    return 0 if passed and status == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
