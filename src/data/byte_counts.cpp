#include "pgolf/data/byte_counts.h"

#include <algorithm>
#include <string_view>

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"

namespace pgolf {

ByteCounts::ByteCounts(const Tokenizer& tokenizer, int vocab_size) {
  constexpr std::string_view blank = "\xe2\x96\x81";  // U+2581
  const size_t size = static_cast<size_t>(std::max(tokenizer.vocab_size(), vocab_size));
  base_bytes_.assign(size, 0);
  has_leading_space_.assign(size, 0);
  is_boundary_.assign(size, 1);
  for (int id = 0; id < tokenizer.vocab_size(); ++id) {
    if (tokenizer.is_control(id) || tokenizer.is_unknown(id) || tokenizer.is_unused(id)) continue;
    const auto i = static_cast<size_t>(id);
    is_boundary_[i] = 0;
    if (tokenizer.is_byte(id)) {
      base_bytes_[i] = 1;
      continue;
    }
    std::string_view piece = tokenizer.id_to_piece(id);
    if (piece.starts_with(blank)) {
      has_leading_space_[i] = 1;
      piece.remove_prefix(blank.size());
    }
    base_bytes_[i] = static_cast<int16_t>(piece.size());
  }
}

template <class T>
int64_t ByteCounts::count(std::span<const T> prev, std::span<const T> target) const {
  const auto index = [this](T id) {
    const auto i = static_cast<size_t>(id);
    if (i >= base_bytes_.size()) {
      throw Error(ExitCode::bad_input, format("token id %lld is outside the vocabulary of %zu tokens", static_cast<long long>(id),
                                              base_bytes_.size()));
    }
    return i;
  };
  if (prev.size() != target.size()) throw Error(ExitCode::internal, "byte counts need one previous token per target");
  int64_t bytes = 0;
  for (size_t i = 0; i < target.size(); ++i) {
    const size_t t = index(target[i]);
    bytes += base_bytes_[t] + (has_leading_space_[t] & (is_boundary_[index(prev[i])] ^ 1));
  }
  return bytes;
}

template int64_t ByteCounts::count(std::span<const uint16_t>, std::span<const uint16_t>) const;
template int64_t ByteCounts::count(std::span<const int64_t>, std::span<const int64_t>) const;

}  // namespace pgolf
