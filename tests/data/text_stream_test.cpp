#include "pgolf/data/text_stream.h"

#include <random>

#include "support/dataset.h"

namespace pgolf::testing {
namespace {

class TextStreamTest : public ::testing::Test {
 protected:
  /// The results of push() and finish().
  std::vector<std::string> stream(const std::vector<int>& ids) const {
    TextStream text(tokenizer_);
    std::vector<std::string> parts;
    for (const int id : ids) parts.push_back(text.push(id));
    parts.push_back(text.finish());
    return parts;
  }
  static std::string joined(const std::vector<std::string>& parts) {
    std::string all;
    for (const auto& part : parts) all += part;
    return all;
  }
  int byte_piece(unsigned char byte) const {
    for (int id = 0; id < tokenizer_.vocab_size(); ++id) {
      if (tokenizer_.is_byte(id) && tokenizer_.id_to_piece(id) == format("<0x%02X>", byte)) return id;
    }
    ADD_FAILURE() << "no byte pieces";
    return 0;
  }
  std::vector<int> bytes(std::string_view text) const {
    std::vector<int> ids;
    for (const char c : text) ids.push_back(byte_piece(static_cast<unsigned char>(c)));
    return ids;
  }

  Tokenizer tokenizer_{Dataset::get().tokenizer_path()};
};

/// Whether text is valid UTF-8, by the rules that JSON libraries use.
bool is_utf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const auto first = static_cast<unsigned char>(text[i]);
    const size_t length = first < 0x80 ? 1 : first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : first >= 0xC2 ? 2 : 0;
    if (length == 0 || i + length > text.size()) return false;
    for (size_t k = 1; k < length; ++k) {
      if ((static_cast<unsigned char>(text[i + k]) & 0xC0) != 0x80) return false;
    }
    i += length;
  }
  return true;
}

TEST_F(TextStreamTest, TextIsReturnedPieceByPiece) {
  const auto ids = tokenizer_.encode("the river walks over the bridge");
  const auto parts = stream(ids);
  EXPECT_EQ(joined(parts), "the river walks over the bridge");
  EXPECT_EQ(parts[0], tokenizer_.decode({ids[0]}));
  for (size_t i = 0; i + 1 < parts.size(); ++i) EXPECT_FALSE(parts[i].empty()) << i;
}

TEST_F(TextStreamTest, ACharacterOfSeveralBytesIsReturnedWhole) {
  auto ids = tokenizer_.encode("the");
  for (const int id : bytes("\u20ac\U0001F600")) ids.push_back(id);
  const auto parts = stream(ids);
  EXPECT_EQ(joined(parts), "the\u20ac\U0001F600");
  const size_t first = parts.size() - 8;
  const std::vector<std::string> expected{"", "", "\u20ac", "", "", "", "\U0001F600", ""};
  EXPECT_EQ(std::vector<std::string>(parts.begin() + static_cast<std::ptrdiff_t>(first), parts.end()), expected);
}

TEST_F(TextStreamTest, BytesThatNeverBecomeACharacterAreReplaced) {
  EXPECT_EQ(joined(stream(bytes("\xe2\x82"))), tokenizer_.decode(bytes("\xe2\x82")));
  auto ids = bytes("\xe2\x82");
  ids.push_back(tokenizer_.encode("the").front());
  const auto parts = stream(ids);
  EXPECT_EQ(joined(parts), tokenizer_.decode(ids));
  EXPECT_EQ(parts[0] + parts[1], "");
  EXPECT_NE(parts[2].find("\ufffd"), std::string::npos) << parts[2];
}

TEST_F(TextStreamTest, AnyIdsGiveTheTextOfTheTokenizer) {
  std::mt19937 random(7);
  for (int round = 0; round < 300; ++round) {
    std::vector<int> ids;
    const auto count = 1 + random() % 24;
    for (unsigned i = 0; i < count; ++i) {
      // Every second id is a byte of a multi-byte character, to get runs of them.
      const bool byte = random() % 2 == 0;
      const int id = byte ? byte_piece(static_cast<unsigned char>(0x80 + random() % 0x80))
                          : static_cast<int>(random() % static_cast<unsigned>(tokenizer_.vocab_size()));
      ids.push_back(id);
    }
    const auto parts = stream(ids);
    EXPECT_EQ(joined(parts), tokenizer_.decode(ids)) << ::testing::PrintToString(ids);
    for (const auto& part : parts) EXPECT_TRUE(is_utf8(part)) << part;
  }
}

}  // namespace
}  // namespace pgolf::testing
