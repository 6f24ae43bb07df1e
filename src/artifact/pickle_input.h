// The bytes of a pickle, read front to back.
#pragma once

#include <cstring>
#include <optional>
#include <string>

#include "pgolf/artifact/value.h"
#include "pickle_format.h"

namespace pgolf {

class PickleInput {
 public:
  /// Both must outlive the object. Error(bad_input) if the pickle is too large.
  PickleInput(BytesView pickle, const std::string& name);

  /// Error(bad_input) that names the file and the byte of the last opcode.
  [[noreturn]] void fail(const std::string& what) const;

  Op read_op();
  bool at_first_op() const { return op_start_ == 0; }
  bool at_end() const { return position_ == pickle_.size(); }

  /// All of these fail if that many bytes are not left.
  BytesView take(uint64_t size);
  template <class T>
  T read() {
    T value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }
  double read_float();
  /// A signed integer of that many bytes; nullopt if it may have more than 64 bits.
  std::optional<int64_t> read_integer(uint64_t size);
  /// Fails if it is not UTF-8.
  Text read_string(uint64_t size);
  /// Up to the end of the line, at most max_global_chars.
  std::string read_line();
  /// The announced length of a frame. Frames only help programs that read from a stream.
  void check_frame(uint64_t size);

 private:
  BytesView pickle_;
  const std::string& name_;
  size_t position_ = 0, op_start_ = 0;
};

}  // namespace pgolf
