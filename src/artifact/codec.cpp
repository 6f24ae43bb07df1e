#include "pgolf/artifact/codec.h"

#include <stdexcept>

namespace pgolf {
namespace {

const CodecEntry& entry(Codec codec) {
  for (const CodecEntry& candidate : codecs) {
    if (candidate.codec == codec) return candidate;
  }
  throw std::invalid_argument("unknown codec");
}

}  // namespace

const char* codec_name(Codec codec) {
  return codec == Codec::none ? "" : entry(codec).name;
}

Codec codec_of(BytesView file) {
  for (const CodecEntry& candidate : codecs) {
    if (candidate.starts(file)) return candidate.codec;
  }
  return Codec::none;
}

Bytes compress(Codec codec, BytesView bytes) {
  return codec == Codec::none ? Bytes(bytes.begin(), bytes.end()) : entry(codec).compress(bytes);
}

Bytes decompress(Codec codec, BytesView bytes, size_t max_bytes, const std::string& name) {
  return byte_unshuffle(entry(codec).decompress(bytes, max_bytes, name));
}

}  // namespace pgolf
