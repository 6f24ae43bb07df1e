#include "pgolf/prepare/prepare.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <map>

#include "data/fixtures.h"
#include "pgolf/data/document_index.h"
#include "pgolf/data/shard.h"
#include "pgolf/data/tokenizer.h"

namespace pgolf {
namespace {

namespace fs = std::filesystem;
using testing::expect_error;
using testing::TempFolder;

constexpr int kBosId = 1;  // of the tokenizers here

std::vector<uint16_t> shard_tokens(const fs::path& path) {
  const Shard shard(path);
  return {shard.tokens().begin(), shard.tokens().end()};
}

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

/// The shards' documents, decoded.
std::vector<std::string> decoded_documents(const std::vector<uint16_t>& tokens, const Tokenizer& tokenizer) {
  std::vector<std::string> texts;
  auto starts = document_starts(tokens, kBosId);
  starts.push_back(static_cast<int64_t>(tokens.size()));
  for (size_t i = 0; i + 1 < starts.size(); ++i) {
    texts.push_back(tokenizer.decode({tokens.begin() + starts[i] + 1, tokens.begin() + starts[i + 1]}));
  }
  return texts;
}

class Prepare : public ::testing::Test {
 protected:
  void SetUp() override {
    options.tokenizer_path = testing::train_small_tokenizer(folder);
    options.inputs = {folder / "docs.jsonl"};
    options.out_dir = folder / "out";
    options.val_docs = 3;
    testing::write_jsonl(options.inputs.front(), texts);
  }

  fs::path out(const std::string& name) const { return options.out_dir / name; }

