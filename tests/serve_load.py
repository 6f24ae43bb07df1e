#!/usr/bin/env python3
"""Puts `eval_gpt serve` under load: wrk, good clients, and 64 slow, broken and hostile ones, on loopback.

Hostile clients come in the kinds of HOSTILE, as many of each; one that is through begins again. Meanwhile a good client asks for the
same completion again and again. It must always be answered, always with the same text; wrk must see no error; answers to hostile
clients must be the right ones; the server's memory must not grow; connections of clients that have gone must be closed; more
completions at once than --max-requests must be refused with 503. Without wrk (Debian: wrk) the good client is alone.
"""

import asyncio
import http.client
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from programs import parser_of
from sweep_testing import Sweep

MAX_REQUESTS, MAX_BODY = 64, 65536
READ_TIMEOUT_S = 20  # of the server
WRK_SCRIPT = """
local bodies = {'{"prompt":"the river","max_tokens":4,"seed":1}', '{"prompt":["a","b"],"max_tokens":2,"logprobs":2}'}
local n = 0
request = function()
  n = n + 1
  if n % 3 == 0 then return wrk.format("GET", "/health") end
  return wrk.format("POST", "/v1/completions", {["Content-Type"] = "application/json"}, bodies[n % 2 + 1])
end
"""


def post(body, path="/v1/completions", length=None, headers=""):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{headers}"
    return f"{head}Content-Length: {len(body) if length is None else length}\r\n\r\n".encode() + body


