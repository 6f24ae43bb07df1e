// zlib streams, as Python's zlib.compress and zlib.decompress make and read them.
#pragma once

#include <cstddef>
#include <string>

#include "pgolf/base/files.h"

namespace pgolf {

/// level 0 to 9. The bytes are those of Python's zlib.compress(data, level) with the same zlib library.
Bytes zlib_compress(BytesView bytes, int level);

/// Throws Error(bad_input), naming name, if bytes is not exactly one whole zlib stream or holds more than max_bytes.
/// Memory grows with what comes out, never with what a header claims.
Bytes zlib_decompress(BytesView bytes, size_t max_bytes, const std::string& name);

}  // namespace pgolf
