#include "pgolf/base/json_problem.h"

#include <cctype>
#include <nlohmann/json.hpp>

#include "pgolf/base/format.h"
#include "pgolf/base/text.h"

namespace pgolf {
namespace {

/// The run of letters, digits and signs around a position.
std::string_view word_at(std::string_view text, size_t at) {
  const auto in_word = [text](size_t i) {
    return i < text.size() && (std::isalnum(static_cast<unsigned char>(text[i])) != 0 || text[i] == '-');
  };
  size_t first = at, last = at;
  while (first > 0 && in_word(first - 1)) --first;
  while (in_word(last)) ++last;
  return text.substr(first, last - first);
}

/// The middle of "[id] parse error at line 1, column 21: MIDDLE; last read: ...".
std::string reason_in(std::string message) {
  if (const size_t colon = message.find(": "); colon != message.npos) message.erase(0, colon + 2);
  if (const size_t end = message.find("; last read"); end != message.npos) message.erase(end);
  return message;
}

}  // namespace

std::string json_problem(std::string_view text) {
  using nlohmann::json;
  if (const size_t valid = valid_utf8_bytes(text); valid < text.size()) return format("byte %zu is not valid UTF-8", valid);
  if (const size_t nul = text.find('\0'); nul != text.npos) return format("byte %zu is NUL", nul);
  try {
    const json parsed = json::parse(text);
    return "";
  } catch (const json::parse_error& error) {
    const size_t at = error.byte > 0 ? error.byte - 1 : 0;
    const std::string_view word = word_at(text, at);
    if (word == "NaN" || word == "Infinity" || word == "-Infinity")
      return format("byte %zu: %s, which Python's json module writes, is not JSON", at, std::string(word).c_str());
    const std::string reason = reason_in(error.what());
    if (reason.find("surrogate") != reason.npos) return format("byte %zu: half of a surrogate pair (\\ud800 to \\udfff)", at);
    if (reason.find("unexpected end of input") != reason.npos) return format("it ends too early, after %zu bytes", text.size());
    return format("byte %zu: %s", at, printable(reason).c_str());
  } catch (const json::out_of_range& error) {  // "[id] number overflow parsing 'NUMBER'"
    const std::string_view what = error.what();
    const size_t quote = what.find('\'');
    const std::string number =
        quote == what.npos ? "" : printable(what.substr(quote + 1, what.rfind('\'') - quote - 1), 40) + " ";
    return format("the number %sis too large: beyond 1.8e308", number.c_str());
  }
}

}  // namespace pgolf
