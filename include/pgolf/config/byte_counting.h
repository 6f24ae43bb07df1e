// How the bytes of tokens' text are counted: data/byte_counts.h.
#pragma once

#include "pgolf/config/enum_text.h"

namespace pgolf {

/// rule: from pieces alone, as upstream. decoded: exactly, as the tokens decode.
enum class ByteCounting { rule, decoded };
constexpr EnumTexts<ByteCounting, 2> enum_texts(ByteCounting) {
  return {{{"rule", ByteCounting::rule}, {"decoded", ByteCounting::decoded}}};
}

inline constexpr const char* kByteCountHelp =
    "How bytes of text are counted. rule: as upstream, from pieces. decoded: exactly, as they decode.";

}  // namespace pgolf