  TempFolder folder;
  TokenizeOptions options;
  std::vector<std::string> texts = testing::sample_documents(40);
};

TEST_F(Prepare, FirstDocumentsAreValidationAndAllRoundTrip) {
  tokenize(options);
  EXPECT_EQ(names_in(options.out_dir),
            (std::vector<std::string>{"fineweb_train_000000.bin", "fineweb_val_000000.bin", "shards.json"}));
  const Tokenizer tokenizer(options.tokenizer_path);
  EXPECT_EQ(decoded_documents(shard_tokens(out("fineweb_val_000000.bin")), tokenizer),
            (std::vector<std::string>{texts.begin(), texts.begin() + 3}));
  EXPECT_EQ(decoded_documents(shard_tokens(out("fineweb_train_000000.bin")), tokenizer),
            (std::vector<std::string>{texts.begin() + 3, texts.end()}));
  verify_shards({options.out_dir}, options.tokenizer_path);
}

TEST_F(Prepare, ShardsAreFullAndContinuous) {
  tokenize(options);
  const auto whole = shard_tokens(out("fineweb_train_000000.bin"));
  options.shard_tokens = 100;
  options.force = true;
  tokenize(options);
  std::vector<uint16_t> joined;
  const size_t count = (whole.size() + 99) / 100;
  for (size_t i = 0; i < count; ++i) {
    const auto part = shard_tokens(out(format("fineweb_train_%06zu.bin", i)));
    EXPECT_EQ(part.size(), std::min<size_t>(100, whole.size() - 100 * i));
    joined.insert(joined.end(), part.begin(), part.end());
  }
  EXPECT_EQ(joined, whole);
  EXPECT_FALSE(fs::exists(out(format("fineweb_train_%06zu.bin", count))));

  options.shard_tokens = static_cast<int64_t>(whole.size());
  tokenize(options);
  EXPECT_EQ(names_in(options.out_dir).size(), 3u) << "an exactly full shard is the last, and the old shards are gone";
}

TEST_F(Prepare, ThreadsDoNotChangeTheResult) {
  options.threads = 1;
  tokenize(options);
  const auto one = shard_tokens(out("fineweb_train_000000.bin"));
  options.threads = 5;
  options.force = true;
  tokenize(options);
  EXPECT_EQ(shard_tokens(out("fineweb_train_000000.bin")), one);
}

TEST_F(Prepare, FractionSplitDependsOnTheTextAlone) {
  const Tokenizer tokenizer(options.tokenizer_path);
  options.val_docs.reset();
  options.val_fraction = 0.3;
  const auto split_of = [&](const std::vector<std::string>& documents) {
    testing::write_jsonl(options.inputs.front(), documents);
    options.force = true;
    tokenize(options);
    std::map<std::string, bool> is_val;
    for (const auto& text : decoded_documents(shard_tokens(out("fineweb_val_000000.bin")), tokenizer)) is_val[text] = true;
    for (const auto& text : decoded_documents(shard_tokens(out("fineweb_train_000000.bin")), tokenizer)) is_val[text] = false;
    EXPECT_EQ(is_val.size(), documents.size());
    return is_val;
  };
  const auto few = split_of(texts);
  auto more_texts = testing::sample_documents(120);
  std::reverse(more_texts.begin(), more_texts.end());
  const auto more = split_of(more_texts);
  for (const auto& [text, is_val] : few) EXPECT_EQ(more.at(text), is_val) << text;
  const auto val = std::count_if(more.begin(), more.end(), [](const auto& item) { return item.second; });
  EXPECT_GT(val, 15);
  EXPECT_LT(val, 60);
}

TEST_F(Prepare, NoValidationOnRequest) {
  options.val_docs = 0;
  tokenize(options);
  EXPECT_EQ(names_in(options.out_dir), (std::vector<std::string>{"fineweb_train_000000.bin", "shards.json"}));
  options.val_docs.reset();
  options.val_fraction = 0.0;
  options.force = true;
  tokenize(options);
  EXPECT_EQ(names_in(options.out_dir), (std::vector<std::string>{"fineweb_train_000000.bin", "shards.json"}));
}

TEST_F(Prepare, ImpossibleSplits) {
  options.val_docs = 41;
  expect_error(ExitCode::bad_input, {"41 documents", "only 40"}, [&] { tokenize(options); });
  options.val_docs.reset();
  for (const double fraction : {1e-9, 1.0}) {
    options.val_fraction = fraction;
    expect_error(ExitCode::bad_input, {"--val-fraction", "none of 40 documents"}, [&] { tokenize(options); });
  }
  EXPECT_FALSE(fs::exists(options.out_dir)) << "nothing is left of a failure";
  fs::create_directories(folder / "theirs");
  for (const char* name : {"theirs", "theirs/a/b", "theirs/a/b/"}) {
    options.out_dir = folder / name;
    expect_error(ExitCode::bad_input, {"--val-fraction"}, [&] { tokenize(options); });
    EXPECT_TRUE(fs::is_empty(folder / "theirs")) << "what was there before stays, what was made does not";
  }
}

TEST_F(Prepare, VerifyNamesWhatIsNoShard) {
  tokenize(options);
  fs::create_directories(out("fineweb_train_000001.bin"));
  ASSERT_EQ(::mkfifo(out("fineweb_train_000002.bin").c_str(), 0600), 0);
  fs::create_symlink("nowhere", out("fineweb_train_000003.bin"));
  fs::create_symlink("/dev/null", out("fineweb_train_000004.bin"));
  ::testing::internal::CaptureStdout();
  expect_error(ExitCode::bad_input, {"4 of 6 files are bad"}, [&] { verify_shards({options.out_dir}, {}); });
  const std::string output = ::testing::internal::GetCapturedStdout();
  const char* kinds[] = {"a folder", "a pipe", "a link to nothing", "a device"};
  for (size_t i = 0; i < std::size(kinds); ++i) {
    const std::string line = "BAD " + out(format("fineweb_train_%06zu.bin", i + 1)).string();
    EXPECT_NE(output.find(line + " is not a regular file: it is " + kinds[i]), std::string::npos) << output;
    // Training finds them, too.
    expect_error(ExitCode::bad_input, {kinds[i]}, [&] {
      for (const auto& file : find_shards(out(format("fineweb_train_%06zu.*", i + 1)).string())) Shard shard(file);
    });
  }
}

TEST_F(Prepare, VerifyCountsAShardOnce) {
  tokenize(options);
  fs::create_hard_link(out("fineweb_train_000000.bin"), out("fineweb_train_000001.bin"));
  ::testing::internal::CaptureStdout();
  ::testing::internal::CaptureStderr();
  verify_shards({options.out_dir, out("fineweb_val_000000.bin")}, {});
  EXPECT_NE(::testing::internal::GetCapturedStdout().find("total files:2 "), std::string::npos);
  EXPECT_NE(::testing::internal::GetCapturedStderr().find("2 files are given again, and read only once: "), std::string::npos);
}

TEST_F(Prepare, ExistingShardsAreKeptUnlessForced) {
  tokenize(options);
  const auto before = shard_tokens(out("fineweb_train_000000.bin"));
  expect_error(ExitCode::usage, {"already has shards", "--force"}, [&] { tokenize(options); });

  std::ofstream(options.inputs.front(), std::ios::app) << "{broken\n";
  options.force = true;
  expect_error(ExitCode::bad_input, {"docs.jsonl:41"}, [&] { tokenize(options); });
  EXPECT_EQ(names_in(options.out_dir),
            (std::vector<std::string>{"fineweb_train_000000.bin", "fineweb_val_000000.bin", "shards.json"}));
  EXPECT_EQ(shard_tokens(out("fineweb_train_000000.bin")), before);
}

TEST_F(Prepare, LeftoversOfAKilledRunAreRemoved) {
  testing::write_file(out(".prepare_data.partial/fineweb_train_000007.bin"), "half");
  tokenize(options);
  EXPECT_EQ(names_in(options.out_dir),
            (std::vector<std::string>{"fineweb_train_000000.bin", "fineweb_val_000000.bin", "shards.json"}));
}

TEST_F(Prepare, AFolderWhoseShardsWereBeingReplacedIsRefused) {
  tokenize(options);
  const auto whole = shard_tokens(out("fineweb_train_000000.bin"));
  // Killed between two renames.
  const fs::path partial = out(".prepare_data.partial");
  fs::create_directories(partial);
  fs::rename(out("fineweb_val_000000.bin"), partial / "fineweb_val_000000.bin");
  fs::rename(out("shards.json"), partial / "shards.json");
  const std::vector<std::string> said{options.out_dir.string(), "may be missing", "--force"};
  expect_error(ExitCode::bad_input, said, [&] { find_shards(out("fineweb_train_*.bin")); });
  expect_error(ExitCode::bad_input, said, [&] { verify_shards({options.out_dir}, {}); });
  options.force = true;
  tokenize(options);
  EXPECT_EQ(find_shards(out("fineweb_*.bin")).size(), 2u);
  EXPECT_EQ(shard_tokens(out("fineweb_train_000000.bin")), whole);

  // Killed before the first: what was there is whole, and what is not done is not verified.
  fs::create_directories(partial);
  testing::write_file(partial / "fineweb_train_000000.bin", "half");
  EXPECT_EQ(find_shards(out("fineweb_*.bin")).size(), 2u);
  verify_shards({options.out_dir}, {});
}

TEST_F(Prepare, EmptyDocumentsAreABos) {
  testing::write_jsonl(options.inputs.front(), {"", "the river", ""});
  options.val_docs = 0;
  tokenize(options);
  const auto tokens = shard_tokens(out("fineweb_train_000000.bin"));
  EXPECT_EQ(document_starts(tokens, kBosId).size(), 3u);
  EXPECT_EQ(tokens[1], 1);
  EXPECT_EQ(tokens.back(), 1);
}

TEST_F(Prepare, VerifyChecksAllFilesBeforeItFails) {
  tokenize(options);
  testing::write_file(out("broken.bin"), "x");
  ::testing::internal::CaptureStdout();
  expect_error(ExitCode::bad_input, {"1 of 3 files are bad"}, [&] { verify_shards({options.out_dir}, {}); });
  const std::string output = ::testing::internal::GetCapturedStdout();
  EXPECT_NE(output.find("BAD "), std::string::npos);
  EXPECT_NE(output.find("fineweb_val_000000.bin tokens:"), std::string::npos);
  EXPECT_NE(output.find("total files:2 "), std::string::npos);
  EXPECT_NE(output.find(" documents:40 "), std::string::npos);

  fs::create_directories(folder / "empty");
  expect_error(ExitCode::bad_input, {"no .bin file", "empty"}, [&] { verify_shards({folder / "empty"}, {}); });
}

TEST_F(Prepare, VerifyCountsBytesAndFindsForeignIds) {
  options.val_docs = 0;
  tokenize(options);
  size_t bytes = 0;
  for (const auto& text : texts) bytes += text.size();
  ::testing::internal::CaptureStdout();
  verify_shards({out("fineweb_train_000000.bin")}, options.tokenizer_path);
  EXPECT_NE(::testing::internal::GetCapturedStdout().find("bytes:" + with_commas(static_cast<int64_t>(bytes)) + " "),
            std::string::npos);

  testing::write_file(out("foreign.bin"), testing::shard_bytes({1, 360}));
  ::testing::internal::CaptureStdout();
  expect_error(ExitCode::bad_input, {"1 of 1"}, [&] { verify_shards({out("foreign.bin")}, options.tokenizer_path); });
  EXPECT_NE(::testing::internal::GetCapturedStdout().find("token 1 has id 360"), std::string::npos);
}

TEST_F(Prepare, InspectShowsDocuments) {
  testing::write_jsonl(options.inputs.front(), {"the river", "a garden"});
  options.val_docs = 0;
  tokenize(options);
  const auto shard = out("fineweb_train_000000.bin");
  const auto size = static_cast<int64_t>(shard_tokens(shard).size());
  const auto output_of = [&](int64_t offset, int64_t count) {
    ::testing::internal::CaptureStdout();
    inspect_shard(shard, options.tokenizer_path, offset, count);
    return ::testing::internal::GetCapturedStdout();
  };
  const auto second = document_starts(shard_tokens(shard), kBosId)[1];
  const std::string all = output_of(0, 1000);
  EXPECT_NE(all.find("version 1, " + std::to_string(size) + " tokens, 2 documents"), std::string::npos) << all;
  EXPECT_NE(all.find("[token 0, document 1] the river\n"), std::string::npos) << all;
  EXPECT_NE(all.find(format("[token %d, document 2] a garden\n", static_cast<int>(second))), std::string::npos) << all;
  EXPECT_EQ(output_of(second, 1000).find("river"), std::string::npos);
  EXPECT_EQ(output_of(0, second).find("garden"), std::string::npos);
  expect_error(ExitCode::usage, {"--offset"}, [&] { inspect_shard(shard, options.tokenizer_path, size, 1); });
}

TEST(TrainTokenizer, IsDeterministicAndListsItsPieces) {
  TempFolder a, b;
  const auto first = testing::train_small_tokenizer(a);
  EXPECT_EQ(testing::read_file(first), testing::read_file(testing::train_small_tokenizer(b)));
  const std::string vocab = testing::read_file(a / "small.vocab");
  EXPECT_EQ(std::count(vocab.begin(), vocab.end(), '\n'), 360);
  EXPECT_EQ(vocab.rfind("<pad>\t0\n<s>\t0\n</s>\t0\n<unk>\t0\n<0x00>\t0\n", 0), 0u);
}

TEST(TrainTokenizer, ReportsInsufficientText) {
  TempFolder folder;
  testing::write_jsonl(folder / "docs.jsonl", testing::sample_documents(50));
  TrainTokenizerOptions options;
  options.inputs = {folder / "docs.jsonl"};
  options.output = folder / "x.model";
  options.vocab_size = 100;
  expect_error(ExitCode::bad_input, {"100", "256 bytes"}, [&] { train_tokenizer(options); });
  options.vocab_size = 60'000;
  expect_error(ExitCode::bad_input, {"pieces, not 60000", "--vocab-size"}, [&] { train_tokenizer(options); });
  options.vocab_size = 360;
  options.output = folder / "x.bin";
  expect_error(ExitCode::usage, {".model", "x.bin"}, [&] { train_tokenizer(options); });
  options.output = folder / "x.model";
  testing::write_file(folder / "docs.jsonl", "{\"text\": \"ok\"}\nbroken\n");
  expect_error(ExitCode::bad_input, {"docs.jsonl:2"}, [&] { train_tokenizer(options); });
  EXPECT_EQ(names_in(folder.path()), std::vector<std::string>{"docs.jsonl"});
}

TEST(TrainTokenizer, LongDocumentsAreLeftOutOrSplit) {
  TempFolder folder;
  testing::write_file(folder / "long.txt", testing::sample_text(1, 5000));
  TrainTokenizerOptions options;
  options.inputs = {folder / "long.txt"};
  options.output = folder / "x.model";
  options.vocab_size = 330;
  expect_error(ExitCode::bad_input, {"longer than 4192", "--split-long"}, [&] { train_tokenizer(options); });
  options.split_long = true;
  train_tokenizer(options);
  EXPECT_EQ(Tokenizer(options.output).vocab_size(), 330);

  std::string unbroken;  // no space to cut at, and no character boundary at the limit
  for (int i = 0; i < 3000; ++i) unbroken += i % 2 == 0 ? "\xe2\x82\xac" : "\xc3\xa9";
  testing::write_file(folder / "long.txt", "z" + unbroken);
  options.vocab_size = 263;
  train_tokenizer(options);
  EXPECT_NE(testing::read_file(folder / "x.vocab").find("\xe2\x82\xac"), std::string::npos);
  EXPECT_EQ(testing::read_file(folder / "x.vocab").find("\xef\xbf\xbd"), std::string::npos) << "a character was cut in two";
}

TEST(TrainTokenizer, MaxDocsReadsNoFurther) {
  TempFolder folder;
  auto texts = testing::sample_documents(60);
  testing::write_jsonl(folder / "first.jsonl", texts);
  testing::write_jsonl(folder / "second.jsonl", texts);
  std::ofstream(folder / "second.jsonl", std::ios::app) << "broken\n";
  TrainTokenizerOptions options;
  options.vocab_size = 340;
  options.inputs = {folder / "first.jsonl"};
  options.output = folder / "all.model";
  train_tokenizer(options);
  options.inputs = {folder / "second.jsonl"};
  options.output = folder / "limited.model";
  options.max_docs = 60;
  train_tokenizer(options);
  EXPECT_EQ(testing::read_file(folder / "all.model"), testing::read_file(folder / "limited.model"));
}

TEST(PrepareReference, ReproducesThePublishedShards) {
  PGOLF_SKIP_WITHOUT_SHARED();
  const auto fineweb = testing::shared_folder() / "fineweb";
  TempFolder folder;
  TokenizeOptions options;
  options.tokenizer_path = fineweb / "tokenizers/fineweb_1024_bpe.model";
  options.out_dir = folder / "out";
  options.inputs = {fineweb / "text/train_head_docs.jsonl"};
  options.val_docs = 0;
  tokenize(options);
  EXPECT_TRUE(testing::read_file(folder / "out/fineweb_train_000000.bin") ==
              testing::read_file(fineweb / "sp1024/fineweb_train_head.bin"));

  // The head of the validation split ends inside its 902nd document; the text has the 901 complete ones.
  options.inputs = {fineweb / "text/val_head_docs.jsonl"};
  options.val_docs = 901;
  options.force = true;
  tokenize(options);
  const auto written = shard_tokens(folder / "out/fineweb_val_000000.bin");
  const auto published = shard_tokens(fineweb / "sp1024/fineweb_val_head.bin");
  const auto starts = document_starts(published, kBosId);
  ASSERT_EQ(starts.size(), 902u);
  ASSERT_EQ(static_cast<int64_t>(written.size()), starts.back());
  EXPECT_TRUE(std::equal(written.begin(), written.end(), published.begin()));
}

}  // namespace
}  // namespace pgolf
