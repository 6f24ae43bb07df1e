#include "pgolf/data/sentencepiece_model.h"

#include <bit>
#include <cstdint>
#include <functional>

#include "pgolf/base/error.h"

namespace pgolf {
namespace {

/// A field of a protocol buffer: `number` of a varint or fixed32, `bytes` of anything with a length.
struct Field {
  uint64_t id = 0, number = 0;
  std::string_view bytes;

  float as_float() const { return std::bit_cast<float>(static_cast<uint32_t>(number)); }
};

/// Walks the fields of a message. Throws Error(bad_input) where it is malformed.
class Message {
 public:
  Message(std::string_view bytes, const std::string& origin) : rest_(bytes), origin_(origin) {}

  void each(const std::function<void(const Field&)>& visit) {
    while (!rest_.empty()) {
      const uint64_t tag = varint();
      Field field;
      field.id = tag >> 3;
      switch (tag & 7) {
        case 0:
          field.number = varint();
          break;
        case 1:
          fixed(8);
          break;
        case 2:
          field.bytes = take(varint());
          break;
        case 5:
          field.number = fixed(4);
          break;
        default:
          fail();
      }
      visit(field);
    }
  }

 private:
  [[noreturn]] void fail() const { throw Error(ExitCode::bad_input, origin_ + " is not a SentencePiece model"); }
  std::string_view take(uint64_t size) {
    if (size > rest_.size()) fail();
    const std::string_view taken = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return taken;
  }
  uint64_t fixed(int size) {
    uint64_t value = 0;
    const std::string_view bytes = take(static_cast<uint64_t>(size));
    for (int i = size - 1; i >= 0; --i) value = value << 8 | static_cast<unsigned char>(bytes[static_cast<size_t>(i)]);
    return value;
  }
  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1).front());
      value |= uint64_t{byte & 0x7fu} << shift;
      if (byte < 0x80) return value;
    }
    fail();
  }

  std::string_view rest_;
  const std::string& origin_;
};

}  // namespace

SentencePieceModel read_sentencepiece(std::string_view serialized, const std::string& origin) {
  SentencePieceModel model;
  const auto piece = [&](std::string_view bytes) {
    SentencePieceModel::Piece read;
    Message(bytes, origin).each([&](const Field& field) {
      if (field.id == 1) read.text = field.bytes;
      if (field.id == 2) read.score = field.as_float();
      if (field.id == 3) read.type = static_cast<SentencePieceModel::Type>(field.number);
    });
    model.pieces.push_back(std::move(read));
  };
  const auto trainer = [&](const Field& field) {
    if (field.id == 3) model.kind = static_cast<SentencePieceModel::Kind>(field.number);
    if (field.id == 24) model.blank_at_end = field.number != 0;
    if (field.id == 35) model.byte_fallback = field.number != 0;
  };
  const auto normalizer = [&](const Field& field) {
    if (field.id == 2) model.charsmap = field.bytes;
    if (field.id == 3) model.dummy_blank = field.number != 0;
    if (field.id == 4) model.remove_extra_spaces = field.number != 0;
    if (field.id == 5) model.escape_spaces = field.number != 0;
  };
  Message(serialized, origin).each([&](const Field& field) {
    if (field.id == 1) piece(field.bytes);
    if (field.id == 2) Message(field.bytes, origin).each(trainer);
    if (field.id == 3) Message(field.bytes, origin).each(normalizer);
  });
  return model;
}

}  // namespace pgolf
