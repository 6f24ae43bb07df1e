// The loop around a decompression library.
#pragma once

#include <functional>
#include <span>
#include <string>

#include "pgolf/base/files.h"

namespace pgolf {

/// Input that was not read and room that was not filled yet.
struct DecodeBuffers {
  BytesView in;
  std::span<std::byte> out;

  void advance(size_t bytes_read, size_t bytes_written) {
    in = in.subspan(bytes_read);
    out = out.subspan(bytes_written);
  }
};

struct DecodeStep {
  enum Status { more, end, damaged } status = more;
  const char* detail = nullptr;  ///< of damaged; may be missing
};

/// Calls decode, which reads, writes and advances the buffers, until the stream ends. kind names the format in messages; errors
/// are those of decompress() in codec.h.
Bytes decode_stream(const char* kind, BytesView bytes, size_t max_bytes, const std::string& name,
                    const std::function<DecodeStep(DecodeBuffers&)>& decode);

}  // namespace pgolf