class Clients:
    """The hostile ones. Each method is a client: it gets a connection and a random generator."""

    def __init__(self, port, seed):
        self.port, self.random = port, random.Random(seed)
        self.problems, self.rounds = [], {}

    async def slow_headers(self, reader, writer):
        for byte in b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Header: " + b"x" * 200:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.3)

    async def slow_body(self, reader, writer):
        writer.write(post(b"", length=500))
        for _ in range(100):
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.3)

    async def slow_reader(self, reader, writer):
        writer.write(post({"prompt": "the", "stream": True, "max_tokens": 400}))
        while await reader.read(64):
            await asyncio.sleep(0.05)

    async def reads_nothing(self, reader, writer):
        writer.write(50 * post({"prompt": "the", "max_tokens": 20, "logprobs": 20}))
        await asyncio.sleep(5)

    async def leaves(self, reader, writer):
        writer.write(post({"prompt": "the", "max_tokens": 400, "n": 8, "stream": self.random.random() < 0.5}))
        await writer.drain()
        await asyncio.sleep(self.random.random())

    async def says_nothing(self, reader, writer):
        await asyncio.sleep(self.random.random() * READ_TIMEOUT_S)

    async def garbage(self, reader, writer):
        writer.write(self.random.randbytes(self.random.randrange(1, 4096)))
        writer.write_eof()
        await self.expect(reader, "garbage", (400, None))

    async def too_large(self, reader, writer):
        writer.write(post(b" " * (4 * MAX_BODY)))
        await self.expect(reader, "too large a body", (413,))

    async def unsent_body(self, reader, writer):
        writer.write(post(b"", length=4 * MAX_BODY))
        await self.expect(reader, "a body that is too large and not sent", (413,))

    async def unclear_length(self, reader, writer):
        writer.write(post(b"{}", length=self.random.choice(("abc", "-5", "0x2", "2,2", "2\r\nContent-Length: 3"))))
        await self.expect(reader, "a length that is no number", (400,))

    async def ends_own_side(self, reader, writer):
        writer.write(post({"prompt": "the", "max_tokens": 20}))
        writer.write_eof()
        answer = await asyncio.wait_for(reader.read(), 60)
        if b"HTTP/1.1 200" not in answer and b"HTTP/1.1 503" not in answer:
            self.problems.append(f"to a request and the end of what is sent: {answer[:200]!r}")

    async def pipelines(self, reader, writer):
        writer.write(3 * post({"prompt": "the", "max_tokens": 2}, headers="Connection: keep-alive\r\n"))
        for _ in range(3):
            await self.expect(reader, "one of three requests sent at once", (200, 503))
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
            await asyncio.wait_for(reader.readexactly(int(re.search(rb"Content-Length: (\d+)", head).group(1))), 60)

    async def long_headers(self, reader, writer):
        writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + b"X: " + b"y" * 100_000 + b"\r\n\r\n")
        await self.expect(reader, "a header of 100 kB", (400, 414, 431, None))

    async def broken_chunks(self, reader, writer):
        writer.write(b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n{}\r\n")
        writer.write_eof()
        await self.expect(reader, "a chunk of 2^68 bytes", (400, 413, None))

    async def broken_json(self, reader, writer):
        body = self.random.choice((b"[" * 60_000, b'{"prompt":', b'{"prompt":"\xff"}', b'{"prompt":"a","n":1e300}', b"\0"))
        writer.write(post(body))
        await self.expect(reader, repr(body[:20]), (400,))

    async def expect(self, reader, what, statuses):
        """None: the connection is closed without an answer."""
        try:
            line = await asyncio.wait_for(reader.readline(), 60)
        except asyncio.TimeoutError:
            line = b"nothing within a minute"
        status = int(line.split()[1]) if line.startswith(b"HTTP/1.") else None
        if status not in statuses:
            self.problems.append(f"{what}: {line!r}, expected a status of {statuses}")

    async def client(self, kind, end):
        while time.monotonic() < end:
            self.rounds[kind] = self.rounds.get(kind, 0) + 1
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError as error:
                self.problems.append(f"{kind}: {error}")
                return
            try:
                await asyncio.wait_for(getattr(self, kind)(reader, writer), max(1.0, end - time.monotonic()))
            except (OSError, asyncio.TimeoutError):
                pass  # the server closed the connection, or time is up
            finally:
                writer.transport.abort()
            await asyncio.sleep(self.random.random() * 0.2)

    async def run(self, count, seconds):
        end = time.monotonic() + seconds
        await asyncio.gather(*(self.client(HOSTILE[i % len(HOSTILE)], end) for i in range(count)))


HOSTILE = [name for name, value in vars(Clients).items() if asyncio.iscoroutinefunction(value) and name not in ("expect", "client", "run")]


class GoodClient(threading.Thread):
    """Asks on one connection after the other."""

    def __init__(self, port):
        super().__init__()
        self.port, self.stopping, self.problems, self.answers, self.slowest_s = port, False, [], 0, 0.0
        self.first = self.ask()

    def ask(self, **changes):
        """Once more where the server has closed a connection on which this busy machine sent nothing for five seconds."""
        try:
            return self.ask_once(**changes)
        except ConnectionResetError:
            return self.ask_once(**changes)

    def ask_once(self, **changes):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        body = {"prompt": "the river", "max_tokens": 12, "seed": 3, "logprobs": 1, **changes}
        connection.request("POST", "/v1/completions", json.dumps(body))
        response = connection.getresponse()
        answer = json.loads(response.read())
        connection.close()
        return answer["choices"] if response.status == 200 else f"{response.status} {answer}"

    def run(self):
        while not self.stopping:
            started = time.monotonic()
            try:
                answer = self.ask()
            except (OSError, http.client.HTTPException) as error:
                answer = repr(error)
            self.slowest_s = max(self.slowest_s, time.monotonic() - started)
            self.answers += 1
            if answer != self.first:
                self.problems.append(f"the good client's answer {self.answers}: {answer}")
            time.sleep(0.05)


class Server:
    def __init__(self, args, sweep):
        model = sweep.work / "model"
        train = [args.train_gpt, *sweep.fixed, "--iterations", "2", "--out-dir", sweep.work, "--run-id", "model"]
        done = subprocess.run(list(map(str, train)), env=sweep.environment, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"train_gpt failed:\n{done.stdout}{done.stderr}")
        self.errors = open(sweep.work / "errors.txt", "wb")
        command = [args.eval_gpt, "serve", model / "final_model.pt", "--tokenizer-path", sweep.work / "tokenizer.model", "--port", "0",
                   "--max-requests", MAX_REQUESTS, "--max-body-bytes", MAX_BODY, "--num-threads", 1, "--device", "cpu"]  # fmt: skip
        self.process = subprocess.Popen(list(map(str, command)), env=sweep.environment, stdout=subprocess.PIPE, stderr=self.errors,
                                        text=True)  # fmt: skip
        line = self.process.stdout.readline()
        found = re.search(r":(\d+)\s*$", line)
        if not found:
            sys.exit(f"the server said {line!r}:\n{(sweep.work / 'errors.txt').read_text()}")
        self.port = int(found.group(1))

    def resident_kib(self):
        return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text()).group(1))

    def connections(self):
        folder = Path(f"/proc/{self.process.pid}/fd")
        links = [os.readlink(folder / name) for name in os.listdir(folder) if os.path.lexists(folder / name)]
        return sum(link.startswith("socket:") for link in links) - 1  # one listens


