// The command line of sweep_gpt, with scripts in place of train_gpt and eval_gpt.
#include <algorithm>
#include <chrono>
#include <set>
#include <thread>

#include "pgolf/base/text.h"
#include "study_testing.h"
#include "support/program.h"

namespace pgolf::testing {
namespace {

constexpr const char* kTrain = R"(#!/bin/sh
dims=full
while [ $# -gt 0 ]; do
  case $1 in --out-dir) out=$2 ;; --run-id) id=$2 ;; --seed) seed=$2 ;; --rope-dims) dims=$2 ;; esac
  shift
done
trap 'echo "$id" >> "$NOTES.stopped"; exit 130' TERM INT
echo "$id $$ $CUDA_VISIBLE_DEVICES" >> "$NOTES"
if [ "$seed" = "$FAIL" ]; then
  printf 'error: it broke\n  try again\n' >&2
  exit 3
fi
while [ -n "$HOLD" ] && [ -e "$HOLD" ]; do sleep 0.02; done
mkdir -p "$out/$id"
printf 'SEED=%s\nROPE_DIMS=%s\nMAX_WALLCLOCK_SECONDS=0\n' "$seed" "$dims" > "$out/$id/config.env"
printf '{"kind":"val","step":1,"val_loss":3,"val_bpb":2}\n{"kind":"final"}\n' > "$out/$id/metrics.jsonl"
)";
constexpr size_t kLengths = 4;  // number of lengths that the script below measures, unless LENGTHS adds some
constexpr const char* kEval = R"(#!/bin/sh
[ "$1" = measure ] || exit 9
case $2 in *"$FAIL_MEASURE"*) [ -z "$FAIL_MEASURE" ] || { echo 'error: no such window'; exit 3; } ;; esac
echo "$*" >> "$NOTES.measured"
while [ $# -gt 1 ]; do [ "$1" != --output ] || out=$2; shift; done
for length in 512 1024 2048 4096 $LENGTHS; do echo '{"kind":"length","seq_len":'$length',"val_loss":3}'; done > "$out"
)";

class SweepGpt : public ::testing::Test {
 protected:
  SweepGpt() {
    for (const auto& [name, text] : {std::pair("train", kTrain), std::pair("eval", kEval)}) {
      write_file(folder_ / name, text);
      fs::permissions(folder_ / name, fs::perms::owner_all);
    }
  }
  /// own: arguments before --, in addition to the folder and the programs.
  std::vector<std::string> arguments(std::vector<std::string> own) const {
    own.insert(own.end(), {"--out-dir", out().string(), "--train-gpt", (folder_ / "train").string(), "--eval-gpt",
                           (folder_ / "eval").string(), "--", "--max-wallclock-seconds", "0"});
    return own;
  }
  Variables variables(Variables more = {}) const {
    more["NOTES"] = notes().string();
    return more;
  }
  ProgramResult sweep(const std::vector<std::string>& own, const Variables& more = {}) const {
    return run_program("sweep_gpt", arguments(own), variables(more));
  }
  fs::path out() const { return folder_ / "out"; }
  fs::path notes() const { return folder_ / "notes"; }
  /// Run ids, or the nth word of every start of train_gpt.
  std::vector<std::string> started(size_t word = 0) const {
    std::vector<std::string> words;
    if (!fs::exists(notes())) return words;
    for (const auto& line : split(read_text(notes()), '\n')) {
      if (!line.empty()) words.push_back(split(line, ' ').at(word));
    }
    return words;
  }
  void forget() const { fs::remove(notes()); }

  TempFolder folder_;
};

void expect_in(const ProgramResult& result, int code, const std::vector<std::string>& parts) {
  EXPECT_EQ(result.code, code) << result.out << result.err;
  for (const auto& part : parts)
    EXPECT_NE((result.out + result.err).find(part), std::string::npos) << part << " is not in: " << result.out << result.err;
}

const std::vector<std::string> kFour = {"--rope-dims", "none,full", "--seed", "1,2"};

TEST_F(SweepGpt, Help) {
  expect_in(run_program("sweep_gpt", {"--help"}), 0, {"--jobs", "--devices", "--only", "--list", "--collect", "--measure"});
}

