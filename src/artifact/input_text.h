// Text that comes out of files, made fit for messages.
#pragma once

#include <string>
#include <string_view>

namespace pgolf {

/// For messages: control characters become '?', so that a file cannot steer the terminal or break the line; long
/// texts are cut.
inline std::string printable(std::string_view raw) {
  constexpr size_t longest = 200;
  std::string out(raw.substr(0, longest));
  for (char& c : out) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  if (raw.size() > longest) out += "...";
  return out;
}

}  // namespace pgolf
