// The command line of prepare_data.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdio>

#include "data/fixtures.h"

namespace pgolf {
namespace {

using testing::TempFolder;

struct Result {
  int code = -1;
  std::string output;  // both streams
};

Result run(const std::string& arguments) {
  const std::string command = std::string(PGOLF_BIN_DIR) + "/prepare_data " + arguments + " 2>&1";
  Result result;
  FILE* pipe = ::popen(command.c_str(), "r");
  if (pipe == nullptr) return result;
  char buffer[4096];
  for (size_t n; (n = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;) result.output.append(buffer, n);
  const int status = ::pclose(pipe);
  if (WIFEXITED(status)) result.code = WEXITSTATUS(status);
  return result;
}

void expect_run(const std::string& arguments, int code, const std::vector<std::string>& parts) {
  const Result result = run(arguments);
  EXPECT_EQ(result.code, code) << arguments << "\n" << result.output;
  for (const auto& part : parts)
    EXPECT_NE(result.output.find(part), std::string::npos) << part << " is not in: " << result.output;
}

TEST(PrepareData, Help) {
  expect_run("--help", 0, {"tokenizer", "tokenize", "verify", "inspect"});
  expect_run("tokenizer --help", 0, {"--input", "--vocab-size", "1024", "--output", "--normalization"});
  expect_run("tokenize --help", 0, {"--input", "--val-docs", "--val-fraction", "--shard-tokens", "--force", "--byte-count"});
  expect_run("verify --help", 0, {"--path", "--tokenizer-path", "--byte-count"});
  expect_run("inspect --help", 0, {"--offset", "--tokens"});
}

TEST(PrepareData, UsageErrors) {
  expect_run("", 2, {"needs a command"});
  expect_run("tokenise", 2, {"no command \"tokenise\"", "did you mean tokenize?"});
  expect_run("frobnicate", 2, {"no command", "--help"});
  expect_run("tokenize --imput x", 2, {"unknown flag --imput", "did you mean --input?"});
  expect_run("tokenize --imput=x", 2, {"unknown flag --imput", "did you mean --input?"});
  expect_run("verify -x", 2, {"error: "});
  expect_run("tokenize --input x --out-dir y", 2, {"--tokenizer-path is required"});
  expect_run("tokenizer --output x.model", 2, {"needs --input"});
  expect_run("verify", 2, {"needs --path"});
  expect_run("inspect a b --tokenizer-path c", 2, {"takes one shard, not 2"});
  const std::string complete = "tokenize --input x --tokenizer-path y --out-dir z ";
  expect_run(complete + "--val-docs 3 --val-fraction 0.5", 2, {"mutually exclusive"});
  expect_run(complete + "--val-docs", 2, {"val-docs"});
  expect_run(complete + "--val-docs 3x", 2, {"VAL_DOCS='3x' (flag --val-docs) is not an integer >= 0"});
  expect_run(complete + "--val-docs -1", 2, {"VAL_DOCS='-1'", "is not an integer >= 0"});
  expect_run(complete + "--val-fraction nan", 2, {"VAL_FRACTION='nan' (flag --val-fraction) is not a number"});
  expect_run(complete + "--val-fraction 1.5", 2, {"VAL_FRACTION='1.5'", "it must be 0 <= x <= 1"});
  for (const std::string& large : {std::string("1e30"), std::string("9223372036854775808")})
    expect_run(complete + "--val-docs " + large, 2, {"VAL_DOCS='" + large + "'", "an integer from 0 to 9223372036854775807"});
  expect_run(complete + "--shard-tokens 0", 2, {"--shard-tokens"});
  expect_run(complete + "--shard-tokens 99999999999999999999", 2, {"--shard-tokens"});
}

TEST(PrepareData, PathsMayFollowFlagsOrBePositional) {
  for (const char* paths : {"a b", "--path a b", "a --path b", "--path=a --path b"}) {
    expect_run(std::string("inspect --tokenizer-path c ") + paths, 2, {"takes one shard, not 2"});
  }
  expect_run("tokenize --force absent_a --out-dir z --tokenizer-path absent.model", 3, {"tokenizer absent.model does not exist"});
}

TEST(PrepareData, MissingFiles) {
  expect_run("tokenize --input x --tokenizer-path absent.model --out-dir z", 3, {"tokenizer absent.model does not exist"});
  expect_run("verify absent.bin", 3, {"BAD", "absent.bin", "1 of 1"});
  expect_run("tokenizer --input absent.txt --output x.model", 3, {"no such input: absent.txt"});
}

TEST(PrepareData, FromTextToShardsAndBack) {
  TempFolder folder;
  const std::string root = folder.path().string();
  testing::write_jsonl(folder / "a,b.jsonl", testing::sample_documents(60));
  testing::write_file(folder / "more/c.txt", testing::sample_text(999, 50));
  const std::string inputs = "--input '" + root + "/a,b.jsonl' " + root + "/more";
  const Result trained = run("tokenizer " + inputs + " --vocab-size 350 --output " + root + "/tok/t.model");
  ASSERT_EQ(trained.code, 0) << trained.output;
  EXPECT_EQ(trained.output.find("LOG("), std::string::npos) << "SentencePiece must be quiet: " << trained.output;
  expect_run("tokenize " + inputs + " --tokenizer-path " + root + "/tok/t.model --out-dir " + root + "/out --val-docs 5", 0,
             {"MB/s", "tokens/s", "documents:56", "documents:5 "});
  expect_run("verify " + root + "/out --tokenizer-path " + root + "/tok/t.model", 0,
             {"total files:2", "documents:61", "bytes:", "sha256:"});
  expect_run("inspect " + root + "/out/fineweb_val_000000.bin --tokenizer-path " + root + "/tok/t.model", 0,
             {"document 1] " + testing::sample_text(0, 20)});
  expect_run("tokenize " + inputs + " --tokenizer-path " + root + "/tok/t.model --out-dir " + root + "/out", 2,
             {"already has shards"});
  expect_run("tokenize " + inputs + " --tokenizer-path " + root + "/tok/t.model --out-dir " + root + "/a,b.jsonl/x", 6,
             {"cannot create the folder"});
}

}  // namespace
}  // namespace pgolf