TEST_F(SweepGpt, WrongUse) {
  const auto refuse = [&](const std::vector<std::string>& words, const std::vector<std::string>& parts) {
    expect_in(run_program("sweep_gpt", words), 2, parts);
  };
  refuse({}, {"nothing to sweep", "--rope-dims none,16,full"});
  refuse({"--", "--seed", "1"}, {"nothing to sweep"});
  refuse({"--rope-dim", "2"}, {"unknown flag --rope-dim", "did you mean --rope-dims?"});
  refuse({"--rope-dims", "2,,4"}, {"empty entry"});
  refuse({"--rope-dims", "15"}, {"ROPE_DIMS=15 is odd"});
  refuse({"--seed", "1..3", "configs/tiny.env"}, {"unexpected argument"});
  refuse({"--seed", "1", "--config", "x.env"}, {"unknown flag --config", "after --"});
  refuse({"--run-id", "a,b"}, {"sweep_gpt names the runs"});
  refuse({"--seed", "1", "--", "--seed", "2"}, {"--seed is given on both sides"});
  refuse({"--seed", "1", "--", "--jobs=2"}, {"--jobs is an option of sweep_gpt", "before --"});
  refuse({"--seed", "1", "--eval-seq-lens", "0.5x,two"}, {"EVAL_SEQ_LENS", "two"});
  refuse({"--collect", "x", "--seed", "1"}, {"--collect trains nothing"});
  expect_in(sweep({"--seed", "1,2", "--only", "2"}), 2, {"--only 2", "0 to 1"});
  expect_in(sweep({"--seed", "1,2", "--only", "x"}), 2, {"--only x"});
  expect_in(run_program("sweep_gpt", {"--seed", "1", "--train-gpt", "/absent"}), 7, {"no executable /absent", "--train-gpt"});
  expect_in(run_program("sweep_gpt",
                        {"--seed", "1", "--out-dir", "/proc/x", "--measure", "off", "--train-gpt", (folder_ / "train").string()}),
            6, {"/proc/x"});
  expect_in(run_program("sweep_gpt", {"--collect", folder_.path().string()}), 3, {"no runs in or below"});
  EXPECT_TRUE(started().empty());
}

TEST_F(SweepGpt, RunsMeasuresCollectsAndThenSkips) {
  expect_in(sweep(kFour), 0, {"4 runs in ", "[4/4] ", "4 runs of 2 arms"});
  EXPECT_EQ(started().size(), 4u);
  EXPECT_TRUE(fs::exists(out() / "sweep.csv"));
  EXPECT_TRUE(fs::exists(out() / "report.md"));
  const std::string csv = read_text(out() / "sweep.csv"), report = read_text(out() / "report.md");
  EXPECT_NE(report.find("sweep_gpt --rope-dims none,full --seed 1,2 "), std::string::npos) << "the command that repeats it";
  const auto measured = split(read_text(fs::path(notes().string() + ".measured")), '\n');
  ASSERT_EQ(measured.size(), 5u);
  EXPECT_NE(measured[0].find("--eval-seq-lens 0.5x,1x,2x,4x --output " + out().string()), std::string::npos) << measured[0];
  expect_in(sweep(kFour), 0, {"4 of 4 runs are already complete"});
  EXPECT_EQ(started().size(), 4u);
  EXPECT_EQ(read_text(out() / "sweep.csv"), csv);
  expect_in(sweep({"--rope-dims", "none,6,full", "--seed", "1,2"}), 0, {"4 of 6 runs are already complete", "6 runs of 3 arms"});
  EXPECT_EQ(started().size(), 6u) << "another call adds arms";
}

TEST_F(SweepGpt, MeasuresAgainWhenALengthIsNew) {
  const std::vector<std::string> two{"--rope-dims", "none,full", "--seed", "1"};
  auto longer = two;
  longer.insert(longer.end(), {"--eval-seq-lens", "1x,100"});
  const Variables also_100{{"LENGTHS", "100"}};
  const auto measured = [&] { return split(read_text(fs::path(notes().string() + ".measured")), '\n').size() - 1; };
  expect_in(sweep(two), 0, {"2 runs of 2 arms"});
  EXPECT_EQ(measured(), 2u);
  expect_in(sweep(longer, also_100), 0, {"2 runs of 2 arms"});
  EXPECT_EQ(measured(), 4u);
  expect_in(sweep(longer), 0, {"2 of 2 runs are already complete"});
  expect_in(sweep(two), 0, {"2 of 2 runs are already complete"});
  EXPECT_EQ(measured(), 4u) << "additional lengths are fine";
  EXPECT_EQ(started().size(), 2u) << "nothing was trained twice";
}

