// Codecs: what the bytes of an artifact are compressed with. A new one is a value, its functions here, and a line in codec.cpp.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "pgolf/base/files.h"

namespace pgolf {

enum class Codec { none, zlib };

/// "zlib"; of none, nothing.
const char* codec_name(Codec codec);

/// Of the files that artifacts under it are: ".ptz" is zlib; none if no codec has this suffix. And all of them.
Codec codec_of_suffix(std::string_view suffix);
std::vector<std::string> codec_suffixes();

/// The codec whose streams begin like these bytes; none if there is no such codec.
Codec codec_of(BytesView file);

/// As small as the codec can make it.
Bytes compress(Codec codec, BytesView bytes);

/// Throws Error(bad_input), naming name, if bytes is not exactly one whole stream or holds more than max_bytes. Memory grows with
/// what comes out, never with what a header claims.
Bytes decompress(Codec codec, BytesView bytes, size_t max_bytes, const std::string& name);

/// zlib streams, as Python's zlib.compress and zlib.decompress make and read them. level 0 to 9; the bytes are those of Python's
/// zlib.compress(data, level) with the same zlib library.
Bytes zlib_compress(BytesView bytes, int level);
Bytes zlib_decompress(BytesView bytes, size_t max_bytes, const std::string& name);
bool starts_like_zlib(BytesView file);

}  // namespace pgolf
