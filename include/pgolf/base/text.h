// Small text helpers.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace pgolf {

/// One more part than there are separators: "" has one, empty part.
std::vector<std::string> split(std::string_view text, char separator);
std::string join(const std::vector<std::string>& parts, std::string_view between);
/// Without spaces, tabs and line ends around it.
std::string_view trim(std::string_view text);

/// Text quoted in messages: control characters and bytes that are not UTF-8 become '?', so that it cannot control the terminal
/// or break the line; text beyond `longest` bytes becomes "...".
std::string printable(std::string_view text, size_t longest = 200);

/// How many bytes at the front of text are valid UTF-8: all of them, or up to the first invalid sequence.
size_t valid_utf8_bytes(std::string_view text);

/// Edit distance where swapping neighbors counts as one edit (optimal string alignment).
size_t edit_distance(std::string_view a, std::string_view b);

/// The candidate nearest to name, or empty if none is within max_distance edits.
std::string nearest_name(std::string_view name, const std::vector<std::string>& candidates, size_t max_distance);

}  // namespace pgolf
