// Codecs: compression of artifacts. To add one: an enum value, its functions and an entry here, and a file with the functions.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "pgolf/base/files.h"

namespace pgolf {

enum class Codec { none, zlib };

/// "zlib"; "" for none.
const char* codec_name(Codec codec);

/// The codec of a file suffix (".ptz": zlib); none if no codec has this suffix. And all suffixes.
Codec codec_of_suffix(std::string_view suffix);
std::vector<std::string> codec_suffixes();

/// The codec whose streams start like these bytes; none if there is none.
Codec codec_of(BytesView file);

/// Compresses at the codec's highest level.
Bytes compress(Codec codec, BytesView bytes);

/// Throws Error(bad_input), naming name, if bytes is not exactly one complete stream or unpacks to more than max_bytes. Memory
/// grows with the output, not with the size that a header declares.
Bytes decompress(Codec codec, BytesView bytes, size_t max_bytes, const std::string& name);

/// zlib streams, as written and read by Python's zlib module. level 0 to 9; the bytes equal Python's zlib.compress(data, level)
/// with the same zlib library.
Bytes zlib_compress(BytesView bytes, int level);
Bytes zlib_decompress(BytesView bytes, size_t max_bytes, const std::string& name);
bool starts_like_zlib(BytesView file);

struct CodecEntry {
  Codec codec;
  const char *name, *suffix;
  bool (*starts)(BytesView file);
  Bytes (*compress)(BytesView bytes);
  Bytes (*decompress)(BytesView bytes, size_t max_bytes, const std::string& name);
};

inline constexpr CodecEntry codecs[] = {
    {Codec::zlib, "zlib", ".ptz", starts_like_zlib, [](BytesView bytes) { return zlib_compress(bytes, 9); }, zlib_decompress},
};

}  // namespace pgolf
