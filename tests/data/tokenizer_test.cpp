#include "pgolf/data/tokenizer.h"

#include <gtest/gtest.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "data/fixtures.h"
#include "pgolf/base/hash.h"
#include "pgolf/data/byte_counts.h"
#include "pgolf/data/document_index.h"
#include "pgolf/data/shard.h"
#include "support/tokenizers.h"

namespace pgolf {
namespace {

using testing::expect_error;
using testing::TempFolder;

TEST(Tokenizer, HasUpstreamsSpecialPiecesAndRoundTrips) {
  TempFolder folder;
  const Tokenizer tokenizer(testing::train_small_tokenizer(folder));
  EXPECT_EQ(tokenizer.vocab_size(), 360);
  EXPECT_EQ(tokenizer.bos_id(), 1);
  EXPECT_TRUE(tokenizer.is_control(0) && tokenizer.is_control(1) && tokenizer.is_control(2) && tokenizer.is_unknown(3));
  for (int id = 4; id < 260; ++id) EXPECT_TRUE(tokenizer.is_byte(id)) << id;
  EXPECT_FALSE(tokenizer.is_byte(260));
  for (const std::string text : {"the river sings under a bridge.", "x\xe2\x82\xac y \xf0\x9f\x99\x82", "1987 42", ""}) {
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
  }
  EXPECT_EQ(tokenizer.encode(" the  river\n"), tokenizer.encode("the river")) << "whitespace is normalized, no dummy prefix";
  const auto digits = tokenizer.encode("1987");
  EXPECT_EQ(digits.size(), 4u) << "digits are split";
  EXPECT_EQ(tokenizer.decode({1, 2, 0}), "");
}

TEST(Tokenizer, RejectsFilesThatAreNotModels) {
  TempFolder folder;
  expect_error(ExitCode::bad_input, {"does not exist", "none.model", "prepare_data tokenizer"},
               [&] { Tokenizer t(folder / "none.model"); });
  const std::string good = testing::read_file(testing::train_small_tokenizer(folder));
  for (const std::string& content : {std::string(), std::string("hello"), std::string(1000, '\xff')}) {
    testing::write_file(folder / "bad.model", content);
    expect_error(ExitCode::bad_input, {"bad.model is not a SentencePiece model"}, [&] { Tokenizer t(folder / "bad.model"); });
  }
  for (const size_t size : {good.size() / 2, good.size() - 1, size_t{100}}) {
    testing::write_file(folder / "bad.model", good.substr(0, size));
    expect_error(ExitCode::bad_input, {"bad.model is a SentencePiece model, but it is truncated or damaged"},
                 [&] { Tokenizer t(folder / "bad.model"); });
  }
  testing::write_file(folder / "bad.model", good);
  std::filesystem::resize_file(folder / "bad.model", (size_t{64} << 20) + 1);
  expect_error(ExitCode::bad_input, {"bad.model", "67108865 bytes"}, [&] { Tokenizer t(folder / "bad.model"); });
}

TEST(Tokenizer, RefusesPiecesThatWouldEndTheProcess) {
  const auto texts = testing::normalized_texts();
  for (const testing::SentencePieceOptions& options :
       {testing::SentencePieceOptions{{"model_type", "unigram"}, {"user_defined_symbols", "the,river"}},
        testing::SentencePieceOptions{{"user_defined_symbols", "the,river"}}}) {
    std::string model = testing::train_sentencepiece(texts, options);
    EXPECT_NO_THROW(Tokenizer(model, "good.model"));
    model.replace(model.find("river"), 5, std::string("r\0ver", 5));
    expect_error(ExitCode::bad_input, {"bad.model: piece ", "contains a NUL byte"}, [&] { Tokenizer t(model, "bad.model"); });
  }
}

TEST(Tokenizer, NamesFilesOfOtherKinds) {
  TempFolder folder;
  const std::pair<std::string, const char*> files[] = {
      {"{\"model\": {\"type\": \"BPE\"}}", "it is JSON"},
      {"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "it is a Git LFS pointer"},
      {"<!DOCTYPE html><html></html>", "it is a web page"},
      {"PK\3\4" + std::string(22, '\0') + std::string("\7\0\0\0", 4) + "arr.npy", "it is a NumPy .npz archive"},
      {"\x93NUMPY", "it is a NumPy array"},
      {"GGUF" + std::string((64 << 20) + 1, '\0'), "it is a GGUF model"},
  };
  for (const auto& [content, kind] : files) {
    testing::write_file(folder / "bad.model", content);
    expect_error(ExitCode::bad_input, {"bad.model is not a SentencePiece model: ", kind, "scripts/download_fineweb.sh"},
                 [&] { Tokenizer t(folder / "bad.model"); });
  }
}

TEST(Tokenizer, RejectsForeignIdsAndSizes) {
  TempFolder folder;
  const Tokenizer tokenizer(testing::train_small_tokenizer(folder));
  expect_error(ExitCode::bad_input, {"id 360", "360 tokens"}, [&] { tokenizer.decode({5, 360}); });
  expect_error(ExitCode::bad_input, {"id -1"}, [&] { tokenizer.decode({-1}); });
  tokenizer.require_vocab_size(360);
  expect_error(ExitCode::usage, {"VOCAB_SIZE=1024", "small.model", "360 tokens", "set VOCAB_SIZE=360"},
               [&] { tokenizer.require_vocab_size(1024); });
}

TEST(Tokenizer, SpecialIdsAreTheModels) {
  const auto texts = testing::normalized_texts();
  const Tokenizer tokenizer(
      testing::train_sentencepiece(texts, {{"pad_id", "-1"}, {"unk_id", "0"}, {"bos_id", "2"}, {"eos_id", "1"}}), "x.model");
  EXPECT_EQ(tokenizer.bos_id(), 2);
  EXPECT_EQ(tokenizer.eos_id(), 1);
  EXPECT_EQ(tokenizer.required_bos_id(), 2);
  EXPECT_EQ(tokenizer.document_ends(), (std::vector<int>{2, 1}));
  EXPECT_TRUE(tokenizer.is_unknown(0));
  const Tokenizer none(
      testing::train_sentencepiece(texts, {{"pad_id", "-1"}, {"unk_id", "0"}, {"bos_id", "-1"}, {"eos_id", "-1"}}), "none.model");
  EXPECT_EQ(none.bos_id(), -1);
  EXPECT_TRUE(none.document_ends().empty());
  expect_error(ExitCode::bad_input, {"none.model has no BOS"}, [&] { none.required_bos_id(); });
}

TEST(Tokenizer, NormalizeShowsTheDummyBlank) {
  const auto texts = testing::normalized_texts();
  const Tokenizer first(testing::train_sentencepiece(texts), "x"),
      none(testing::train_sentencepiece(texts, {{"add_dummy_prefix", "false"}}), "x"),
      last(testing::train_sentencepiece(texts, {{"treat_whitespace_as_suffix", "true"}}), "x");
  EXPECT_EQ(first.dummy_blank(), DummyBlank::first);
  EXPECT_EQ(none.dummy_blank(), DummyBlank::none);
  EXPECT_EQ(last.dummy_blank(), DummyBlank::last);
  EXPECT_EQ(first.normalize("the  \ufb01\u9999 "), "\u2581the\u2581fi\u9999") << "byte pieces too";
  EXPECT_EQ(none.normalize("the  river"), "the\u2581river");
  EXPECT_EQ(with_spaces("\u2581a\u2581"), " a ");
}

TEST(Tokenizer, FingerprintIdentifiesThePieces) {
  const auto texts = testing::normalized_texts();
  const std::string model = testing::train_sentencepiece(texts);
  const Tokenizer tokenizer(model, "a.model"), again(model, "b.model");
  EXPECT_EQ(tokenizer.fingerprint(), again.fingerprint());
  EXPECT_EQ(tokenizer.fingerprint().size(), 16u);
  std::string text;
  for (int id = 0; id < tokenizer.vocab_size(); ++id)
    text += std::string(1, id < 3 ? 'c' : id == 3 ? 'u' : id < 260 ? 'b' : 't') + tokenizer.id_to_piece(id) + "\n";
  EXPECT_EQ(tokenizer.fingerprint(), sha256_hex(as_bytes(text)).substr(0, 16)) << "as the header says";

  const Tokenizer other(testing::train_sentencepiece(testing::normalized_texts(7, 30)), "other.model");
  ASSERT_EQ(other.vocab_size(), tokenizer.vocab_size());
  EXPECT_NE(other.fingerprint(), tokenizer.fingerprint());
  tokenizer.require_fingerprint(again.fingerprint(), "x");
  tokenizer.require_fingerprint("", "x");
  expect_error(ExitCode::usage,
               {"other.model has other pieces than the tokenizer of final_model.pt", tokenizer.fingerprint(), "TOKENIZER_PATH"},
               [&] { other.require_fingerprint(tokenizer.fingerprint(), "final_model.pt"); });
}

TEST(ByteCounts, CountTheTextOfADocument) {
  TempFolder folder;
  const Tokenizer tokenizer(testing::train_small_tokenizer(folder));
  const ByteCounts counts(tokenizer, 400);
  EXPECT_EQ(counts.base_bytes().size(), 400u);
  EXPECT_EQ(counts.is_boundary()[399], 1);
  for (int id = 0; id < 4; ++id) EXPECT_TRUE(counts.is_boundary()[static_cast<size_t>(id)]) << id;
  for (const std::string text : {"the river sings under a bridge.", "a\xe2\x82\xac \xf0\x9f\x99\x82 z", "winter"}) {
    std::vector<uint16_t> tokens = {1};
    for (const int id : tokenizer.encode(text)) tokens.push_back(static_cast<uint16_t>(id));
    EXPECT_EQ(counts.count(tokens), static_cast<int64_t>(text.size())) << text;
  }
}

TEST(ByteCounts, LeadingSpaceDoesNotCountAfterABoundary) {
  TempFolder folder;
  const Tokenizer tokenizer(testing::train_small_tokenizer(folder));
  const ByteCounts counts(tokenizer, tokenizer.vocab_size());
  const auto ids = tokenizer.encode("the river");
  const auto with_blank = static_cast<uint16_t>(ids.back());
  const size_t index = with_blank;
  ASSERT_EQ(tokenizer.id_to_piece(with_blank), "\xe2\x96\x81river");
  EXPECT_EQ(counts.base_bytes()[index], 5);
  EXPECT_TRUE(counts.has_leading_space()[index]);
  const auto bytes_after = [&](int prev) { return counts.count(std::vector<uint16_t>{static_cast<uint16_t>(prev), with_blank}); };
  EXPECT_EQ(bytes_after(ids.front()), 6);
  EXPECT_EQ(bytes_after(100), 6) << "a byte piece is not a boundary";
  for (int boundary = 0; boundary < 4; ++boundary) EXPECT_EQ(bytes_after(boundary), 5);
  EXPECT_EQ(counts.count(std::vector<uint16_t>{with_blank, 1}), 0);
  for (const int foreign : {360, 65'535})
    expect_error(ExitCode::bad_input, {std::to_string(foreign)}, [&] { bytes_after(foreign); });
}

TEST(DocumentIndex, FindsBos) {
  const std::vector<uint16_t> tokens = {7, 1, 5, 1, 1, 9};
  EXPECT_EQ(document_starts(tokens, 1), (std::vector<int64_t>{1, 3, 4}));
  EXPECT_EQ(document_starts(tokens, 9), (std::vector<int64_t>{5}));
  EXPECT_TRUE(document_starts(std::vector<uint16_t>{65'535}, -1).empty()) << "a tokenizer without BOS";
  EXPECT_TRUE(document_starts(std::span<const uint16_t>(), 1).empty());
}

TEST(ByteCountsReference, TablesAreUpstreams) {
  PGOLF_SKIP_WITHOUT_SHARED();
  const auto shared = testing::shared_folder();
  const Tokenizer tokenizer(shared / "fineweb/tokenizers/fineweb_1024_bpe.model");
  const ByteCounts counts(tokenizer, 1024);

  const std::string file = testing::read_file(shared / "reference/val/luts_1024.safetensors");
  uint64_t header_size = 0;
  ASSERT_GT(file.size(), sizeof header_size);
  std::memcpy(&header_size, file.data(), sizeof header_size);
  const auto header = nlohmann::json::parse(file.substr(sizeof header_size, header_size));
  const auto tensor = [&](const char* name) {
    const auto& offsets = header.at(name).at("data_offsets");
    const size_t begin = offsets.at(0), end = offsets.at(1);
    return file.substr(sizeof header_size + header_size + begin, end - begin);
  };
  const auto bytes_of = [](const auto& values) {
    return std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(values[0]));
  };
  EXPECT_EQ(bytes_of(counts.base_bytes()), tensor("base_bytes"));
  EXPECT_EQ(bytes_of(counts.has_leading_space()), tensor("has_leading_space"));
  EXPECT_EQ(bytes_of(counts.is_boundary()), tensor("is_boundary_token"));
}

TEST(ByteCountsReference, BytesOfTheGenuineShards) {
  PGOLF_SKIP_WITHOUT_SHARED();
  const auto shared = testing::shared_folder();
  const Tokenizer tokenizer(shared / "fineweb/tokenizers/fineweb_1024_bpe.model");
  const ByteCounts counts(tokenizer, 1024);
  const Shard val(shared / "fineweb/sp1024/fineweb_val_head.bin");
  const auto first_targets = [&](size_t n) { return counts.count(val.tokens().first(n + 1)); };
  EXPECT_EQ(first_targets(65'536), 159'910);
  EXPECT_EQ(first_targets(131'072), 315'259);
  EXPECT_EQ(first_targets(val.tokens().size() - 1), 2'504'867);

  const Shard train(shared / "fineweb/sp1024/fineweb_train_head.bin");
  const std::vector<int64_t> expected = {159354, 161240, 158235, 157254, 163857, 162739, 159869, 158365,
                                         159917, 157624, 160681, 159920, 151877, 160630, 163329, 162540};
  for (size_t step = 0; step < expected.size(); ++step) {
    EXPECT_EQ(counts.count(train.tokens(), static_cast<int64_t>(step) * 65'537, 65'536), expected[step]) << "micro-step " << step;
  }
}

}  // namespace
}  // namespace pgolf
