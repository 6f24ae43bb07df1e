// Parses text like Python's int() and float(). The whole text must parse: "12x", "", "nan" and "inf" give nullopt.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace pgolf {

/// "524288", "524_288", "+7", "-3". nullopt if it is not an integer or does not fit into 64 bits.
std::optional<int64_t> parse_integer(std::string_view text);

/// "0.04", "1e-3", ".5", "1_000". nullopt if it is not a finite number.
std::optional<double> parse_number(std::string_view text);

/// 1/0, true/false, on/off, yes/no in any case.
std::optional<bool> parse_boolean(std::string_view text);

/// ASCII only.
std::string lower_case(std::string_view text);
std::string upper_case(std::string_view text);

}  // namespace pgolf
