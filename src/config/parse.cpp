#include "pgolf/config/parse.h"

#include <charconv>
#include <cmath>

#include "pgolf/base/text.h"

namespace pgolf {
namespace {

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

/// Strips whitespace, one plus sign and underscores between digits; "" if the rest cannot be a number.
std::string bare_number(std::string_view text) {
  text = trim(text);
  if (text.size() > 1 && text[0] == '+' && text[1] != '-') text.remove_prefix(1);
  std::string bare;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_') {
      bare += text[i];
    } else if (i == 0 || i + 1 == text.size() || !is_digit(text[i - 1]) || !is_digit(text[i + 1])) {
      return {};
    }
  }
  return bare;
}

template <typename T>
std::optional<T> parse_whole(const std::string& bare) {
  T value{};
  const char* const end = bare.data() + bare.size();
  const auto result = std::from_chars(bare.data(), end, value);
  if (bare.empty() || result.ec != std::errc{} || result.ptr != end) return std::nullopt;
  return value;
}

}  // namespace

std::optional<int64_t> parse_integer(std::string_view text) {
  return parse_whole<int64_t>(bare_number(text));
}

std::optional<double> parse_number(std::string_view text) {
  const auto value = parse_whole<double>(bare_number(text));
  return value && std::isfinite(*value) ? value : std::nullopt;
}

std::optional<bool> parse_boolean(std::string_view text) {
  const std::string word = lower_case(trim(text));
  if (word == "1" || word == "true" || word == "on" || word == "yes") return true;
  if (word == "0" || word == "false" || word == "off" || word == "no") return false;
  return std::nullopt;
}

std::string lower_case(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

std::string upper_case(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  }
  return out;
}

}  // namespace pgolf
