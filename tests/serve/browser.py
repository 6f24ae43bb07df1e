"""A headless Chromium, driven through --remote-debugging-pipe: JSON messages that end in NUL, on its descriptors 3 and 4."""

import collections
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time

PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
DEADLINE_S = 60  # per reply or condition; longer means a hang
KEYS = {  # name: (code, Windows' virtual key code, text)
    "Enter": ("Enter", 13, "\r"), "Tab": ("Tab", 9, ""), "Escape": ("Escape", 27, ""), "Home": ("Home", 36, ""),
    "End": ("End", 35, ""), "ArrowLeft": ("ArrowLeft", 37, ""), "ArrowRight": ("ArrowRight", 39, ""), " ": ("Space", 32, " "),
    "Delete": ("Delete", 46, ""),
}  # fmt: skip
CONTROL = 2

# The browser's pipes have to be its descriptors 3 and 4; between fork and exec only a program of its own can see to that safely.
LAUNCHER = """import fcntl, os, sys
pipes = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 10) for fd in sys.argv[1:3]]
os.dup2(pipes[0], 3)
os.dup2(pipes[1], 4)
os.execv(sys.argv[3], sys.argv[3:])"""


class Unusable(Exception):
    """There is no browser, or it does not start."""


def find_browser():
    named = os.environ.get("CHROME")
    for name in [named] if named else PROGRAMS:
        path = shutil.which(name)
        if path:
            return path
    raise Unusable("no browser: none of " + ", ".join([named] if named else PROGRAMS) + " is on PATH; CHROME=... names another")


class Browser:
    """One page of one browser, with a profile that ends with it. Events are kept in `events` until they are taken."""

    def __init__(self):
        program = find_browser()
        self.profile = tempfile.mkdtemp(prefix="page_test_")
        self.errors = open(os.path.join(self.profile, "stderr.txt"), "w+", errors="replace")
        their_read, self.write_fd = os.pipe()
        self.read_fd, their_write = os.pipe()
        # The sandbox needs rights that root and containers lack; the only page is our own, and no other host resolves.
        command = [program, "--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--no-first-run",
                   "--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update",
                   "--disable-extensions", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
                   f"--user-data-dir={self.profile}/profile", "about:blank"]  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, "-c", LAUNCHER, str(their_read), str(their_write), *command], pass_fds=(their_read, their_write),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self.errors)  # fmt: skip
        os.close(their_read)
        os.close(their_write)
        self.session, self.number, self.buffer = None, 0, b""
        self.events, self.answers = collections.deque(), {}
        try:
            page = next(t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
            self.session = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        except (OSError, StopIteration) as problem:
            self.errors.seek(0)
            last = self.errors.read()[-2000:]
            self.close()
            raise Unusable(f"{program} does not start: {problem}\n{last}") from problem

    def close(self):
        os.close(self.write_fd)  # ends the browser
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.read_fd)
        self.errors.close()
        shutil.rmtree(self.profile, ignore_errors=True)  # helper processes may write a moment longer

    def _receive(self, seconds):
        """Reads what is there, waiting so long at most; False if nothing came."""
        if not select.select([self.read_fd], [], [], max(0, seconds))[0]:
            return False
        data = os.read(self.read_fd, 1 << 20)
        if not data:
            raise OSError("the browser has ended")
        *messages, self.buffer = (self.buffer + data).split(b"\0")
        for message in map(json.loads, messages):
            if "id" in message:
                self.answers[message["id"]] = message
            else:
                self.events.append(message)
        return True

    def call(self, method, **params):
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.write_fd, data) :]
        until = time.monotonic() + DEADLINE_S
        while self.number not in self.answers:
            if not self._receive(until - time.monotonic()):
                raise OSError(f"no answer to {method} in {DEADLINE_S} s")
        answer = self.answers.pop(self.number)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def take_events(self, *methods):
        """Events of these kinds that came until now; the others stay."""
        self.call("Runtime.evaluate", expression="0")  # what happened before has been reported when this is answered
        taken = [event for event in self.events if event["method"] in methods]
        self.events = collections.deque(event for event in self.events if event["method"] not in methods)
        return [event["params"] for event in taken]

    def value(self, expression):
        """Of JavaScript, in the page; promises are awaited."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(f"{expression}: {json.dumps(result['exceptionDetails'])}")
        return result["result"].get("value")

    def wait(self, expression):
        """Until this JavaScript is true. The page waits, so that it is asked once."""
        script = """new Promise(done => { const look = () => (%s) ? done(true) : setTimeout(look, 5); look();
                    setTimeout(() => done(false), %d); })""" % (expression, 1000 * (DEADLINE_S - 5))
        if not self.value(script):
            shown = self.value("document.body.innerText")
            raise AssertionError(f"in {DEADLINE_S - 5} s this did not become true: {expression}\nThe page shows:\n{shown}")

    def open(self, address):
        self.call("Page.navigate", url=address)
        self.wait(f"location.href === {json.dumps(address)} && document.readyState === 'complete'")

    def click(self, selector):
        """In the middle of an element, with the mouse."""
        place = self.value(f"""(() => {{ const element = document.querySelector({json.dumps(selector)});
            element.scrollIntoView({{block: "center"}}); const box = element.getBoundingClientRect();
            return {{x: box.x + box.width / 2, y: box.y + box.height / 2}}; }})()""")
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **place)

    def press(self, key, times=1, modifiers=0, commands=()):
        code, number, text = KEYS.get(key, ("", 0, key))
        event = {"key": key, "code": code, "windowsVirtualKeyCode": number, "modifiers": modifiers}
        for _ in range(times):
            self.call("Input.dispatchKeyEvent", type="keyDown", text="" if modifiers else text, commands=list(commands), **event)
            self.call("Input.dispatchKeyEvent", type="keyUp", **event)

    def type(self, text):
        for character in text:
            self.press("Enter" if character == "\n" else character)
