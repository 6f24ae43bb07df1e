#include "byte_shuffle.h"

#include <cstring>

#include "pgolf/artifact/codec.h"

namespace pgolf {

bool starts_like_shuffled(BytesView bytes) {
  return bytes.size() > std::size(shuffle_magic) && std::memcmp(bytes.data(), shuffle_magic, std::size(shuffle_magic)) == 0;
}

Bytes byte_shuffle(BytesView bytes) {
  constexpr size_t stride = 2;
  if (bytes.size() < stride) return {bytes.begin(), bytes.end()};
  Bytes out;
  out.reserve(std::size(shuffle_magic) + 1 + bytes.size());
  for (const char letter : shuffle_magic) out.push_back(static_cast<std::byte>(letter));
  out.push_back(std::byte{stride});
  for (size_t first = 0; first < stride; ++first) {
    for (size_t i = first; i < bytes.size(); i += stride) out.push_back(bytes[i]);
  }
  return out;
}

Bytes byte_unshuffle(Bytes bytes) {
  if (!starts_like_shuffled(bytes)) return bytes;
  const BytesView shuffled = BytesView(bytes).subspan(std::size(shuffle_magic) + 1);
  const auto stride = static_cast<size_t>(bytes[std::size(shuffle_magic)]);
  if (stride < 2) return {shuffled.begin(), shuffled.end()};
  Bytes out(shuffled.size());
  size_t next = 0;
  for (size_t first = 0; first < stride; ++first) {
    for (size_t i = first; i < out.size(); i += stride) out[i] = shuffled[next++];
  }
  return out;
}

}  // namespace pgolf
