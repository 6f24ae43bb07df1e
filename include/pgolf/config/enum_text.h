// The values of an enumeration and the texts that stand for them in options, model files and logs.
//
// An enumeration has its texts beside it: constexpr EnumTexts<E, N> enum_texts(E) returns them in the order in which --help lists
// them.
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
