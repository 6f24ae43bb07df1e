// printf-style formatting into std::string. Not fmt, because the LibTorch wheel ships its own
// fmt headers, which clash with the system's. %.4f prints the same as Python's {:.4f}.
#pragma once

#include <cstdint>
#include <string>

namespace pgolf {

[[gnu::format(printf, 1, 2)]] std::string format(const char* fmt, ...);

/// 1234567 -> "1,234,567".
std::string with_commas(int64_t value);

/// Shortest decimal text that reads back as the same double, formatted like Python's repr:
/// always with a decimal point or an exponent ("0.04", "1e-08", "10000.0").
std::string python_float(double value);

/// Bytes as "1.2 KiB", "34.5 MiB", ...
std::string human_bytes(double bytes);

/// Seconds as "12.3s", "4m05s" or "2h03m".
std::string human_duration(double seconds);

}  // namespace pgolf
