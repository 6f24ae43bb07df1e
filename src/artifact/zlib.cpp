#include <zlib.h>

#include <algorithm>
#include <limits>
#include <new>
#include <stdexcept>

#include "pgolf/artifact/codec.h"
#include "pgolf/base/error.h"
#include "pgolf/base/format.h"

namespace pgolf {
namespace {

// zlib uses 32-bit sizes; longer buffers are passed in pieces.
uInt piece(size_t remaining) {
  return static_cast<uInt>(std::min<size_t>(remaining, std::numeric_limits<uInt>::max()));
}

struct Inflater {
  z_stream stream{};
  Inflater() {
    if (inflateInit(&stream) != Z_OK) throw std::bad_alloc();
  }
  ~Inflater() { inflateEnd(&stream); }
};

}  // namespace

/// RFC 1950, 2.2: method 8, a window of at most 32 KiB, a check that makes the first two bytes a multiple of 31.
bool starts_like_zlib(BytesView file) {
  if (file.size() < 2) return false;
  const auto method = static_cast<unsigned>(file[0]), flags = static_cast<unsigned>(file[1]);
  return (method & 15) == 8 && method >> 4 <= 7 && (method * 256 + flags) % 31 == 0;
}

Bytes zlib_compress(BytesView bytes, int level) {
  uLongf size = compressBound(bytes.size());
  Bytes out(size);
  const int status =
      ::compress2(reinterpret_cast<Bytef*>(out.data()), &size, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size(), level);
  if (status == Z_MEM_ERROR) throw std::bad_alloc();
  if (status != Z_OK) throw std::invalid_argument(format("zlib_compress: level %d is not 0 to 9", level));
  out.resize(size);
  return out;
}

Bytes zlib_decompress(BytesView bytes, size_t max_bytes, const std::string& name) {
  const auto fail = [&](const std::string& what) { throw Error(ExitCode::bad_input, name + ": " + what); };
  Inflater inflater;
  z_stream& stream = inflater.stream;
  Bytes out;
  size_t consumed = 0, produced = 0;
  int status = Z_OK;
  while (status != Z_STREAM_END) {
    if (produced == out.size()) {
      // One byte beyond the limit distinguishes "exactly max_bytes" from "more".
      if (produced > max_bytes) fail(format("unpacks to more than the limit of %zu bytes", max_bytes));
      const size_t wanted = std::max<size_t>(2 * out.size(), bytes.size() + 4096);
      out.resize(wanted > max_bytes ? max_bytes + 1 : wanted);
    }
    const uInt in = piece(bytes.size() - consumed), room = piece(out.size() - produced);
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(bytes.data() + consumed));
    stream.avail_in = in;
    stream.next_out = reinterpret_cast<Bytef*>(out.data() + produced);
    stream.avail_out = room;
    status = ::inflate(&stream, Z_NO_FLUSH);
    consumed += in - stream.avail_in;
    produced += room - stream.avail_out;
    if (status == Z_MEM_ERROR) throw std::bad_alloc();
    if (status == Z_BUF_ERROR || (status == Z_OK && consumed == bytes.size() && stream.avail_out > 0)) {
      fail("the zlib stream ends early; the file is truncated");
    }
    if (status != Z_OK && status != Z_STREAM_END) {
      fail(format("not a zlib stream, or damaged, near byte %zu (%s)", consumed,
                  stream.msg != nullptr ? stream.msg : "no detail"));
    }
  }
  if (produced > max_bytes) fail(format("unpacks to more than the limit of %zu bytes", max_bytes));
  if (consumed != bytes.size()) fail(format("%zu bytes follow the end of the zlib stream", bytes.size() - consumed));
  out.resize(produced);
  return out;
}

}  // namespace pgolf