TEST_F(SweepGpt, ListAndOnlyAgree) {
  const auto list = sweep({"--rope-dims", "none,full", "--seed", "1,2", "--list"});
  ASSERT_EQ(list.code, 0) << list.err;
  EXPECT_TRUE(started().empty());
  EXPECT_FALSE(fs::exists(out()));
  const auto lines = split(list.out, '\n');
  ASSERT_EQ(lines.size(), 5u);
  for (int number = 0; number < 4; ++number) {
    const auto& line = lines[static_cast<size_t>(number)];
    EXPECT_TRUE(line.starts_with(std::to_string(number) + "\t")) << line;
    forget();
    auto words = kFour;
    words.insert(words.end(), {"--only", std::to_string(number)});
    expect_in(sweep(words), 0, {});
    ASSERT_EQ(started().size(), 1u);
    EXPECT_NE(line.find("--run-id " + started()[0] + " "), std::string::npos) << line;
    EXPECT_FALSE(fs::exists(out() / "sweep.csv")) << "others may be running";
  }
  expect_in(run_program("sweep_gpt", {"--collect", "--out-dir", out().string()}), 0, {"4 runs of 2 arms"});
  EXPECT_EQ(rows_of(read_text(out() / "sweep.csv")).size(), 1u + 4 * kLengths);
}

TEST_F(SweepGpt, AFailedRunDoesNotStopTheOthersAndIsRetried) {
  const auto result = sweep({"--rope-dims", "none,full", "--seed", "1,2,3"}, {{"FAIL", "2"}});
  expect_in(result, 3, {"rope_dims-none.seed-2-", "failed with exit code 3: error: it broke (log: ", "6 runs in "});
  EXPECT_EQ(started().size(), 6u);
  EXPECT_EQ(rows_of(read_text(out() / "sweep.csv")).size(), 1u + 4 * kLengths);
  forget();
  expect_in(sweep({"--rope-dims", "none,full", "--seed", "1,2,3"}), 0, {"4 of 6 runs are already complete"});
  EXPECT_EQ(started().size(), 2u);
  EXPECT_EQ(rows_of(read_text(out() / "sweep.csv")).size(), 1u + 6 * kLengths);
}

TEST_F(SweepGpt, AFailedMeasurementIsReportedAndRetried) {
  expect_in(sweep(kFour, {{"FAIL_MEASURE", "full.seed-1"}}), 3, {"measuring failed with exit code 3: error: no such window"});
  expect_in(sweep(kFour), 0, {"3 of 4 runs are already complete"});
  EXPECT_EQ(started().size(), 4u) << "nothing is trained again";
}

TEST_F(SweepGpt, WithoutMeasuring) {
  expect_in(sweep({"--seed", "1", "--measure", "off"}), 0, {});
  EXPECT_FALSE(fs::exists(notes().string() + ".measured"));
}

TEST_F(SweepGpt, ASignalIsForwardedAndTheSameCommandContinues) {
  write_file(folder_ / "hold", "");
  Program running("sweep_gpt", arguments({"--seed", "1..4", "--jobs", "2"}), variables({{"HOLD", (folder_ / "hold").string()}}));
  ASSERT_TRUE(running.wait_for([&] { return started().size() == 2; }));
  running.signal(SIGTERM);
  expect_in(running.wait(), 130, {"waiting for checkpoints", "run the same command to continue"});
  EXPECT_EQ(split(read_text(fs::path(notes().string() + ".stopped")), '\n').size(), 3u) << "both were signaled";
  EXPECT_EQ(started().size(), 2u) << "no other was started";
  expect_in(sweep({"--seed", "1..4"}), 0, {"[4/4]"});
}

