// Pickles written by hand, opcode by opcode.
#pragma once

#include <string>

#include "pgolf/artifact/pickle.h"
#include "support.h"

namespace pgolf::artifact_test {

/// Storage "0" holds six float32: 0, 1, ..., 5.
inline std::shared_ptr<const Bytes> six_floats(const std::string& key) {
  if (key != "0") throw Error(ExitCode::bad_input, "no such storage");
  return tensor<float>(DType::float32, {6}, {0, 1, 2, 3, 4, 5}).bytes;
}

inline Value read(const std::string& body) {
  return unpickle(to_bytes("\x80\x02" + body), "f.pt", six_floats);
}

inline void refuse(const std::string& body, std::string_view part) {
  expect_bad_input([&] { read(body); }, part);
}

inline std::string zeros(size_t count) {
  return std::string(count, '\0');
}
inline std::string unicode(const std::string& text) {
  return "X" + std::string(1, static_cast<char>(text.size())) + zeros(3) + text;
}
inline std::string small(int value) {
  return "K" + std::string(1, static_cast<char>(value));
}

inline std::string storage(const std::string& type = "FloatStorage", const std::string& key = "0",
                           const std::string& numel = small(6)) {
  return "(" + unicode("storage") + "ctorch\n" + type + "\n" + unicode(key) + unicode("cpu") + numel + "tQ";
}

inline const std::string no_hooks = "ccollections\nOrderedDict\n)R";

/// A call of _rebuild_tensor_v2; sizes and strides are opcodes that each build a tuple.
inline std::string rebuild(const std::string& offset, const std::string& sizes, const std::string& strides,
                           const std::string& source = storage()) {
  return "ctorch._utils\n_rebuild_tensor_v2\n(" + source + offset + sizes + strides + "\x89" + no_hooks + "tR";
}

inline std::string pair(int a, int b) {
  return small(a) + small(b) + "\x86";
}
inline std::string big(int64_t value) {
  std::string out = "\x8a\x08";
  for (int i = 0; i < 8; ++i) out += static_cast<char>(value >> (8 * i));
  return out;
}

}  // namespace pgolf::artifact_test
