#include "pgolf/study/values.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/base/text.h"
#include "pgolf/config/options.h"

namespace pgolf {
namespace {

constexpr int64_t kMaxValues = 10'000;
constexpr size_t kMaxDigits = 15;

/// digits * 10^-decimals, so that 0.1 + 0.2 is 0.3.
struct Decimal {
  int64_t digits = 0;
  int decimals = 0;
};

std::optional<Decimal> parse_decimal(std::string_view text) {
  Decimal value;
  const bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  bool point = false;
  size_t digits = 0;
  for (const char c : text) {
    if (c == '.' && !point) {
      point = true;
    } else if (c >= '0' && c <= '9' && ++digits <= kMaxDigits) {
      value.digits = 10 * value.digits + (c - '0');
      value.decimals += point ? 1 : 0;
    } else {
      return std::nullopt;
    }
  }
  if (digits == 0) return std::nullopt;
  if (negative) value.digits = -value.digits;
  return value;
}

int64_t at_scale(const Decimal& value, int decimals) {
  int64_t digits = value.digits;
  for (int i = value.decimals; i < decimals; ++i) digits *= 10;
  return digits;
}

std::string decimal_text(int64_t digits, int decimals) {
  std::string text = std::to_string(digits < 0 ? -digits : digits);
  if (decimals > 0) {
    const auto places = static_cast<size_t>(decimals);
    if (text.size() <= places) text.insert(0, places + 1 - text.size(), '0');
    text.insert(text.size() - places, 1, '.');
  }
  return digits < 0 ? "-" + text : text;
}

[[noreturn]] void fail(const std::string& option, std::string_view text, const std::string& reason, const std::string& hint) {
  throw Error(ExitCode::usage, format("%s %s: %s", flag_of(option).c_str(), printable(text).c_str(), reason.c_str()), hint);
}

constexpr const char* kRangeHint = "a range is FIRST..LAST or FIRST..LAST:STEP, as in 1..5 or 0.1..0.5:0.2";

void append_range(const std::string& option, std::string_view entry, size_t dots, std::vector<std::string>* values) {
  const std::string_view rest = entry.substr(dots + 2);
  const size_t colon = rest.find(':');
  const auto first = parse_decimal(entry.substr(0, dots)), last = parse_decimal(rest.substr(0, colon));
  const auto step = colon == std::string_view::npos ? Decimal{.digits = 1} : parse_decimal(rest.substr(colon + 1));
  if (!first || !last || !step) fail(option, entry, "is not a range of plain numbers", kRangeHint);
  if (colon == std::string_view::npos && (first->decimals > 0 || last->decimals > 0))
    fail(option, entry, "needs a step, since its ends are not integers", kRangeHint);
  const int decimals = std::max({first->decimals, last->decimals, step->decimals});
  if (decimals > 9) fail(option, entry, "has more than 9 decimals", "list the values instead");
  const int64_t low = at_scale(*first, decimals), high = at_scale(*last, decimals), by = at_scale(*step, decimals);
  if (by <= 0) fail(option, entry, "needs a step above 0", kRangeHint);
  if (low > high) fail(option, entry, "is descending", "write the smaller number first");
  if ((high - low) / by >= kMaxValues)
    fail(option, entry, format("has more than %lld values", static_cast<long long>(kMaxValues)), "use a larger step");
  for (int64_t value = low; value <= high; value += by) values->push_back(decimal_text(value, decimals));
}

}  // namespace

bool value_has_commas(std::string_view option) {
  static constexpr std::array names = {
      "ROPE_LAYERS",  "ATTENTION_WINDOW", "VE_LAYERS", "CONTROL_TENSOR_NAME_PATTERNS", "INT8_KEEP_FLOAT_FP32_NAME_PATTERNS",
      "SAMPLE_PROMPT"};
  return std::find(names.begin(), names.end(), option) != names.end();
}

std::vector<std::string> expand_values(const std::string& option, std::string_view text) {
  const char separator = value_has_commas(option) ? ';' : ',';
  std::vector<std::string> values;
  for (const std::string& raw : split(text, separator)) {
    const std::string_view entry = trim(raw);
    if (entry.empty()) {
      fail(option, text, "has an empty entry", format("separate values with '%c', without a trailing one", separator));
    }
    const size_t dots = entry.find("..");
    if (dots != std::string_view::npos && parse_decimal(entry.substr(0, dots))) {
      append_range(option, entry, dots, &values);
    } else {
      values.emplace_back(entry);
    }
  }
  return values;
}

}  // namespace pgolf
