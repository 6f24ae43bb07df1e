#include <lzma.h>

#include <cstring>
#include <new>
#include <stdexcept>

#include "decode_stream.h"
#include "pgolf/artifact/codec.h"
#include "pgolf/base/format.h"

namespace pgolf {
namespace {

constexpr uint64_t memory_limit = uint64_t{128} << 20;

struct Coder {
  lzma_stream stream = LZMA_STREAM_INIT;
  ~Coder() { lzma_end(&stream); }
};

const char* describe(lzma_ret status) {
  switch (status) {
    case LZMA_MEMLIMIT_ERROR:
      return "its dictionary is too large";
    case LZMA_FORMAT_ERROR:
      return "no xz header";
    case LZMA_OPTIONS_ERROR:
      return "unsupported options";
    case LZMA_DATA_ERROR:
      return "damaged data";
    default:
      return nullptr;
  }
}

}  // namespace

bool starts_like_xz(BytesView file) {
  constexpr char magic[] = "\xfd\x37zXZ";  // its last byte is the zero at the end of the literal
  return file.size() >= sizeof magic && std::memcmp(file.data(), magic, sizeof magic) == 0;
}

Bytes lzma_compress(BytesView bytes, int level) {
  if (level < 0 || level > 9) throw std::invalid_argument(format("lzma_compress: level %d is not 0 to 9", level));
  Coder coder;
  lzma_stream& stream = coder.stream;
  if (lzma_easy_encoder(&stream, static_cast<uint32_t>(level), LZMA_CHECK_CRC64) != LZMA_OK) throw std::bad_alloc();
  Bytes out(lzma_stream_buffer_bound(bytes.size()));
  stream.next_in = reinterpret_cast<const uint8_t*>(bytes.data());
  stream.avail_in = bytes.size();
  stream.next_out = reinterpret_cast<uint8_t*>(out.data());
  stream.avail_out = out.size();
  const lzma_ret status = lzma_code(&stream, LZMA_FINISH);
  if (status == LZMA_MEM_ERROR) throw std::bad_alloc();
  if (status != LZMA_STREAM_END) throw std::logic_error(format("lzma_compress: status %d", static_cast<int>(status)));
  out.resize(out.size() - stream.avail_out);
  return out;
}

Bytes lzma_decompress(BytesView bytes, size_t max_bytes, const std::string& name) {
  Coder coder;
  if (lzma_stream_decoder(&coder.stream, memory_limit, 0) != LZMA_OK) throw std::bad_alloc();
  return decode_stream("xz", bytes, max_bytes, name, [&stream = coder.stream](DecodeBuffers& buffers) -> DecodeStep {
    stream.next_in = reinterpret_cast<const uint8_t*>(buffers.in.data());
    stream.avail_in = buffers.in.size();
    stream.next_out = reinterpret_cast<uint8_t*>(buffers.out.data());
    stream.avail_out = buffers.out.size();
    const lzma_ret status = lzma_code(&stream, LZMA_RUN);
    buffers.advance(buffers.in.size() - stream.avail_in, buffers.out.size() - stream.avail_out);
    if (status == LZMA_MEM_ERROR) throw std::bad_alloc();
    if (status == LZMA_STREAM_END) return {DecodeStep::end};
    if (status == LZMA_OK || status == LZMA_BUF_ERROR) return {DecodeStep::more};
    return {DecodeStep::damaged, describe(status)};
  });
}

}  // namespace pgolf
