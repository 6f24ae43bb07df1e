#!/usr/bin/env python3
"""scripts/download_fineweb.sh against a small server on this machine."""

import http.server
import json
import struct
import subprocess
import threading
import unittest

from sandbox import SCRIPTS, SandboxTest

VAL, TRAIN = "fineweb_val_000000.bin", "fineweb_train_000000.bin"
FOLDER = "/datasets/fineweb10B_sp64/"


def shard(tokens, magic=20240520, version=1):
    header = struct.pack("<3i", magic, version, tokens).ljust(1024, b"\0")
    return header + bytes(i % 251 for i in range(2 * tokens))


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        manifest = {
            "datasets": [{"name": "fineweb10B_sp64", "tokenizer_name": "t", "stats": {"files_train": 3, "files_val": 1}}],
            "tokenizers": [{"name": "t", "model_path": "tokenizers/fineweb_64_bpe.model"}],
        }
        self.files = {"/manifest.json": json.dumps(manifest).encode(), "/tokenizers/fineweb_64_bpe.model": b"\n\x05model"}
        for name, tokens in ((VAL, 500), (TRAIN, 4000), ("fineweb_train_000001.bin", 300)):
            self.files[FOLDER + name] = shard(tokens)
        self.cut_after = {}  # path -> bytes after which the connection breaks
        self.ranges = True
        self.requests = []  # (path, Range header)
        self.address = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server, requested = self.server, self.headers.get("Range")
        server.requests.append((self.path, requested))
        content = server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        start = 0
        if requested and server.ranges:
            start = int(requested.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:server.cut_after.get(self.path, len(content))])

    def log_message(self, *arguments):
        pass


class DownloadTest(SandboxTest):
    def setUp(self):
        super().setUp()
        self.server = Server()
        thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        self.addCleanup(self.server.server_close)
        self.addCleanup(thread.join)
        self.addCleanup(self.server.shutdown)
        self.environment |= {"FINEWEB_BASE_URL": self.server.address, "no_proxy": "*"}
        self.data = self.root / "data"
        self.shards = self.data / "datasets/fineweb10B_sp64"

    def download(self, *arguments):
        return self.run_script(SCRIPTS / "download_fineweb.sh", "--data-dir", str(self.data), "--variant", "sp64", *arguments)

    def assert_good(self, result):
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)

    def assert_error(self, result, *words):
        self.assertNotEqual(result.returncode, 0, result.stdout)
        for word in words:
            self.assertIn(word, result.stderr)

    def assert_same(self, name):
        self.assertEqual((self.shards / name).read_bytes(), self.server.files[FOLDER + name])

    def test_everything_arrives_and_a_second_call_fetches_only_the_manifest(self):
        self.assert_good(self.download("--train-shards", "2"))
        for name in (VAL, TRAIN, "fineweb_train_000001.bin"):
            self.assert_same(name)
        self.assertEqual((self.data / "tokenizers/fineweb_64_bpe.model").read_bytes(), b"\n\x05model")
        self.assertEqual(list(self.data.rglob("*.part")), [])
        self.server.requests.clear()
        self.assert_good(self.download("--train-shards=2"))
        self.assertEqual(self.server.requests, [("/manifest.json", None)])

    def test_broken_connection_resumes_where_it_stopped(self):
        self.server.cut_after[FOLDER + TRAIN] = 3000
        self.assert_error(self.download(), TRAIN, "incomplete", "again")
        self.assertFalse((self.shards / TRAIN).exists())
        self.assertEqual((self.shards / (TRAIN + ".part")).stat().st_size, 3000)
        self.server.cut_after.clear()
        self.server.requests.clear()
        self.assert_good(self.download())
        self.assertIn((FOLDER + TRAIN, "bytes=3000-"), self.server.requests)
        self.assert_same(TRAIN)

    def test_server_without_ranges_starts_over(self):
        self.shards.mkdir(parents=True)
        (self.shards / (TRAIN + ".part")).write_bytes(self.server.files[FOLDER + TRAIN][:2000])
        self.server.ranges = False
        self.assert_good(self.download())
        self.assert_same(TRAIN)

    def test_complete_part_file_only_gets_its_name(self):
        self.shards.mkdir(parents=True)
        (self.shards / (TRAIN + ".part")).write_bytes(self.server.files[FOLDER + TRAIN])
        self.assert_good(self.download())
        self.assert_same(TRAIN)
        self.assertNotIn(FOLDER + TRAIN, [path for path, _ in self.server.requests])

    def test_wrong_magic_version_or_length_is_kept_aside(self):
        wrong = {"magic": shard(500, magic=1), "version": shard(500, version=2), "long": shard(500) + b"\0\0",
                 "empty": shard(0), "page": b"<html>not here</html>"}
        for case, content in wrong.items():
            with self.subTest(case):
                self.server.files[FOLDER + VAL] = content
                self.assert_error(self.download(), VAL, "bad", f"{VAL}.bad")
                self.assertFalse((self.shards / VAL).exists())
                self.assertEqual((self.shards / (VAL + ".bad")).read_bytes(), content)

    def test_shard_that_the_server_holds_too_short(self):
        self.server.files[FOLDER + VAL] = shard(500)[:-2]
        self.assert_error(self.download(), VAL, "incomplete")
        self.assertFalse((self.shards / VAL).exists())

    def test_damaged_shard_on_disk_is_fetched_anew(self):
        self.assert_good(self.download())
        (self.shards / VAL).write_bytes(b"\0" * 2024)
        listing = self.download("--dry-run")
        self.assertIn("would fetch", listing.stdout)
        self.assertEqual((self.shards / VAL).read_bytes(), b"\0" * 2024)
        result = self.download()
        self.assert_good(result)
        self.assertIn(VAL, result.stderr)
        self.assert_same(VAL)
        self.assertEqual((self.shards / (VAL + ".bad")).stat().st_size, 2024)

    def test_missing_file_on_the_server(self):
        del self.server.files[FOLDER + TRAIN]
        self.assert_error(self.download(), "404", TRAIN)
        self.assert_same(VAL)

    def test_missing_or_senseless_manifest(self):
        self.server.files["/manifest.json"] = b"[]"
        self.assert_error(self.download(), "manifest.json", "form")
        del self.server.files["/manifest.json"]
        self.assert_error(self.download(), "manifest.json", "--base-url")

    def test_tokenizer_that_is_a_web_page(self):
        self.server.files["/tokenizers/fineweb_64_bpe.model"] = b"<html>"
        self.assert_error(self.download(), "SentencePiece", "fineweb_64_bpe.model.bad")

    def test_dry_run_lists_and_writes_nothing(self):
        result = self.download("--dry-run", "--train-shards", "2")
        self.assert_good(result)
        self.assertEqual(result.stdout.count("would fetch"), 4)
        self.assertFalse(self.data.exists())

    def test_bad_arguments(self):
        for arguments, word in ((["--variant", "byte"], "--variant"), (["--train-shards", "x"], "--train-shards"),
                                (["--train-shards", "4"], "has 3"), (["--variant", "sp65"], "fineweb10B_sp64"),
                                (["--shards", "1"], "--shards"), (["--train-shards"], "needs a value")):
            with self.subTest(arguments):
                self.assert_error(self.download(*arguments), word)

    def test_second_download_at_the_same_time_is_refused(self):
        self.shards.mkdir(parents=True)
        with subprocess.Popen(["flock", str(self.shards / ".lock"), "cat"], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE) as holder:
            holder.stdin.write(b"held\n")
            holder.stdin.flush()
            holder.stdout.readline()
            self.assert_error(self.download(), "another download")


if __name__ == "__main__":
    unittest.main()
