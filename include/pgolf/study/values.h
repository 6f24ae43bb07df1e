// The lists and ranges in which a sweep is written down.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace pgolf {

/// Whether a single value of this option may contain commas, so that ';' separates the values of a list.
bool value_has_commas(std::string_view option);

/// "none,2,16" -> none 2 16; "1..5" -> 1 2 3 4 5; "0.1..0.5:0.2" -> 0.1 0.3 0.5. Ranges include both ends where the step
/// meets them, count in exact decimals, and may stand beside other entries. What an entry means is left to the option.
/// Error(usage) naming the option's flag: an empty entry, a range that runs backwards, is cut short or has too many values.
std::vector<std::string> expand_values(const std::string& option, std::string_view text);

}  // namespace pgolf
