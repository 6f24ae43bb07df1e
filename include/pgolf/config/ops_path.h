// Which implementation of the operations a model uses.
#pragma once

#include "pgolf/config/enum_text.h"

namespace pgolf {

/// reference: the plain definition of every operation. fast: fused implementations, tested against reference.
enum class OpsPath { reference, fast };
constexpr EnumTexts<OpsPath, 2> enum_texts(OpsPath) {
  return {{{"fast", OpsPath::fast}, {"reference", OpsPath::reference}}};
}

}  // namespace pgolf
