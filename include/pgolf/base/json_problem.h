// Why a text is not JSON, in words for the person who has to mend it.
#pragma once

#include <string>
#include <string_view>

namespace pgolf {

/// "byte 21: NaN, which Python's json module writes, is not JSON", "byte 3 is not valid UTF-8", ...; bytes count from 0. Empty if
/// the text is valid.
std::string json_problem(std::string_view text);

}  // namespace pgolf
