#include "pgolf/data/byte_counts.h"

#include <algorithm>
#include <limits>
#include <string_view>

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/base/text.h"

namespace pgolf {
namespace {

int16_t piece_bytes(const Tokenizer& tokenizer, std::string_view piece) {
  if (piece.size() <= std::numeric_limits<int16_t>::max()) return static_cast<int16_t>(piece.size());
  throw Error(ExitCode::bad_input, format("%s has a piece of %zu bytes, \"%s\"", tokenizer.path().c_str(), piece.size(),
                                          printable(piece, 20).c_str()));
}

std::optional<std::array<uint16_t, 3>> byte_pieces_of_blank(const Tokenizer& tokenizer) {
  std::array<uint16_t, 3> ids{};
  size_t found = 0;
  for (int id = 0; id < std::min(tokenizer.vocab_size(), 1 << 16); ++id) {
    if (!tokenizer.is_byte(id)) continue;
    for (size_t i = 0; i < ids.size(); ++i) {
      if (tokenizer.byte_of(id) != static_cast<unsigned char>(kBlank[i])) continue;
      ids[i] = static_cast<uint16_t>(id);
      ++found;
    }
  }
  if (found != ids.size()) return std::nullopt;
  return ids;
}

}  // namespace

ByteCounts::ByteCounts(const Tokenizer& tokenizer, int vocab_size, ByteCounting counting) : counting_(counting) {
  const size_t size = static_cast<size_t>(std::max(tokenizer.vocab_size(), vocab_size));
  base_bytes_.assign(size, 0);
  has_leading_space_.assign(size, 0);
  is_boundary_.assign(size, 1);
  decoded_bytes_.assign(size, 0);
  is_control_.assign(size, 1);
  for (int id = 0; id < tokenizer.vocab_size(); ++id) {
    const auto i = static_cast<size_t>(id);
    is_control_[i] = tokenizer.is_control(id);
    if (tokenizer.is_control(id) || tokenizer.is_unknown(id) || tokenizer.is_unused(id)) continue;
    is_boundary_[i] = 0;
    if (tokenizer.is_byte(id)) {
      base_bytes_[i] = decoded_bytes_[i] = 1;
      continue;
    }
    std::string_view piece = tokenizer.id_to_piece(id);
    decoded_bytes_[i] = piece_bytes(tokenizer, with_spaces(std::string(piece)));
    if (piece.starts_with(kBlank)) {
      has_leading_space_[i] = 1;
      piece.remove_prefix(kBlank.size());
    }
    base_bytes_[i] = piece_bytes(tokenizer, piece);
  }
  if (counting == ByteCounting::rule) return;
  spelled_blank_ = byte_pieces_of_blank(tokenizer);
  dummy_blank_ = tokenizer.dummy_blank();
}

int ByteCounts::decoded_bytes(std::span<const uint16_t> stream, size_t at) const {
  const auto spells_blank = [&](size_t begin) {
    return spelled_blank_ && begin + 3 <= stream.size() && std::ranges::equal(stream.subspan(begin, 3), *spelled_blank_);
  };
  if (spells_blank(at - 1) || (at >= 2 && spells_blank(at - 2))) return 0;
  const size_t id = stream[at];
  const bool begins_text = is_control_[stream[at - 1]] && decoded_bytes_[id] > 0;
  const bool dummy =
      dummy_blank_ == DummyBlank::last || (dummy_blank_ == DummyBlank::first && (has_leading_space_[id] || spells_blank(at)));
  return decoded_bytes_[id] - (begins_text && dummy);
}

void ByteCounts::require_ids(std::span<const uint16_t> stream) const {
  const auto foreign = std::ranges::find_if(stream, [this](uint16_t id) { return id >= base_bytes_.size(); });
  if (foreign == stream.end()) return;
  throw Error(ExitCode::bad_input,
              format("token id %d is outside the vocabulary of %zu tokens", int{*foreign}, base_bytes_.size()));
}

void ByteCounts::require_text(std::span<const uint16_t> stream) const {
  require_ids(stream);
  for (size_t at = 1; at < stream.size(); ++at) {
    if (target_bytes(stream, at) > 0) return;
  }
  throw Error(ExitCode::bad_input,
              format("the %zu validation tokens stand for no byte of text, so there are no bits per byte", stream.size()),
              "use validation shards with text, and the tokenizer that they were made with");
}

int64_t ByteCounts::count(std::span<const uint16_t> stream, int64_t first, int64_t targets) const {
  if (first < 0 || targets < 0 || first + targets >= static_cast<int64_t>(stream.size()))
    throw Error(ExitCode::internal, "bytes of targets that the stream does not have");
  const auto begin = static_cast<size_t>(first), size = static_cast<size_t>(targets);
  require_ids(stream.subspan(begin, size + 1));
  int64_t bytes = 0;
  for (size_t at = begin + 1; at <= begin + size; ++at) bytes += target_bytes(stream, at);
  return bytes;
}

}  // namespace pgolf
