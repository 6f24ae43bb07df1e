// Readers of what strangers send, each as a function of any bytes.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "pgolf/base/files.h"

namespace pgolf::fuzz {

struct Target {
  const char* name;
  /// Reads the bytes; a refusal (Error, ApiError) is as good as success. Anything else that happens is a fault.
  void (*read)(BytesView input);
  /// Valid inputs to start from, small.
  std::vector<Bytes> (*seeds)();
};

inline Bytes bytes_of(std::string_view text) {
  const BytesView view = as_bytes(text);
  return {view.begin(), view.end()};
}
inline std::string_view text_of(BytesView input) {
  return {reinterpret_cast<const char*>(input.data()), input.size()};
}

std::span<const Target> targets();
/// Null if there is none of that name.
const Target* find_target(std::string_view name);

}  // namespace pgolf::fuzz
