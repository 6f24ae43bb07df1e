// Codecs: compression of artifacts. To add one: an enum value, its functions and an entry here, and a file with the functions.
#pragma once

#include <cstddef>
#include <string>

#include "pgolf/base/files.h"

namespace pgolf {

enum class Codec { none, zlib, lzma, brotli };

/// "zlib"; "" for none.
const char* codec_name(Codec codec);

/// The codec whose streams start like these bytes; none if there is none.
Codec codec_of(BytesView file);

/// Compresses at the codec's highest level.
Bytes compress(Codec codec, BytesView bytes);

/// The bytes before compress(), whether or not they were shuffled. Throws Error(bad_input), naming name, if bytes is not exactly
/// one complete stream or unpacks to more than max_bytes. Memory grows with the output, not with the size that a header declares.
Bytes decompress(Codec codec, BytesView bytes, size_t max_bytes, const std::string& name);

/// zlib streams, as written and read by Python's zlib module. level 0 to 9; the bytes equal Python's zlib.compress(data, level)
/// with the same zlib library.
Bytes zlib_compress(BytesView bytes, int level);
Bytes zlib_decompress(BytesView bytes, size_t max_bytes, const std::string& name);
bool starts_like_zlib(BytesView file);

/// xz streams with CRC64, as Python's lzma.compress(data, preset=level) writes them. level 0 to 9. A stream whose dictionary
/// needs more than 128 MiB (level 9: 65 MiB) is refused.
Bytes lzma_compress(BytesView bytes, int level);
Bytes lzma_decompress(BytesView bytes, size_t max_bytes, const std::string& name);
bool starts_like_xz(BytesView file);

/// Brotli streams (RFC 7932) of quality 11 and window 2^22, the defaults of Python's brotli.compress(data). They have neither a
/// magic number nor a checksum: a stream is recognized by unpacking to the start of a zip archive, of safetensors or of shuffled
/// bytes.
Bytes brotli_compress(BytesView bytes);
Bytes brotli_decompress(BytesView bytes, size_t max_bytes, const std::string& name);
bool unpacks_as_brotli(BytesView file);

/// "BSHF", the stride 2, then the bytes at even positions, then those at odd ones, which separates the halves of 16-bit numbers.
/// Fewer than two bytes stay as they are. The inverse accepts any stride; bytes without "BSHF" are returned as they are.
Bytes byte_shuffle(BytesView bytes);
Bytes byte_unshuffle(Bytes bytes);

struct CodecEntry {
  Codec codec;
  const char* name;
  bool (*starts)(BytesView file);
  Bytes (*compress)(BytesView bytes);
  Bytes (*decompress)(BytesView bytes, size_t max_bytes, const std::string& name);
};

/// In the order in which codec_of() tries them.
inline constexpr CodecEntry codecs[] = {
    {Codec::zlib, "zlib", starts_like_zlib, [](BytesView bytes) { return zlib_compress(bytes, 9); }, zlib_decompress},
    {Codec::lzma, "lzma", starts_like_xz, [](BytesView bytes) { return lzma_compress(bytes, 9); }, lzma_decompress},
    {Codec::brotli, "brotli", unpacks_as_brotli, [](BytesView bytes) { return brotli_compress(byte_shuffle(bytes)); },
     brotli_decompress},
};

}  // namespace pgolf
