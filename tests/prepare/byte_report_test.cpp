// The bytes that tokens count against those of the text, and what is said about tokenizers that do not fit the shards.
#include "pgolf/prepare/byte_report.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>

#include "data/fixtures.h"
#include "pgolf/data/shard.h"
#include "pgolf/data/shard_manifest.h"
#include "support/tokenizers.h"

namespace pgolf {
namespace {

namespace fs = std::filesystem;
using testing::expect_error;
using testing::normalized_texts;
using testing::SentencePieceOptions;
using testing::TempFolder;
using testing::train_sentencepiece;

void expect_parts(const std::string& text, const std::vector<std::string>& parts) {
  for (const auto& part : parts) EXPECT_NE(text.find(part), std::string::npos) << "\"" << part << "\" is not in: " << text;
}

/// What body prints on standard error, and on standard output.
std::pair<std::string, std::string> output_of(const std::function<void()>& body) {
  ::testing::internal::CaptureStderr();
  ::testing::internal::CaptureStdout();
  std::string failure;
  try {
    body();
  } catch (const Error& e) {
    failure = e.what();
  }
  EXPECT_EQ(failure, "");
  return {::testing::internal::GetCapturedStderr(), ::testing::internal::GetCapturedStdout()};
}

std::string errors_of(const std::function<void()>& body) {
  return output_of(body).first;
}

int64_t bytes_of(const std::vector<std::string>& texts) {
  int64_t bytes = 0;
  for (const auto& text : texts) bytes += static_cast<int64_t>(text.size());
  return bytes;
}

class ByteReport : public ::testing::Test {
 protected:
  void SetUp() override {
    write(texts);
    options.inputs = {folder / "docs.jsonl"};
    options.tokenizer_path = folder / "t.model";
    options.out_dir = folder / "out";
    options.val_docs = 3;
    options.force = true;
  }
  void write(const std::vector<std::string>& documents) {
    std::string lines;
    for (const auto& text : documents) lines += nlohmann::json{{"text", text}}.dump() + "\n";
    testing::write_file(folder / "docs.jsonl", lines);
  }
  void use(const std::string& model) const { testing::write_file(folder / "t.model", model); }
  std::string verified(ByteCounting counting = ByteCounting::rule) const {
    ::testing::internal::CaptureStdout();
    verify_shards({options.out_dir}, options.tokenizer_path, counting);
    const std::string all = ::testing::internal::GetCapturedStdout();
    return all.substr(all.find("total files"));
  }
  std::string true_bytes() const { return "bytes:" + with_commas(bytes_of(texts)) + " "; }

