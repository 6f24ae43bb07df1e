#include "decode_stream.h"

#include <algorithm>

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"

namespace pgolf {

Bytes decode_stream(const char* kind, BytesView bytes, size_t max_bytes, const std::string& name,
                    const std::function<DecodeStep(DecodeBuffers&)>& decode) {
  const auto fail = [&](const std::string& what) { throw Error(ExitCode::bad_input, name + ": " + what); };
  const auto too_large = [&] { fail(format("unpacks to more than the limit of %zu bytes", max_bytes)); };
  Bytes out;
  size_t produced = 0;
  DecodeBuffers buffers{bytes, {}};
  DecodeStep step;
  while (step.status != DecodeStep::end) {
    if (produced == out.size()) {
      // One byte beyond the limit distinguishes "exactly max_bytes" from "more".
      if (produced > max_bytes) too_large();
      const size_t wanted = std::max<size_t>(2 * out.size(), bytes.size() + 4096);
      out.resize(wanted > max_bytes ? max_bytes + 1 : wanted);
    }
    buffers.out = std::span(out).subspan(produced);
    const size_t unread = buffers.in.size();
    step = decode(buffers);
    const bool stuck = buffers.in.size() == unread && buffers.out.size() == out.size() - produced;
    produced = out.size() - buffers.out.size();
    if (step.status == DecodeStep::more && buffers.in.empty() && !buffers.out.empty())
      fail(format("the %s stream ends early; the file is truncated", kind));
    if (step.status == DecodeStep::damaged || (step.status == DecodeStep::more && stuck)) {
      fail(format("not a valid %s stream near byte %zu (%s)", kind, bytes.size() - buffers.in.size(),
                  step.detail != nullptr ? step.detail : "no detail"));
    }
  }
  if (produced > max_bytes) too_large();
  if (!buffers.in.empty()) fail(format("%zu bytes follow the end of the %s stream", buffers.in.size(), kind));
  out.resize(produced);
  return out;
}

}  // namespace pgolf
