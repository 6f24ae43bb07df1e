#include "pickle_input.h"

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/base/text.h"

namespace pgolf {
namespace {

constexpr size_t max_pickle_bytes = 16 << 20;

}  // namespace

PickleInput::PickleInput(BytesView pickle, const std::string& name) : pickle_(pickle), name_(name) {
  if (pickle.size() > max_pickle_bytes) fail(format("is larger than %zu bytes", max_pickle_bytes));
}

void PickleInput::fail(const std::string& what) const {
  throw Error(ExitCode::bad_input, format("%s: data.pkl at byte %zu: %s", name_.c_str(), op_start_, what.c_str()),
              "only torch.save files of dicts, lists, strings, numbers and dense tensors are supported");
}

Op PickleInput::read_op() {
  op_start_ = position_;
  return static_cast<Op>(read<uint8_t>());
}

BytesView PickleInput::take(uint64_t size) {
  if (pickle_.size() - position_ < size) fail("is truncated");
  position_ += size;
  return pickle_.subspan(position_ - size, size);
}

double PickleInput::read_float() {
  uint64_t bits = 0;
  for (const std::byte byte : take(8)) bits = bits << 8 | static_cast<uint64_t>(byte);
  double value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

std::optional<int64_t> PickleInput::read_integer(uint64_t size) {
  const BytesView bytes = take(size);
  if (size > 8) return std::nullopt;
  uint64_t value = 0;
  for (size_t i = size; i-- > 0;) value = value << 8 | static_cast<uint64_t>(bytes[i]);
  if (size > 0 && size < 8 && (value >> (8 * size - 1) & 1) != 0) value |= ~uint64_t{0} << (8 * size);
  return static_cast<int64_t>(value);
}

Text PickleInput::read_string(uint64_t size) {
  const BytesView bytes = take(size);
  const std::string_view content(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (valid_utf8_bytes(content) != content.size()) fail("has a string that is not UTF-8");
  return text(content);
}

std::string PickleInput::read_line() {
  const std::string_view rest(reinterpret_cast<const char*>(pickle_.data()) + position_, pickle_.size() - position_);
  const size_t length = rest.substr(0, max_global_chars + 1).find('\n');
  if (length == std::string_view::npos) fail("has a name that is too long or truncated");
  position_ += length + 1;
  return std::string(rest.substr(0, length));
}

void PickleInput::check_frame(uint64_t size) {
  if (pickle_.size() - position_ < size) fail("is truncated");
}

}  // namespace pgolf
