// Lists and ranges of option values on sweep_gpt's command line.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace pgolf {

/// Whether a single value of this option may contain commas, so that ';' separates the values of a list.
bool value_has_commas(std::string_view option);

/// "none,2,16" -> none 2 16; "1..5" -> 1 2 3 4 5; "0.1..0.5:0.2" -> 0.1 0.3 0.5. Ranges include the last value if the
/// step reaches it, use exact decimals, and may be mixed with other entries. Entries are not checked against the option.
/// Error(usage) naming the option's flag: an empty entry, or a range that is descending, incomplete or too long.
std::vector<std::string> expand_values(const std::string& option, std::string_view text);

}  // namespace pgolf
