#include "pgolf/artifact/codec.h"

#include <stdexcept>

namespace pgolf {
namespace {

struct Entry {
  Codec codec;
  const char *name, *suffix;
  bool (*starts)(BytesView file);
  Bytes (*compress)(BytesView bytes);
  Bytes (*decompress)(BytesView bytes, size_t max_bytes, const std::string& name);
};

constexpr Entry entries[] = {
    {Codec::zlib, "zlib", ".ptz", starts_like_zlib, [](BytesView bytes) { return zlib_compress(bytes, 9); }, zlib_decompress},
};

const Entry& entry(Codec codec) {
  for (const Entry& candidate : entries) {
    if (candidate.codec == codec) return candidate;
  }
  throw std::invalid_argument("unknown codec");
}

}  // namespace

const char* codec_name(Codec codec) {
  return codec == Codec::none ? "" : entry(codec).name;
}

Codec codec_of_suffix(std::string_view suffix) {
  for (const Entry& candidate : entries) {
    if (suffix == candidate.suffix) return candidate.codec;
  }
  return Codec::none;
}

std::vector<std::string> codec_suffixes() {
  std::vector<std::string> suffixes;
  for (const Entry& candidate : entries) suffixes.emplace_back(candidate.suffix);
  return suffixes;
}

Codec codec_of(BytesView file) {
  for (const Entry& candidate : entries) {
    if (candidate.starts(file)) return candidate.codec;
  }
  return Codec::none;
}

Bytes compress(Codec codec, BytesView bytes) {
  return codec == Codec::none ? Bytes(bytes.begin(), bytes.end()) : entry(codec).compress(bytes);
}

Bytes decompress(Codec codec, BytesView bytes, size_t max_bytes, const std::string& name) {
  return entry(codec).decompress(bytes, max_bytes, name);
}

}  // namespace pgolf
