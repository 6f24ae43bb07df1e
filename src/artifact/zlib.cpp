#include <zlib.h>

#include <algorithm>
#include <limits>
#include <new>
#include <stdexcept>

#include "decode_stream.h"
#include "pgolf/artifact/codec.h"
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
  Inflater inflater;
  return decode_stream("zlib", bytes, max_bytes, name, [&stream = inflater.stream](DecodeBuffers& buffers) -> DecodeStep {
    const uInt in = piece(buffers.in.size()), room = piece(buffers.out.size());
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(buffers.in.data()));
    stream.avail_in = in;
    stream.next_out = reinterpret_cast<Bytef*>(buffers.out.data());
    stream.avail_out = room;
    const int status = ::inflate(&stream, Z_NO_FLUSH);
    buffers.advance(in - stream.avail_in, room - stream.avail_out);
    if (status == Z_MEM_ERROR) throw std::bad_alloc();
    if (status == Z_STREAM_END) return {DecodeStep::end};
    if (status == Z_OK || status == Z_BUF_ERROR) return {DecodeStep::more};
    return {DecodeStep::damaged, stream.msg};
  });
}

}  // namespace pgolf
