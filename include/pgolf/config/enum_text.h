// The names of enumeration values in options, model files and logs.
//
// Next to each enumeration E, constexpr EnumTexts<E, N> enum_texts(E) returns the names in the order of --help.
#pragma once

#include <array>
#include <cstddef>
#include <utility>

namespace pgolf {

template <typename Enum, size_t N>
using EnumTexts = std::array<std::pair<const char*, Enum>, N>;

template <typename Enum>
constexpr const char* enum_text(Enum value) {
  for (const auto& [text, candidate] : enum_texts(value)) {
    if (candidate == value) return text;
  }
  return "";
}

}  // namespace pgolf