def wrk(server, work, seconds):
    """Problems, after wrk has run."""
    script = work / "mix.lua"
    script.write_text(WRK_SCRIPT)
    command = ["wrk", "-t1", "-c8", f"-d{seconds}s", "--timeout", "60s", "-s", script, f"http://127.0.0.1:{server.port}"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    print(done.stdout, flush=True)
    bad = [line.strip() for line in done.stdout.splitlines() if "Non-2xx" in line or "Socket errors" in line]
    return [f"wrk: {line}" for line in bad] + ([f"wrk failed: {done.stderr}"] if done.returncode else [])


def more_than_allowed(good):
    """Twice as many completions at once as the limit allows: some are refused, none fails otherwise."""
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(good.ask(max_tokens=400, logprobs=None))) for _ in range(2 * MAX_REQUESTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refused = [answer for answer in answers if isinstance(answer, str)]
    print(f"{len(answers)} completions at once: {len(refused)} refused", flush=True)
    return [f"{len(answers)} completions at once, {MAX_REQUESTS} allowed: {len(refused)} refused, such as {refused[:1]}"] \
        if len(answers) != 2 * MAX_REQUESTS or not refused or not all(text.startswith("503 ") for text in refused) else []  # fmt: skip


def load(args, server, work):
    good, hostile = GoodClient(server.port), Clients(server.port, args.seed)
    problems = more_than_allowed(good)
    memory, done = [], threading.Event()

    def sample():
        while not done.wait(args.seconds / 200):
            memory.append(server.resident_kib())

    wrk_problems = []
    helpers = [threading.Thread(target=sample)]
    if shutil.which("wrk"):
        helpers.append(threading.Thread(target=lambda: wrk_problems.extend(wrk(server, work, args.seconds))))
    good.start()
    for helper in helpers:
        helper.start()
    asyncio.run(hostile.run(args.clients, args.seconds))
    good.stopping = True
    good.join()
    done.set()
    for helper in helpers:
        helper.join()
    problems += wrk_problems + good.problems[:5] + hostile.problems[:20]

    quarter = len(memory) // 4
    early, late = max(memory[quarter : 2 * quarter]), max(memory[-quarter:])
    rounds = ", ".join(f"{kind} {count}" for kind, count in hostile.rounds.items())
    print(f"good client: {good.answers} answers, the slowest after {good.slowest_s:.1f} s; hostile: {rounds}")
    print(f"resident: {memory[0] / 1024:.0f} MiB at first, {early / 1024:.0f} in the second quarter, {late / 1024:.0f} in the last")
    if late > 1.05 * early + 4096:
        problems.append(f"memory grows: {early} KiB, then {late} KiB")
    give_up = time.monotonic() + 2 * READ_TIMEOUT_S
    while server.connections() > 0 and time.monotonic() < give_up:
        time.sleep(0.1)
    if server.connections() > 0:
        problems.append(f"{server.connections()} connections are left of clients that have gone")
    if good.ask() != good.first:
        problems.append("another answer after the load")
    server.process.send_signal(signal.SIGTERM)
    if server.process.wait(60) != 0:
        problems.append(f"the server's exit status is {server.process.returncode}")
    return problems


def main():
    parser = parser_of(__doc__, "train_gpt", "prepare_data", "eval_gpt")
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="serve_load_") as name:
        work = Path(name).resolve()
        server = Server(args, Sweep(args, work))
        try:
            problems = load(args, server, work)
        finally:
            server.process.kill()
            server.process.wait()
        if problems:
            print((work / "errors.txt").read_text(errors="replace")[-2000:])
    for problem in problems:
        print("FAILED:", problem)
    print("ok" if not problems else f"{len(problems)} problems")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
