#include "pgolf/data/text_stream.h"

#include <algorithm>

namespace pgolf {
namespace {

/// Length of a UTF-8 character from its first byte; 1 if it is not a valid first byte.
size_t character_length(unsigned char first) {
  if (first >= 0xC2 && first <= 0xDF) return 2;
  if (first >= 0xE0 && first <= 0xEF) return 3;
  if (first >= 0xF0 && first <= 0xF4) return 4;
  return 1;
}

bool continues_character(unsigned char byte) {
  return (byte & 0xC0) == 0x80;
}

}  // namespace

bool TextStream::ends_within_a_character() const {
  std::vector<unsigned char> bytes;  // of the trailing byte pieces
  for (auto id = tail_.rbegin(); id != tail_.rend() && tokenizer_.is_byte(*id); ++id) bytes.push_back(tokenizer_.byte_of(*id));
  std::reverse(bytes.begin(), bytes.end());
  for (size_t at = 0; at < bytes.size();) {
    const size_t length = character_length(bytes[at]);
    size_t have = 1;
    while (have < length && at + have < bytes.size() && continues_character(bytes[at + have])) ++have;
    if (have < length && at + have == bytes.size()) return true;
    at += have == length ? length : 1;
  }
  return false;
}

std::string TextStream::take() {
  const std::string text = tokenizer_.decode(tail_);
  std::string fresh = text.substr(std::min(taken_, text.size()));
  taken_ = text.size();
  if (tail_.size() > 1) {
    const int last = tail_.back();
    if (const std::string alone = tokenizer_.decode({last}); !alone.empty()) {
      tail_ = {last};
      taken_ = alone.size();
    }
  }
  return fresh;
}

std::string TextStream::push(int id) {
  tail_.push_back(id);
  return ends_within_a_character() ? std::string() : take();
}

std::string TextStream::finish() {
  return take();
}

}  // namespace pgolf
