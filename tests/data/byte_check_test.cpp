#include "pgolf/data/byte_check.h"

#include <gtest/gtest.h>

#include "data/fixtures.h"
#include "support/tokenizers.h"

namespace pgolf {
namespace {

using testing::normalized_texts;
using testing::SentencePieceOptions;
using testing::train_sentencepiece;

const SentencePieceOptions kNoDummy{{"add_dummy_prefix", "false"}};
const SentencePieceOptions kSuffix{{"treat_whitespace_as_suffix", "true"}};
const SentencePieceOptions kSuffixNoDummy{{"treat_whitespace_as_suffix", "true"}, {"add_dummy_prefix", "false"}};
const SentencePieceOptions kAcross{{"split_by_whitespace", "false"}};
const SentencePieceOptions kKeepsSpaces{
    {"normalization_rule_name", "identity"}, {"remove_extra_whitespaces", "false"}, {"add_dummy_prefix", "false"}};
const SentencePieceOptions kKeepsSpacesDummy{{"normalization_rule_name", "identity"}, {"remove_extra_whitespaces", "false"}};
const SentencePieceOptions kUnigram{{"model_type", "unigram"}, {"vocab_size", "300"}};

Tokenizer tokenizer_of(const std::string& model) {
  return {model, "some.model"};
}

std::vector<uint16_t> stream_of(const Tokenizer& tokenizer, const std::vector<std::string>& texts) {
  std::vector<uint16_t> stream;
  for (const auto& text : texts) {
    stream.push_back(static_cast<uint16_t>(tokenizer.bos_id()));
    for (const int id : tokenizer.encode(text)) stream.push_back(static_cast<uint16_t>(id));
  }
  return stream;
}

int64_t bytes_of(const std::vector<std::string>& texts) {
  int64_t bytes = 0;
  for (const auto& text : texts) bytes += static_cast<int64_t>(text.size());
  return bytes;
}

/// Whose texts begin and end with spaces, and have several in a row.
std::vector<std::string> spaced_texts() {
  auto texts = normalized_texts(3, 20);
  for (size_t i = 0; i < texts.size(); ++i) {
    if (i % 2 == 0) texts[i] = std::string(2, ' ') + texts[i];
    if (i % 3 == 0) texts[i] += " ";
    if (i % 5 == 0) texts[i] += "\n\tx   y";
  }
  texts.insert(texts.end(), {"", " ", "\n", "a"});
  return texts;
}

TEST(DecodedBytes, AreTheTextsForEveryKindOfTokenizer) {
  const auto texts = normalized_texts(2, 40);
  for (const auto& options :
       {SentencePieceOptions(), kNoDummy, kSuffix, kSuffixNoDummy, kAcross, kKeepsSpaces, kKeepsSpacesDummy, kUnigram}) {
    const std::string model = train_sentencepiece(normalized_texts(), options);
    const auto with_lone = {model, testing::without_lone_space(model)};
    for (const auto& kind : with_lone) {
      const Tokenizer tokenizer = tokenizer_of(kind);
      const ByteCounts decoded(tokenizer, tokenizer.vocab_size(), ByteCounting::decoded);
      EXPECT_EQ(decoded.count(stream_of(tokenizer, texts)), bytes_of(texts))
          << options.begin()->first << (kind == model ? "" : " without a lone space");
    }
  }
}

TEST(DecodedBytes, CountSpacesThatAreKept) {
  for (const auto& options : {kKeepsSpaces, kKeepsSpacesDummy}) {
    const Tokenizer tokenizer = tokenizer_of(train_sentencepiece(normalized_texts(), options));
    const ByteCounts decoded(tokenizer, tokenizer.vocab_size(), ByteCounting::decoded);
    EXPECT_EQ(decoded.count(stream_of(tokenizer, spaced_texts())), bytes_of(spaced_texts()));
  }
}

TEST(DecodedBytes, OfTargetsAddUp) {
  for (const auto& options : {SentencePieceOptions(), kSuffix, kAcross}) {
    const Tokenizer tokenizer = tokenizer_of(testing::without_lone_space(train_sentencepiece(normalized_texts(), options)));
    const ByteCounts decoded(tokenizer, tokenizer.vocab_size(), ByteCounting::decoded);
    const auto stream = stream_of(tokenizer, normalized_texts(2, 10));
    const auto targets = static_cast<int64_t>(stream.size()) - 1;
    for (const int64_t size : {1, 2, 7, 100}) {
      int64_t sum = 0;
      for (int64_t first = 0; first < targets; first += size) {
        const int64_t bytes = decoded.count(stream, first, std::min(size, targets - first));
        EXPECT_GE(bytes, 0);
        sum += bytes;
      }
      EXPECT_EQ(sum, decoded.count(stream)) << size;
    }
  }
}

TEST(DecodedBytes, ASpelledSpaceIsOneByteAndOtherCharactersAreNot) {
  const Tokenizer tokenizer = tokenizer_of(testing::without_lone_space(train_sentencepiece(normalized_texts(), kNoDummy)));
  const ByteCounts rule(tokenizer, tokenizer.vocab_size()), decoded(tokenizer, tokenizer.vocab_size(), ByteCounting::decoded);
  // Block elements and geometric shapes, whose first two bytes are those of U+2581, and U+5581, whose last two are.
  const std::vector<std::string> texts{"\u2588\u25a0", "\u5581", "\u2588 \u5581"};
  const int64_t spaces[] = {0, 0, 1};
  for (size_t i = 0; i < texts.size(); ++i) {
    const auto stream = stream_of(tokenizer, {texts[i]});
    EXPECT_EQ(decoded.count(stream), bytes_of({texts[i]})) << texts[i];
    EXPECT_EQ(rule.count(stream), bytes_of({texts[i]}) + 2 * spaces[i]) << texts[i];
  }
}

TEST(DecodedBytes, ControlAndUnknownPiecesCountNothing) {
  const Tokenizer tokenizer =
      tokenizer_of(train_sentencepiece(normalized_texts(), {{"byte_fallback", "false"}, {"vocab_size", "100"}}));
  const ByteCounts decoded(tokenizer, 120, ByteCounting::decoded);
  const auto the = static_cast<uint16_t>(tokenizer.encode("the")[0]);
  ASSERT_EQ(tokenizer.id_to_piece(the), "\u2581the");
  EXPECT_EQ(decoded.count(std::vector<uint16_t>{the, 0, 1, 2, 3, 119}), 0);
  EXPECT_EQ(decoded.count(std::vector<uint16_t>{1, the}), 3) << "the dummy prefix is not text";
  EXPECT_EQ(decoded.count(std::vector<uint16_t>{3, the}), 4) << "the space after an unknown character is";
  EXPECT_EQ(decoded.count(std::vector<uint16_t>{the, the}), 4);
  testing::expect_error(ExitCode::bad_input, {"token id 120"}, [&] { decoded.count(std::vector<uint16_t>{1, 120}); });
}

std::string faults_of(const std::string& model) {
  const Tokenizer tokenizer = tokenizer_of(model);
  return ByteCheck(tokenizer).rule_faults();
}

TEST(RuleFaults, AreFoundInThePieces) {
  const auto texts = normalized_texts();
  const auto has = [](const std::string& text, const char* part) { return text.find(part) != std::string::npos; };
  for (const auto& options : {SentencePieceOptions(), kNoDummy, kUnigram, kKeepsSpacesDummy})
    EXPECT_EQ(faults_of(train_sentencepiece(texts, options)), "");
  EXPECT_TRUE(has(faults_of(train_sentencepiece(texts, kSuffix)), "pieces that end in a space: "));
  EXPECT_TRUE(has(faults_of(train_sentencepiece(texts, kAcross)), "pieces that go across a space: "));
  EXPECT_TRUE(has(faults_of(testing::without_lone_space(train_sentencepiece(texts, kNoDummy))),
                  "no piece is a lone space, so it counts as 3 bytes"));
  EXPECT_TRUE(has(faults_of(train_sentencepiece(texts, kKeepsSpaces)), "a space at the beginning of a document"));
  EXPECT_TRUE(has(faults_of(train_sentencepiece(texts, {{"byte_fallback", "false"}, {"vocab_size", "100"}})),
                  "after an unknown character"));
}

TEST(RuleFaults, ThereAreNoneWhereTheRuleIsExact) {
  // The converse: without a fault the rule gives the text's bytes.
  for (const auto& options : {SentencePieceOptions(), kNoDummy, kUnigram}) {
    const Tokenizer tokenizer = tokenizer_of(train_sentencepiece(normalized_texts(), options));
    const TargetBytes bytes = ByteCheck(tokenizer).count(stream_of(tokenizer, normalized_texts(2, 40)));
    EXPECT_EQ(bytes.rule, bytes.decoded);
    EXPECT_EQ(bytes.unknown, 0);
  }
  const Tokenizer keeps = tokenizer_of(train_sentencepiece(normalized_texts(), kKeepsSpacesDummy));
  EXPECT_EQ(ByteCheck(keeps).count(stream_of(keeps, spaced_texts())).rule, bytes_of(spaced_texts()));
}

TEST(ByteCheck, WarnsWithTheReasonAndBothNumbers) {
  const Tokenizer tokenizer = tokenizer_of(train_sentencepiece(normalized_texts(), kSuffixNoDummy));
  const ByteCheck check(tokenizer);
  const auto texts = normalized_texts(2, 40);
  const TargetBytes bytes = check.count(stream_of(tokenizer, texts));
  const std::string warning = check.warning(bytes, ByteCounting::rule);
  for (const auto& part : {std::string("some.model: "), std::string("end in a space"), with_commas(bytes.rule) + " bytes",
                           with_commas(bytes_of(texts)), std::string("--byte-count decoded")}) {
    EXPECT_NE(warning.find(part), std::string::npos) << part << " is not in: " << warning;
  }
  EXPECT_EQ(check.warning(bytes, ByteCounting::decoded), "");
  EXPECT_NE(check.warning(check.count(stream_of(tokenizer, {"a"})), ByteCounting::rule).find("it is right for these 1 tokens"),
            std::string::npos);
}

TEST(ByteCheck, CountsUnknownCharacters) {
  const Tokenizer tokenizer =
      tokenizer_of(train_sentencepiece(normalized_texts(), {{"byte_fallback", "false"}, {"vocab_size", "100"}}));
  const ByteCheck check(tokenizer);
  const std::string text = "the \u8fdc\u8fd9 river \u8fdc";
  const TargetBytes bytes = check.count(stream_of(tokenizer, {text}));
  EXPECT_EQ(bytes.unknown, 2) << "neighbors become one piece";
  EXPECT_EQ(tokenizer.unknown_bytes(text), 9);
  EXPECT_EQ(bytes.decoded + 9, static_cast<int64_t>(text.size()));
  for (const auto counting : {ByteCounting::rule, ByteCounting::decoded})
    EXPECT_NE(check.warning(bytes, counting).find("no byte fallback: 2 of"), std::string::npos) << check.warning(bytes, counting);
}

TEST(ByteCheck, ErrorsOfTheRuleDoNotCancel) {
  // Spaces as suffixes count too much, those after an unknown character too little.
  const Tokenizer tokenizer = tokenizer_of(train_sentencepiece(normalized_texts(), {{"byte_fallback", "false"},
                                                                                    {"vocab_size", "100"},
                                                                                    {"treat_whitespace_as_suffix", "true"},
                                                                                    {"add_dummy_prefix", "false"}}));
  const ByteCounts rule(tokenizer, tokenizer.vocab_size()), decoded(tokenizer, tokenizer.vocab_size(), ByteCounting::decoded);
  const auto stream = stream_of(tokenizer, {"the \u8fdc the \u8fdc \u8fd9 \u8fdc river"});
  int64_t expected = 0;
  for (size_t at = 1; at < stream.size(); ++at)
    expected += std::abs(rule.target_bytes(stream, at) - decoded.target_bytes(stream, at));
  const TargetBytes bytes = ByteCheck(tokenizer).count(stream);
  EXPECT_EQ(bytes.rule_error, expected);
  EXPECT_GT(bytes.rule_error, std::abs(bytes.rule - bytes.decoded));
  const TargetBytes canceled{.targets = 10, .rule = 50, .decoded = 50, .rule_error = 8};
  const std::string warning = ByteCheck(tokenizer).warning(canceled, ByteCounting::rule);
  EXPECT_NE(warning.find("wrong by 8 token by token"), std::string::npos) << warning;
}

TEST(ByteCheck, SeamsMakePiecesOfAStreamAddUp) {
  for (const auto& options : {SentencePieceOptions(), kSuffix, kAcross, kNoDummy}) {
    const Tokenizer tokenizer = tokenizer_of(testing::without_lone_space(train_sentencepiece(normalized_texts(), options)));
    const ByteCheck check(tokenizer);
    const auto stream = stream_of(tokenizer, normalized_texts(2, 3));
    const std::span<const uint16_t> all(stream);
    const TargetBytes whole = check.count(all);
    for (size_t at = 1; at < stream.size(); ++at) {
      TargetBytes parts = check.count(all.first(at));
      parts += check.count(all.subspan(at));
      parts += check.count_seam(all.first(at), all.subspan(at));
      EXPECT_EQ(parts.rule, whole.rule);
      EXPECT_EQ(parts.decoded, whole.decoded) << at;
      EXPECT_EQ(parts.rule_error, whole.rule_error) << at;
      EXPECT_EQ(parts.targets, whole.targets);
    }
  }
}

TEST(ByteCheck, WarnsOfShardsOfAnotherBos) {
  const auto texts = normalized_texts();
  const Tokenizer ours = tokenizer_of(train_sentencepiece(texts));
  const Tokenizer other = tokenizer_of(train_sentencepiece(texts, {{"bos_id", "2"}, {"eos_id", "1"}}));
  const auto warning_for = [](const Tokenizer& tokenizer, const std::vector<uint16_t>& stream) {
    ::testing::internal::CaptureStderr();
    warn_of_byte_counts(tokenizer, ByteCounting::rule, stream);
    return ::testing::internal::GetCapturedStderr();
  };
  EXPECT_EQ(warning_for(ours, stream_of(ours, texts)), "");
  EXPECT_NE(warning_for(ours, stream_of(other, texts)).find("is 1, the BOS of some.model"), std::string::npos);
}

TEST(ByteCounts, RequireText) {
  const Tokenizer tokenizer = tokenizer_of(train_sentencepiece(normalized_texts()));
  for (const auto counting : {ByteCounting::rule, ByteCounting::decoded}) {
    const ByteCounts counts(tokenizer, tokenizer.vocab_size(), counting);
    counts.require_text(stream_of(tokenizer, {"", "", "a"}));
    testing::expect_error(ExitCode::bad_input, {"no byte of text"}, [&] {
      counts.require_text(stream_of(tokenizer, {"", "", ""}));
    });
  }
}

TEST(ByteCheck, TheOfficialTokenizerIsFine) {
  PGOLF_SKIP_WITHOUT_SHARED();
  const auto tokenizers = testing::shared_folder() / "fineweb/tokenizers";
  const Tokenizer tokenizer(tokenizers / "fineweb_1024_bpe.model");
  const ByteCheck check(tokenizer);
  EXPECT_EQ(check.rule_faults(), "");
  EXPECT_TRUE(check.byte_fallback());
  EXPECT_EQ(check.warning({}, ByteCounting::rule), "");
  const Tokenizer case_ops(tokenizers / "fineweb_8192_bpe_lossless_caps_caseops_v1_reserved.model");
  EXPECT_NE(ByteCheck(case_ops).warning({}, ByteCounting::rule).find("CaseOps"), std::string::npos);
}

}  // namespace
}  // namespace pgolf
