#include "pgolf/config/layer_list.h"

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/base/text.h"
#include "pgolf/config/parse.h"

namespace pgolf {

std::vector<int> parse_layer_list(std::string_view text, int max_layers, const std::function<int(std::string_view)>& parse) {
  std::vector<int> values;
  std::string_view rest = text;
  while (true) {
    const size_t comma = rest.find(',');
    const std::string_view item = trim(rest.substr(0, comma));
    const size_t star = item.find('*');
    const std::string_view value = trim(item.substr(0, star));
    const std::string_view count_text = star == std::string_view::npos ? "1" : trim(item.substr(star + 1));
    const auto count = parse_integer(count_text);
    if (value.empty()) throw Error(ExitCode::usage, "a value is missing");
    if (!count || *count < 1)
      throw Error(ExitCode::usage, format("%s is not a valid layer count", printable(count_text).c_str()));
    const int parsed = parse(value);
    if (*count > max_layers - static_cast<int64_t>(values.size()))
      throw Error(ExitCode::usage, format("more values than the %d layers", max_layers));
    values.insert(values.end(), static_cast<size_t>(*count), parsed);
    if (comma == std::string_view::npos) return values;
    rest = rest.substr(comma + 1);
  }
}

std::string layer_list_text(const std::vector<std::string>& entries) {
  std::string text;
  for (size_t first = 0, end; first < entries.size(); first = end) {
    for (end = first + 1; end < entries.size() && entries[end] == entries[first];) ++end;
    text += (text.empty() ? "" : ",") + entries[first];
    if (end - first > 1) text += "*" + std::to_string(end - first);
  }
  return text;
}

}  // namespace pgolf
