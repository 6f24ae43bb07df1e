#!/usr/bin/env python3
"""scripts/quickstart.sh with fakes for the build, apt and our programs: which steps it takes, in which order."""

import re
import shutil
import sys
import unittest

from sandbox import SandboxTest

# Makes what `apt-get download` would bring: two packages with a page each.
DOWNLOAD = r"""
case "$*" in *" download "*) ;; *) exit 0 ;; esac
for package in "${@: -2}"; do
  folder=$(mktemp -d)
  mkdir -p "$folder/DEBIAN" "$folder/usr/share/doc/$package"
  printf 'Package: %s\nVersion: 1\nArchitecture: all\nMaintainer: nobody\nDescription: test\n' "$package" >"$folder/DEBIAN/control"
  echo free >"$folder/usr/share/doc/$package/copyright"
  for i in {1..20}; do echo "<p>Sentence $i of $package says something.</p>"; done >"$folder/usr/share/doc/$package/page.html"
  dpkg-deb --root-owner-group --build "$folder" "${package}_1_all.deb" >/dev/null
  rm -rf "$folder"
done
"""
PREPARE = r"""
command=$1
while [ $# -gt 0 ]; do
  case $1 in --output) echo model >"$2" ;; --out-dir) mkdir -p "$2" && touch "$2"/fineweb_{train,val}_000000.bin ;; esac
  shift
done
"""
# As train_gpt, it refuses an option that is given twice.
TRAIN = r"""
seen=" "
for argument; do
  case $argument in --*)
    case $seen in *" $argument "*) echo "$argument is given twice" >&2; exit 2 ;; esac
    seen+="$argument " ;;
  esac
done
while [ $# -gt 1 ]; do
  case $1 in --out-dir) out=$2 ;; --run-id) id=$2 ;; esac
  shift
done
mkdir -p "$out/$id"
"""


@unittest.skipUnless(shutil.which("dpkg-deb"), "needs dpkg-deb")
class QuickstartTest(SandboxTest):
    def setUp(self):
        super().setUp()
        self.copy_scripts()
        programs = self.root / "build/bin"
        self.fake("setup.sh", folder=self.root / "scripts")
        self.fake("plot_run.sh", folder=self.root / "scripts")
        self.fake("cmake")
        self.fake("apt-cache", 'echo "python3-doc"; echo "  Depends: python3.11-doc"')
        self.fake("apt-get", DOWNLOAD)
        self.fake("prepare_data", PREPARE, programs)
        self.fake("train_gpt", TRAIN, programs)
        self.fake("eval_gpt", "", programs)
        python = self.root / "build/deps/bin/python"
        python.parent.mkdir(parents=True)
        python.symlink_to(sys.executable)

    def quickstart(self, *arguments):
        return self.run_script(self.root / "scripts/quickstart.sh", *arguments)

    def assert_good(self, result):
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)

    def test_from_nothing_and_again(self):
        self.assert_good(self.quickstart())
        steps = [call.split()[0] for call in self.calls.read_text().splitlines()]
        self.assertEqual([step for step in steps if step != "apt-cache"],
                         ["setup.sh", "cmake", "cmake", "apt-get", "prepare_data", "prepare_data", "train_gpt", "eval_gpt",
                          "plot_run.sh"])
        self.assertEqual(len((self.root / "data/sample/docs.jsonl").read_text().splitlines()), 2)
        self.assertEqual(sorted(path.name for path in (self.root / "data/sample").iterdir()),
                         ["docs.jsonl", "python3.11-doc.copyright", "sqlite3-doc.copyright"])
        (train,) = self.called("train_gpt")
        self.assertIn("--config configs/cpu_small.env --data-path data/datasets/sample_sp1024", train)
        self.calls.unlink()
        self.assert_good(self.quickstart("--rope-dims", "32", "--max-wallclock-seconds", "60"))
        self.assertEqual(self.called("apt-get") + self.called("prepare_data"), [])
        self.assertIn("--rope-dims 32 --max-wallclock-seconds 60", self.called("train_gpt")[0])

    def test_published_shards_are_preferred(self):
        for file in ("datasets/fineweb10B_sp1024/fineweb_train_000000.bin", "datasets/fineweb10B_sp1024/fineweb_val_000000.bin",
                     "tokenizers/fineweb_1024_bpe.model"):
            path = self.root / "data" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("x")
        self.assert_good(self.quickstart())
        self.assertEqual(self.called("apt-get") + self.called("prepare_data"), [])
        self.assertIn("--data-path data/datasets/fineweb10B_sp1024 --tokenizer-path data/tokenizers/fineweb_1024_bpe.model",
                      self.called("train_gpt")[0])

    def test_steps_are_fitted_unless_something_is_said_about_them(self):
        cases = [((), {}, True),
                 (("--max-wallclock-seconds", "60"), {}, True),
                 (("--max-wallclock-seconds=0.5", "--iterations", "40"), {"MAX_WALLCLOCK_SECONDS": ""}, True),
                 ((), {"MAX_WALLCLOCK_SECONDS": "60"}, True),
                 (("--min-steps", "50"), {}, False),
                 (("--iterations", "9", "--min-steps=0"), {}, False),
                 (("--train-batch-tokens", "4096"), {}, False),
                 (("--max-wallclock-seconds", "0", "--iterations", "40"), {}, False),
                 (("--max-wallclock-seconds=0.0",), {}, False),
                 ((), {"MIN_STEPS": "5"}, False),
                 ((), {"TRAIN_BATCH_TOKENS": "4096"}, False),
                 ((), {"MAX_WALLCLOCK_SECONDS": "0"}, False)]
        number = re.search(r"^min_steps=([0-9]+)$", (self.root / "scripts/quickstart.sh").read_text(), re.M)[1]
        usual = self.environment
        for arguments, environment, fitted in cases:
            with self.subTest(arguments=arguments, environment=environment):
                self.calls.unlink(missing_ok=True)
                self.environment = {**usual, **environment}
                self.assert_good(self.quickstart(*arguments))
                (train,) = self.called("train_gpt")
                self.assertEqual(f" --min-steps {number} " in train + " ", fitted, train)
                self.assertTrue(train.endswith(" ".join(arguments)), train)

    def test_failed_download_says_what_to_do(self):
        self.fake("apt-get", "exit 100")
        result = self.quickstart()
        self.assertEqual(result.returncode, 1)
        self.assertIn("docs.jsonl", result.stderr)
        self.assertIn("download_fineweb.sh", result.stderr)
        self.assertEqual(self.called("prepare_data"), [])

    def test_interrupted_tokenizing_is_done_anew(self):
        self.fake("prepare_data", PREPARE + '[ $command = tokenizer ] || [ ! -e "$HOME/fail" ]', self.root / "build/bin")
        (self.root / "data/sample").mkdir(parents=True)
        (self.root / "data/sample/docs.jsonl").write_text('{"text": "own text"}\n')
        (self.root / "data/tokenizers").mkdir()
        (self.root / "fail").touch()
        self.assertEqual(self.quickstart().returncode, 1)
        self.assertEqual(self.called("train_gpt"), [])
        (self.root / "fail").unlink()
        self.assert_good(self.quickstart())
        self.assertEqual(self.called("apt-get"), [])
        self.assertTrue((self.root / "data/datasets/sample_sp1024").is_dir())

    def test_failed_training_ends_it(self):
        self.fake("train_gpt", "exit 3", self.root / "build/bin")
        self.assertEqual(self.quickstart().returncode, 3)
        self.assertEqual(self.called("eval_gpt"), [])


if __name__ == "__main__":
    unittest.main()
