// The activation of the MLP.
#pragma once

#include "pgolf/config/enum_text.h"

namespace pgolf {

/// u = fc(x): relu2 max(u, 0)^2 (arXiv 2109.08668, as upstream), relu3 its cube, leaky_relu, leaky_relu2 its square
/// (without the sign: both sides come out positive), gelu with erf (arXiv 1606.08415).
/// swiglu: silu(gate(x)) * u, with a third matrix (arXiv 2002.05202).
enum class MlpKind { relu2, relu3, leaky_relu, leaky_relu2, gelu, swiglu };
constexpr EnumTexts<MlpKind, 6> enum_texts(MlpKind) {
  return {{{"relu2", MlpKind::relu2},
           {"relu3", MlpKind::relu3},
           {"leaky_relu", MlpKind::leaky_relu},
           {"leaky_relu2", MlpKind::leaky_relu2},
           {"gelu", MlpKind::gelu},
           {"swiglu", MlpKind::swiglu}}};
}

constexpr bool squared(MlpKind kind) {
  return kind == MlpKind::relu2 || kind == MlpKind::leaky_relu2;
}
constexpr bool leaky(MlpKind kind) {
  return kind == MlpKind::leaky_relu || kind == MlpKind::leaky_relu2;
}

}  // namespace pgolf
