// Config files: one KEY=VALUE per line.
//
//   # a comment; blank lines are ignored
//   ROPE_DIMS=16            # a comment may follow a value, after a space
//   DATA_PATH="my data #1"  # quotes keep spaces and '#'; inside double quotes \" \\ \n \t \r are escapes
//   RUN_ID='a\b'            # single quotes take everything literally
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace pgolf {

struct ConfigEntry {
  std::string key;
  std::string value;
  std::string origin;  ///< "PATH:LINE"
};

/// path is for messages only. Error(usage) with PATH:LINE for any other line and for a repeated key.
std::vector<ConfigEntry> parse_config_text(std::string_view text, const std::string& path);

/// A relative path that does not exist is looked for in the parent of the program's folder: an installed program has its presets
/// in configs/ there. Also Error(bad_input) if the file cannot be read or is larger than a mebibyte.
std::vector<ConfigEntry> read_config_file(const std::string& path);

/// value as written after "KEY=": bare where that is safe, else in double quotes.
std::string quote_config_value(std::string_view value);

}  // namespace pgolf