TEST_F(SweepGpt, OnSighupTheRunsSave) {
  write_file(folder_ / "hold", "");
  Program running("sweep_gpt", arguments({"--seed", "1,2", "--jobs", "2"}), variables({{"HOLD", (folder_ / "hold").string()}}));
  ASSERT_TRUE(running.wait_for([&] { return started().size() == 2; }));
  running.signal(SIGHUP);
  EXPECT_EQ(running.wait().code, 130);
  EXPECT_EQ(split(read_text(fs::path(notes().string() + ".stopped")), '\n').size(), 3u) << "by SIGTERM, which train_gpt handles";
}

TEST_F(SweepGpt, TheReportNamesEnvironmentSettings) {
  ASSERT_EQ(sweep({"--seed", "1"}, {{"QK_GAIN_INIT", "2.5"}}).code, 0);
  EXPECT_NE(read_text(out() / "report.md").find("\nQK_GAIN_INIT=2.5 sweep_gpt --seed 1 "), std::string::npos)
      << read_text(out() / "report.md");
}

TEST_F(SweepGpt, NothingOutlivesAKilledSweepAndTheFolderIsFree) {
  write_file(folder_ / "hold", "");
  Program running("sweep_gpt", arguments({"--seed", "1..4", "--jobs", "2"}), variables({{"HOLD", (folder_ / "hold").string()}}));
  ASSERT_TRUE(running.wait_for([&] { return started().size() == 2; }));
  expect_in(sweep({"--seed", "5"}), 2, {"another sweep_gpt is running in"});
  running.signal(SIGKILL);
  EXPECT_EQ(running.wait().code, -SIGKILL);
  for (const auto& word : started(1)) {
    const auto gone = [&] { return ::kill(static_cast<pid_t>(std::stol(word)), 0) != 0; };
    for (int tries = 0; tries < 1000 && !gone(); ++tries) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    EXPECT_TRUE(gone());
  }
  fs::remove(folder_ / "hold");
  expect_in(sweep({"--seed", "1..4"}), 0, {"[4/4]"});
}

TEST_F(SweepGpt, AFolderThatCannotBeResumedIsRestarted) {
  ASSERT_EQ(sweep({"--seed", "1"}).code, 0);
  const fs::path run = out() / started().at(0);
  fs::remove(run / "metrics.jsonl");
  write_file(run / "final_model.pt", "");
  forget();
  ASSERT_EQ(sweep({"--seed", "1"}).code, 0);
  EXPECT_EQ(started().size(), 1u);
  EXPECT_FALSE(fs::exists(run / "final_model.pt")) << "that of the lost run is gone";
}

TEST_F(SweepGpt, DevicesAreAssignedInTurn) {
  expect_in(sweep({"--seed", "1..4", "--devices", "5,7"}), 0, {"2 at a time"});
  const auto devices = started(2);
  ASSERT_EQ(devices.size(), 4u);
  EXPECT_EQ(std::set<std::string>(devices.begin(), devices.end()), (std::set<std::string>{"5", "7"}));
}

TEST_F(SweepGpt, JobsShareTheCoresUnlessThreadsAreSet) {
  const auto list = [&](std::vector<std::string> own, const Variables& more = {}) {
    own.insert(own.end(), {"--list", "--seed", "1,2"});
    return sweep(own, more).out;
  };
  const auto sets_threads = [](const std::string& text) { return text.find("--num-threads ") != std::string::npos; };
  EXPECT_FALSE(sets_threads(list({})));
  EXPECT_NE(list({"--jobs", "1000"}).find("--num-threads 1 "), std::string::npos);
  EXPECT_FALSE(sets_threads(list({"--jobs", "2"}, {{"NUM_THREADS", "1"}})));
  EXPECT_FALSE(sets_threads(list({"--jobs", "2", "--devices", "0,1"})));
  EXPECT_NE(list({"--jobs", "2", "--num-threads", "3"}).find("--num-threads 3 "), std::string::npos);
  // Fixed options may be valid only with the varied ones.
  const auto mixed = run_program("sweep_gpt", {"--list", "--jobs", "2", "--train-gpt", (folder_ / "train").string(), "--eval-gpt",
                                               (folder_ / "eval").string(), "--rope-scaling-factor", "2,4", "--",
                                               "--rope-scaling", "linear", "--max-wallclock-seconds", "0"});
  EXPECT_EQ(mixed.code, 0) << mixed.err;
}

}  // namespace
}  // namespace pgolf::testing
