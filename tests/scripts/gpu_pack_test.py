#!/usr/bin/env python3
"""What `gpu_check.sh pack` puts into a package."""

import json
import shutil
import struct
import sys
import tarfile
import unittest

from gpu_package import read_shard, write_shard
from sandbox import SCRIPTS, SandboxTest

sys.dont_write_bytecode = True


class PackTest(SandboxTest):
    def setUp(self):
        super().setUp()
        self.copy_scripts()
        (self.root / "benchmarks").mkdir()
        for name in ("time_upstream", "step_cost", "step_options"):
            shutil.copy(SCRIPTS.parent / f"benchmarks/{name}.py", self.root / "benchmarks")
        self.fake("setup.sh", folder=self.root / "scripts")
        self.fake("nvcc")
        self.fake("cmake", 'case "$*" in --install*) mkdir -p "$6/bin"; cp build/bin/train_gpt "$6/bin" ;; esac')
        self.fake("train_gpt", folder=self.root / "build/bin")
        library = self.root / "libspdlog.so.1"
        library.touch()
        self.fake("ldd", f'echo "libtorch_cuda.so => /torch/libtorch_cuda.so (0)"; echo "libspdlog.so.1 => {library} (0)"')
        self.fake("objdump", 'for lib in libc.so.6 libtorch_cuda.so libspdlog.so.1; do echo "  NEEDED  $lib"; done')
        python = self.root / "build/deps/bin/python"
        python.parent.mkdir(parents=True)
        python.symlink_to(sys.executable)
        self.data = self.root / "mine"
        self.environment["DATA_PATH"] = str(self.data)
        self.environment["TOKENIZER_PATH"] = str(self.root / "mine.model")
        (self.root / "mine.model").write_text("model")

    def pack(self, *arguments):
        return self.run_script(self.root / "scripts/gpu_check.sh", "pack", *arguments)

    def test_a_package(self):
        write_shard(self.data / "fineweb_train_000000.bin", [1] * 3000)
        write_shard(self.data / "fineweb_train_000001.bin", [2] * 2000)
        write_shard(self.data / "fineweb_val_000000.bin", [3] * 100)
        package = self.root / "package"
        result = self.pack("package")
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertIn("5,000 training and 100 validation tokens from ", result.stdout)
        self.assertRegex(result.stdout, r"warning: the dataset has no more training tokens; 2\d,\d{3},\d{3} would fit")
        self.assertIn("30 s of training would be about 10200.0 epochs", result.stdout)
        self.assertEqual(read_shard(package / "data/fineweb_train_000000.bin"), ((20240520, 1, 5000), [1] * 3000 + [2] * 2000))
        self.assertEqual((package / "data/tokenizer.model").read_text(), "model")
        with tarfile.open(package / "programs.tar.xz") as tar:
            self.assertEqual({member.name for member in tar if member.isfile()}, {"bin/train_gpt", "lib/libspdlog.so.1"})
        names = {path.name for path in package.iterdir()}
        modules = {f"gpu_{name}.py" for name in ("run", "stages", "machine", "training", "report")}
        predictions = {"predicted_h100.json", "predicted_h200.json"}
        self.assertEqual(names, {"data", "programs.tar.xz", "gpu_check.sh", "time_upstream.py", *modules, *predictions})
        self.assertGreater(json.loads((package / "predicted_h200.json").read_text())["step_ms"], 0)
        self.assertEqual(self.called("cmake --build")[0].split()[-1], "gpu_check_programs")
        self.assertEqual(self.pack("package").returncode, 0, "a new package replaces the old one")

    def test_what_fineweb_needs(self):
        del self.environment["DATA_PATH"], self.environment["TOKENIZER_PATH"]
        result = self.pack()
        self.assertEqual(result.returncode, 1)
        self.assertIn("no data to pack in data/datasets/sample_sp1024", result.stderr)
        for name in ("sample_sp1024", "fineweb10B_sp1024"):
            for kind in ("train", "val"):
                write_shard(self.root / "data/datasets" / name / f"fineweb_{kind}_000000.bin", [5, 6, 7])
            tokenizer = self.root / "data/tokenizers" / f"{name.split('_')[0].replace('10B', '')}_1024_bpe.model"
            tokenizer.parent.mkdir(exist_ok=True)
            tokenizer.write_text("model")
            result = self.pack()
            self.assertIn(f"tokens from data/datasets/{name}\n", result.stdout, result.stderr)

    def test_another_folder_is_left_alone(self):
        (self.root / "mine").mkdir()
        (self.root / "mine/thesis.txt").touch()
        result = self.pack("mine")
        self.assertEqual(result.returncode, 1)
        self.assertTrue((self.root / "mine/thesis.txt").exists())

    def cut(self, train, val=2):
        script = SCRIPTS / "cut_shards.py"
        return self.run_script(script, self.data, self.root, str(train), str(val), "60", "100")

    def test_cutting(self):
        write_shard(self.data / "fineweb_train_000000.bin", [1, 2, 3])
        write_shard(self.data / "fineweb_train_000001.bin", [4, 5, 6])
        write_shard(self.data / "fineweb_train_000002.bin", [7])
        write_shard(self.data / "fineweb_val_000000.bin", [8, 9, 10])
        result = self.cut(5)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(read_shard(self.root / "fineweb_train_000000.bin"), ((20240520, 1, 5), [1, 2, 3, 4, 5]))
        self.assertEqual(read_shard(self.root / "fineweb_val_000000.bin"), ((20240520, 1, 2), [8, 9]))
        self.assertNotIn("warning", result.stdout)
        self.assertIn("60 s of training would be about 1200.0 epochs at 100 tokens/s", result.stdout)

    def test_damaged_data(self):
        for content, reason in (
            (b"no shard", "is not a shard"),
            (struct.pack("<3i", 20240520, 1, 9).ljust(1024, b"\0") + b"1234", "ends before its 9 tokens"),
            (struct.pack("<3i", 20240520, 1, 1).ljust(1024, b"\0") + b"\xff\xff", "has token 65535"),
        ):
            write_shard(self.data / "fineweb_val_000000.bin", [1])
            (self.data / "fineweb_train_000000.bin").write_bytes(content)
            result = self.cut(100)
            self.assertEqual(result.returncode, 1)
            self.assertIn(reason, result.stderr)


if __name__ == "__main__":
    unittest.main()
