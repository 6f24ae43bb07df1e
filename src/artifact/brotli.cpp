#include <brotli/decode.h>
#include <brotli/encode.h>

#include <array>
#include <memory>
#include <new>
#include <stdexcept>

#include "byte_shuffle.h"
#include "decode_stream.h"
#include "pgolf/artifact/codec.h"
#include "pgolf/artifact/safetensors.h"
#include "pgolf/artifact/zip.h"

namespace pgolf {
namespace {

class Decoder {
 public:
  Decoder() : state_(BrotliDecoderCreateInstance(nullptr, nullptr, nullptr), BrotliDecoderDestroyInstance) {
    if (state_ == nullptr) throw std::bad_alloc();
  }

  DecodeStep decode(DecodeBuffers& buffers) {
    size_t unread = buffers.in.size(), room = buffers.out.size();
    auto in = reinterpret_cast<const uint8_t*>(buffers.in.data());
    auto out = reinterpret_cast<uint8_t*>(buffers.out.data());
    const auto result = BrotliDecoderDecompressStream(state_.get(), &unread, &in, &room, &out, nullptr);
    buffers.advance(buffers.in.size() - unread, buffers.out.size() - room);
    if (result == BROTLI_DECODER_RESULT_SUCCESS) return {DecodeStep::end};
    if (result != BROTLI_DECODER_RESULT_ERROR) return {DecodeStep::more};
    const BrotliDecoderErrorCode code = BrotliDecoderGetErrorCode(state_.get());
    if (code <= BROTLI_DECODER_ERROR_ALLOC_CONTEXT_MODES && code >= BROTLI_DECODER_ERROR_ALLOC_BLOCK_TYPE_TREES)
      throw std::bad_alloc();
    return {DecodeStep::damaged, BrotliDecoderErrorString(code)};
  }

 private:
  std::unique_ptr<BrotliDecoderState, decltype(&BrotliDecoderDestroyInstance)> state_;
};

}  // namespace

bool unpacks_as_brotli(BytesView file) {
  Decoder decoder;
  std::array<std::byte, 9> start;  // what the checks below look at
  DecodeBuffers buffers{file, start};
  while (!buffers.out.empty()) {
    const size_t unread = buffers.in.size(), room = buffers.out.size();
    const bool more = decoder.decode(buffers).status == DecodeStep::more;
    if (!more || (buffers.in.size() == unread && buffers.out.size() == room)) break;
  }
  const BytesView unpacked = BytesView(start).first(start.size() - buffers.out.size());
  return starts_like_zip(unpacked) || starts_like_shuffled(unpacked) || starts_like_safetensors(unpacked);
}

Bytes brotli_compress(BytesView bytes) {
  size_t size = BrotliEncoderMaxCompressedSize(bytes.size());
  Bytes out(size);
  const auto done =
      BrotliEncoderCompress(BROTLI_MAX_QUALITY, BROTLI_DEFAULT_WINDOW, BROTLI_MODE_GENERIC, bytes.size(),
                            reinterpret_cast<const uint8_t*>(bytes.data()), &size, reinterpret_cast<uint8_t*>(out.data()));
  if (done != BROTLI_TRUE) throw std::bad_alloc();  // the only failure with room for any output
  out.resize(size);
  return out;
}

Bytes brotli_decompress(BytesView bytes, size_t max_bytes, const std::string& name) {
  Decoder decoder;
  return decode_stream("Brotli", bytes, max_bytes, name, [&](DecodeBuffers& buffers) { return decoder.decode(buffers); });
}

}  // namespace pgolf
