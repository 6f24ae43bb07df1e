// The one place where ROPE_DIMS and its relatives are interpreted.
#pragma once

#include <string>
#include <string_view>

namespace pgolf {

/// dtype in which the angles and the cos/sin tables are computed. bfloat16 reproduces the Python program,
/// whose cast of the whole model rounds its inv_freq buffer (positions above 256 are then no longer distinct).
enum class RopeTableDtype { float32, bfloat16 };

/// Rotary position embedding of one attention layer (RoFormer, arXiv 2104.09864; the partial prefix form of
/// GPT-J and of the parameter-golf records): lanes 0 .. rope_dims-1 of every query and key head rotate in
/// pairs (i, i + rope_dims/2) with inv_freq_i = base^(-2i/rope_dims); the other lanes pass through.
struct RopeSpec {
  int head_dim = 64;
  int rope_dims = 64;  ///< effective: even, 0 (no rotation) .. head_dim (full)
  double base = 10000.0;
  RopeTableDtype table_dtype = RopeTableDtype::float32;

  bool none() const { return rope_dims == 0; }
  bool full() const { return rope_dims == head_dim; }
};

/// What a user may write for ROPE_DIMS -> effective rope_dims.
///   "full", "0"        head_dim (0 means full in the Python records, so it does here)
///   "none"             0, no rotation
///   even 2..head_dim   itself
///   > head_dim         head_dim, and *warning is set
/// Odd, negative or unreadable: Error(usage) naming the two nearest legal values.
int parse_rope_dims(std::string_view text, int head_dim, std::string* warning);

/// "full (64 of 64 lanes)", "16 of 64 lanes", "none (0 of 64 lanes)".
std::string describe_rope_dims(const RopeSpec& spec);

/// The canonical ROPE_DIMS text of an effective value: "full", "none" or the number. Reads back to the same.
std::string rope_dims_text(const RopeSpec& spec);

}  // namespace pgolf