  TempFolder folder;
  TokenizeOptions options;
  std::vector<std::string> texts = normalized_texts(2, 60);
};

TEST_F(ByteReport, IsSilentWhereTheRuleIsRight) {
  use(train_sentencepiece(texts));
  EXPECT_EQ(errors_of([&] { tokenize(options); }), "");
  expect_parts(verified(), {true_bytes()});
  EXPECT_EQ(errors_of([&] { verify_shards({options.out_dir}, options.tokenizer_path); }), "");
}

TEST_F(ByteReport, WarnsOfASmallDifference) {
  const std::string model = train_sentencepiece(texts, {{"split_by_whitespace", "false"}, {"vocab_size", "345"}});
  use(model);
  const std::string total = with_commas(bytes_of(texts));
  const std::string warning = errors_of([&] { tokenize(options); });
  expect_parts(warning, {"warning: ", "t.model", "the text has " + total, "go across a space", "--byte-count decoded"});
  EXPECT_EQ(verified().find(true_bytes()), std::string::npos) << "upstream's rule stays the default";
  expect_parts(errors_of([&] { verify_shards({options.out_dir}, options.tokenizer_path); }), {"warning: ", "that have " + total});

  options.byte_counting = ByteCounting::decoded;
  EXPECT_EQ(errors_of([&] { tokenize(options); }), "");
  expect_parts(verified(ByteCounting::decoded), {true_bytes()});
}

TEST_F(ByteReport, FailsWhereTheCountIsPlainlyWrong) {
  use(train_sentencepiece(texts, {{"treat_whitespace_as_suffix", "true"}}));
  expect_error(
      ExitCode::bad_input,
      {"t.model: the tokens count", "but the text has " + with_commas(bytes_of(texts)), "end in a space", "--byte-count decoded"},
      [&] { tokenize(options); });
  EXPECT_FALSE(fs::exists(options.out_dir)) << "made for nothing";
  options.byte_counting = ByteCounting::decoded;
  EXPECT_EQ(errors_of([&] { tokenize(options); }), "");
  expect_parts(verified(ByteCounting::decoded), {true_bytes()});
}

TEST_F(ByteReport, ALoneSpaceThatIsMissing) {
  // Few pieces, so that most spaces are not part of a word's.
  use(testing::without_lone_space(train_sentencepiece(texts, {{"add_dummy_prefix", "false"}, {"vocab_size", "305"}})));
  expect_error(ExitCode::bad_input, {"no piece is a lone space", "the text has " + with_commas(bytes_of(texts))},
               [&] { tokenize(options); });
  options.byte_counting = ByteCounting::decoded;
  EXPECT_EQ(errors_of([&] { tokenize(options); }), "");
  expect_parts(verified(ByteCounting::decoded), {true_bytes()});
}

TEST_F(ByteReport, UnknownCharactersCountNothing) {
  use(train_sentencepiece(texts, {{"byte_fallback", "false"}, {"vocab_size", "100"}}));
  EXPECT_EQ(errors_of([&] { tokenize(options); }), "") << "all characters have pieces";
  auto documents = texts;
  documents[0] += "\u8fdc\u8fd9";
  write(documents);
  expect_parts(errors_of([&] { tokenize(options); }), {"warning: ", "6 bytes of unknown characters count 0", "byte fallback"});
  expect_parts(errors_of([&] { verify_shards({options.out_dir}, options.tokenizer_path); }), {"no byte fallback: 1 of"});
  for (auto& text : documents) text += "\u8fdc\u8fd9\u8fdc\u8fd9\u8fdc\u8fd9\u8fdc\u8fd9";
  write(documents);
  for (const auto counting : {ByteCounting::rule, ByteCounting::decoded}) {
    options.byte_counting = counting;
    expect_error(ExitCode::bad_input, {"unknown characters count 0", "byte fallback"}, [&] { tokenize(options); });
  }
}

TEST_F(ByteReport, RunsOfSpacesDoNotHideASpaceThatIsMissing) {
  // Three spaces become one, which three byte pieces spell, which count 3.
  use(testing::without_lone_space(train_sentencepiece(texts, {{"add_dummy_prefix", "false"}, {"vocab_size", "305"}})));
  const Tokenizer tokenizer(options.tokenizer_path);
  std::vector<std::string> documents;
  for (int i = 0; i < 60; ++i) {
    std::string text;
    for (const char* word : {"a", "b", "c", "d"}) text += (text.empty() ? "" : "   ") + std::string(word);
    documents.push_back(text);
  }
  write(documents);
  const ByteCounts rule(tokenizer, tokenizer.vocab_size());
  std::vector<uint16_t> stream{1};
  for (const int id : tokenizer.encode(documents[0])) stream.push_back(static_cast<uint16_t>(id));
  ASSERT_EQ(rule.count(stream), static_cast<int64_t>(documents[0].size()));
  expect_error(ExitCode::bad_input, {"has as many, but only because errors cancel", "no piece is a lone space", "wrong by 360 "},
               [&] { tokenize(options); });
  options.byte_counting = ByteCounting::decoded;
  expect_parts(errors_of([&] { tokenize(options); }), {"warning: ", "changes documents by 360 in all"});
}

TEST_F(ByteReport, UnknownCharactersDoNotHideWrongSpaces) {
  use(train_sentencepiece(texts, {{"byte_fallback", "false"}, {"vocab_size", "100"}, {"treat_whitespace_as_suffix", "true"}}));
  const auto report = [&](const std::vector<std::string>& documents) {
    write(documents);
    return expect_error(ExitCode::bad_input, {"unknown characters count 0", "end in a space"}, [&] { tokenize(options); });
  };
  // As many bytes of unknown characters as the spaces count too much, 2 each.
  std::vector<std::string> documents;
  const Tokenizer tokenizer(options.tokenizer_path);
  const ByteCounts rule(tokenizer, tokenizer.vocab_size());
  for (const auto& text : texts) {
    std::vector<uint16_t> stream{static_cast<uint16_t>(tokenizer.bos_id())};
    for (const int id : tokenizer.encode(text)) stream.push_back(static_cast<uint16_t>(id));
    std::string longer = text;
    for (auto error = rule.count(stream) - static_cast<int64_t>(text.size()); error >= 3; error -= 3) longer += "\u8fdc";
    documents.push_back(longer);
  }
  const std::string message = report(documents);
  const auto unknown = bytes_of(documents) - bytes_of(texts);
  EXPECT_NE(message.find(with_commas(unknown) + " bytes of unknown characters"), std::string::npos) << message;
  EXPECT_GT(unknown, bytes_of(texts) / 5);
}

TEST_F(ByteReport, NormalizationDoesNotCancelAcrossDocuments) {
  use(train_sentencepiece(texts));
  auto documents = texts;
  for (int i = 0; i < 100; ++i) {
    documents[0] += "\uff0c";  // 3 bytes become 1
    documents[1] += "\u2474";  // and 3 become 3: "(1)"
    documents[1] += "\u00bd";  // and 2 become 5
    documents[2] += "\uff0c";
  }
  write(documents);
  expect_parts(errors_of([&] { tokenize(options); }), {"warning: ", "changes documents by 700 in all"});
}

TEST_F(ByteReport, NormalizationIsOnlyWarnedOf) {
  use(train_sentencepiece(texts));
  auto documents = texts;
  for (auto& text : documents) text = "   " + text + "\n\n\uff0c\uff0c\uff0c\uff0c\uff0c\uff0c\uff0c\uff0c";
  write(documents);
  const std::string total = with_commas(bytes_of(documents));
  expect_parts(errors_of([&] { tokenize(options); }),
               {"warning: ", "the text has " + total, "normalizes the text to ", "--normalization identity"});
  EXPECT_EQ(errors_of([&] { verify_shards({options.out_dir}, options.tokenizer_path); }), "") << "the pieces are fine";
}

TEST_F(ByteReport, LittleNormalizationIsOnlyLogged) {
  use(train_sentencepiece(texts));
  auto documents = texts;
  for (int i = 0; i < 5; ++i) documents.insert(documents.end(), texts.begin(), texts.end());
  documents[0] += "\uff0c";
  write(documents);
  ASSERT_GT(bytes_of(documents), 2000 * 2) << "2 bytes of a comma are less than 0.1 %";
  const auto [errors, output] = output_of([&] { tokenize(options); });
  EXPECT_EQ(errors, "");
  expect_parts(output, {"the text has " + with_commas(bytes_of(documents)), "normalizes the text to "});
}

TEST_F(ByteReport, ShardsSayWhatTheyWereMadeWith) {
  use(train_sentencepiece(texts, {{"pad_id", "0"}, {"unk_id", "1"}, {"eos_id", "2"}, {"bos_id", "3"}}));
  tokenize(options);
  const Tokenizer tokenizer(options.tokenizer_path);
  const auto manifest = read_manifest(options.out_dir);
  ASSERT_TRUE(manifest.has_value());
  EXPECT_EQ(manifest->tokenizer, tokenizer.fingerprint());
  EXPECT_EQ(manifest->bos_id, 3);
  ::testing::internal::CaptureStdout();
  verify_shards({options.out_dir}, {});
  const std::string verified = ::testing::internal::GetCapturedStdout();
  expect_parts(verified, {" documents:60 "});
  EXPECT_EQ(verified.find("left out"), std::string::npos) << "shards.json belongs to the shards";

  testing::write_file(folder / "other.model", train_sentencepiece(normalized_texts(9, 30)));
  const std::vector<std::string> parts{"other.model has other pieces", "shards.json", tokenizer.fingerprint(), "TOKENIZER_PATH"};
  expect_error(ExitCode::usage, parts, [&] { verify_shards({options.out_dir}, folder / "other.model"); });
  expect_error(ExitCode::usage, parts,
               [&] { inspect_shard(options.out_dir / "fineweb_val_000000.bin", folder / "other.model", 0, 10); });

  options.tokenizer_path = folder / "other.model";
  tokenize(options);
  EXPECT_EQ(read_manifest(options.out_dir)->tokenizer, Tokenizer(options.tokenizer_path).fingerprint());
  fs::remove(manifest_path(options.out_dir));
  verify_shards({options.out_dir}, folder / "t.model");  // as upstream's shards

  for (const auto& [bos, code] : {std::pair{7, ExitCode::bad_input}, {1, ExitCode::ok}}) {
    write_manifest(options.out_dir, {Tokenizer(options.tokenizer_path).fingerprint(), bos});
    if (code == ExitCode::ok) {
      verify_shards({options.out_dir}, options.tokenizer_path);
    } else {
      expect_error(code, {"shards.json says that BOS is 7", "other.model", "is 1"},
                   [&] { verify_shards({options.out_dir}, options.tokenizer_path); });
      expect_parts(errors_of([&] { verify_shards({options.out_dir}, {}); }), {"warning: ", "is 7, the BOS of ", "shards.json"});
    }
  }
  fs::remove(manifest_path(options.out_dir));
  fs::create_symlink("nowhere.json", manifest_path(options.out_dir));
  for (const auto& tokenizer : {std::optional<fs::path>(options.tokenizer_path), std::optional<fs::path>()})
    expect_error(ExitCode::bad_input, {tokenizer ? "shards.json" : "2 of 2 files"},
                 [&] { verify_shards({options.out_dir}, tokenizer); });
  fs::remove(manifest_path(options.out_dir));

  for (const char* damaged : {"", "{", "[]", "{\"tokenizer\":3,\"bos_id\":1}", "{\"tokenizer\":\"a\"}",
                              "{\"tokenizer\":\"a\",\"bos_id\":1e300}", "{\"tokenizer\":\"a\",\"bos_id\":65536}"}) {
    testing::write_file(manifest_path(options.out_dir), damaged);
    expect_error(ExitCode::bad_input, {"shards.json"}, [&] { verify_shards({options.out_dir}, options.tokenizer_path); });
  }
}

TEST_F(ByteReport, ShardsOfAnotherBosAreToldWithoutAManifest) {
  use(train_sentencepiece(texts));
  tokenize(options);
  fs::remove(manifest_path(options.out_dir));
  EXPECT_EQ(errors_of([&] { verify_shards({options.out_dir}, options.tokenizer_path); }), "");
  testing::write_file(folder / "other.model", train_sentencepiece(texts, {{"bos_id", "2"}, {"eos_id", "1"}}));
  expect_parts(errors_of([&] { verify_shards({options.out_dir}, folder / "other.model"); }),
               {"warning: none of the tokens in " + options.out_dir.string() + " is 2, the BOS of ", "other.model"});
}

TEST_F(ByteReport, TotalsHaveTheFirstTokensOfShardsThatGoOn) {
  use(train_sentencepiece(texts));
  options.shard_tokens = 50;
  tokenize(options);
  expect_parts(verified(), {true_bytes()});
  // Behind a shard that is bad, nothing is known of the token before.
  testing::write_file(options.out_dir / "fineweb_train_000003.bin", "bad");
  ::testing::internal::CaptureStdout();
  expect_error(ExitCode::bad_input, {"1 of"}, [&] { verify_shards({options.out_dir}, options.tokenizer_path); });
  EXPECT_EQ(::testing::internal::GetCapturedStdout().find(true_bytes()), std::string::npos);
}

TEST_F(ByteReport, ValidationDocumentsWithoutTextAreRefused) {
  use(train_sentencepiece(texts));
  auto documents = texts;
  documents[0] = documents[1] = documents[2] = "";
  write(documents);
  expect_error(ExitCode::bad_input, {"3 validation documents", "no byte of text", "--val-docs"}, [&] { tokenize(options); });
}

TEST_F(ByteReport, ATokenizerWithoutBosMakesNoShards) {
  use(train_sentencepiece(texts, {{"pad_id", "-1"}, {"unk_id", "0"}, {"bos_id", "-1"}, {"eos_id", "-1"}}));
  expect_error(ExitCode::bad_input, {"t.model has no BOS"}, [&] { tokenize(options); });
}

/// Texts of ideographs: one after the other, with `every` of them between two spaces; 0: no space at all.
std::vector<std::string> ideographs(size_t every) {
  std::mt19937 random(5);
  std::vector<std::string> texts;
  size_t written = 0;
  for (int document = 0; document < 60; ++document) {
    std::string text;
    for (int i = 0; i < 400; ++i) {
      if (every != 0 && ++written % every == 0 && i > 0) text += ' ';
      const unsigned code = 0x4e00 + random() % 150;
      text += {static_cast<char>(0xe0 | code >> 12), static_cast<char>(0x80 | (code >> 6 & 0x3f)),
               static_cast<char>(0x80 | (code & 0x3f))};
    }
    texts.push_back(text);
  }
  return texts;
}

class OwnTokenizer : public ByteReport {
 protected:
  std::string trained(Normalization normalization, int vocab_size = 420) {
    TrainTokenizerOptions training;
    training.inputs = options.inputs;
    training.output = options.tokenizer_path;
    training.vocab_size = vocab_size;
    training.normalization = normalization;
    return errors_of([&] { train_tokenizer(training); });
  }
  /// Of the tokenizer trained last.
  void expect_exact(const std::vector<std::string>& documents) {
    write(documents);
    EXPECT_EQ(errors_of([&] { tokenize(options); }), "");
    expect_parts(verified(), {"bytes:" + with_commas(bytes_of(documents)) + " "});
    expect_parts(verified(ByteCounting::decoded), {"bytes:" + with_commas(bytes_of(documents)) + " "});
    const Tokenizer tokenizer(options.tokenizer_path);
    EXPECT_EQ(ByteCheck(tokenizer).warning({}, ByteCounting::rule), "");
  }
};

TEST_F(OwnTokenizer, IsExactHoweverRareSpacesAre) {
  for (const size_t every : {size_t{0}, size_t{5000}, size_t{1000}, size_t{3}}) {
    for (const auto normalization : {Normalization::nmt_nfkc, Normalization::identity}) {
      write(ideographs(every));
      EXPECT_EQ(trained(normalization), "") << every;
      expect_exact(ideographs(every));
      expect_exact(ideographs(7));  // and of other texts than it was trained on
      expect_exact(normalized_texts());
    }
  }
}

TEST_F(OwnTokenizer, IsExactIfSentencePieceSeesNoSpace) {
  write({"\u4e00\u4e8c\u4e00\u4e8c \u200b", "\u4e00\u4e8c\u4e00\u4e8c", "\u2585 a b"});
  trained(Normalization::nmt_nfkc, 264);
  expect_exact(ideographs(7));
}

TEST_F(OwnTokenizer, WithoutNormalizationIsExactOnAnyText) {
  EXPECT_EQ(trained(Normalization::identity, 330), "");
  std::mt19937 random(3);
  std::vector<std::string> documents{"",
                                     " ",
                                     "  ",
                                     "\n",
                                     "\t x",
                                     "x ",
                                     " \n ",
                                     "\uff0c\u3000\ufb01\u0e33\u00a0\u200b\u2028",
                                     "<s></s><unk><0x41>",
                                     "e\u0301\u2588"};
  for (int i = 0; i < 200; ++i) {
    std::string text;
    for (int length = static_cast<int>(random() % 40); length > 0; --length) {
      const unsigned limits[] = {0x21, 0x80, 0x800, 0xd000, 0x10000};
      const unsigned code = random() % limits[random() % 5] + (random() % 50 == 0 ? 0x10000 : 0);
      if (code == 0x2581) continue;
      if (code < 0x80) {
        text += static_cast<char>(code);
      } else if (code < 0x800) {
        text += {static_cast<char>(0xc0 | code >> 6), static_cast<char>(0x80 | (code & 0x3f))};
      } else if (code < 0x10000) {
        if (code >= 0xd800 && code < 0xe000) continue;
        text += {static_cast<char>(0xe0 | code >> 12), static_cast<char>(0x80 | (code >> 6 & 0x3f)),
                 static_cast<char>(0x80 | (code & 0x3f))};
      } else {
        text += {static_cast<char>(0xf0 | code >> 18), static_cast<char>(0x80 | (code >> 12 & 0x3f)),
                 static_cast<char>(0x80 | (code >> 6 & 0x3f)), static_cast<char>(0x80 | (code & 0x3f))};
      }
    }
    documents.push_back(text);
  }
  expect_exact(documents);
  const Tokenizer tokenizer(options.tokenizer_path);
  for (const auto& text : documents) EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
}

TEST_F(OwnTokenizer, SaysWhatNormalizationDoesToItsText) {
  auto documents = texts;
  for (int i = 0; i < 10; ++i) documents[0] += "\uff0c";
  write(documents);
  expect_parts(trained(Normalization::nmt_nfkc, 330), {"warning: ", with_commas(bytes_of(documents)),
                                                       with_commas(bytes_of(documents) - 20), "--normalization identity"});
  EXPECT_EQ(trained(Normalization::identity, 330), "");
}

}  // namespace
}  // namespace pgolf
