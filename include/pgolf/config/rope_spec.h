// The one place where ROPE_DIMS and its relatives are interpreted.
#pragma once

#include <compare>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "pgolf/config/enum_text.h"

namespace pgolf {

/// dtype in which the angles and the cos/sin tables are computed. bfloat16 reproduces the Python program,
/// whose cast of the whole model rounds its inv_freq buffer (positions above 256 are then no longer distinct).
enum class RopeTableDtype { float32, bfloat16 };
constexpr EnumTexts<RopeTableDtype, 2> enum_texts(RopeTableDtype) {
  return {{{"float32", RopeTableDtype::float32}, {"bfloat16", RopeTableDtype::bfloat16}}};
}

/// Which two of `span` lanes make pair i: i and i + span/2 (GPT-NeoX), or 2i and 2i + 1 (GPT-J).
enum class RopeStyle { half, interleaved };
constexpr EnumTexts<RopeStyle, 2> enum_texts(RopeStyle) {
  return {{{"half", RopeStyle::half}, {"interleaved", RopeStyle::interleaved}}};
}

/// Which pairs rotate. prefix: the lanes 0 .. rope_dims-1 are a head of their own, with the whole range of frequencies. The
/// others keep the full head's pairs and frequencies and rotate rope_dims/2 of them: the fastest (high: p-RoPE, arXiv 2410.06205,
/// Gemma 4), the slowest (low), or those at head_dim/rope_dims from one to the next, rounded down, from the fastest on (uniform).
enum class RopeSelect { prefix, high, low, uniform };
constexpr EnumTexts<RopeSelect, 4> enum_texts(RopeSelect) {
  return {
      {{"prefix", RopeSelect::prefix}, {"high", RopeSelect::high}, {"low", RopeSelect::low}, {"uniform", RopeSelect::uniform}}};
}

/// For windows longer than those that a model was trained on; never implied by a length. linear: positions / factor
/// (arXiv 2306.15595). ntk: base * factor^(span/(span-2)). yarn: arXiv 2309.00071, fast pairs as they are, slow ones linear, and
/// cos and sin (so the rotated lanes only) times 0.1 ln(factor) + 1.
enum class RopeScaling { none, linear, ntk, yarn };
constexpr EnumTexts<RopeScaling, 4> enum_texts(RopeScaling) {
  return {{{"none", RopeScaling::none}, {"linear", RopeScaling::linear}, {"ntk", RopeScaling::ntk}, {"yarn", RopeScaling::yarn}}};
}

/// What all layers of a model have in common.
struct RopeSettings {
  double base = 10000.0;
  RopeTableDtype table_dtype = RopeTableDtype::float32;
  RopeStyle style = RopeStyle::half;
  RopeSelect select = RopeSelect::prefix;
  RopeScaling scaling = RopeScaling::none;
  double scaling_factor = 1.0;  ///< >= 1
  int original_seq_len = 0;     ///< the length of training, for yarn

  auto operator<=>(const RopeSettings&) const = default;
};

/// Rotary position embedding of one attention layer (RoFormer, arXiv 2104.09864). Pair i of the span turns by
/// base^(-2i/span) a position; what does not rotate passes through.
struct RopeSpec : RopeSettings {
  /// std::invalid_argument unless rope_dims is even and from 0 to head_dim. Of a model: ModelConfig::rope_of.
  RopeSpec(int head_dim, int rope_dims, const RopeSettings& settings = {});

  int head_dim;
  int rope_dims;  ///< lanes that rotate: 0 (none) .. head_dim (full)

  bool none() const { return rope_dims == 0; }
  bool full() const { return rope_dims == head_dim; }
  /// Lanes that are divided into pairs.
  int span() const { return select == RopeSelect::prefix ? rope_dims : head_dim; }
  /// Whether pair 0 .. span/2-1 rotates.
  bool rotates(int pair) const;

  auto operator<=>(const RopeSpec&) const = default;
};

/// How many lanes of a head rotate in each layer of a model, whatever its shape: all of them, unless told otherwise.
class RopeDims {
 public:
  RopeDims() = default;
  RopeDims(int lanes) : lanes_{lanes} {}  ///< in all layers
  /// Layer by layer, repeated until every layer has its number. std::invalid_argument for an empty list.
  RopeDims(std::vector<int> layers);
  RopeDims(std::initializer_list<int> layers) : RopeDims(std::vector<int>(layers)) {}

  int of_layer(int layer, int head_dim) const;
  int most(int head_dim) const;                 ///< of any layer
  std::string layers_text(int head_dim) const;  ///< canonical ROPE_LAYERS: "same" unless made from a list

 private:
  static constexpr int kFull = -1;
  std::vector<int> lanes_{kFull};
  bool listed_ = false;
};

/// What a user may write for ROPE_DIMS -> effective rope_dims.
///   "full", "0"        head_dim (0 means full in the Python records, so it does here)
///   "none"             0, no rotation
///   even 2..head_dim   itself
///   > head_dim         head_dim, and *warning is set
/// Odd, negative or unreadable: Error(usage) naming the two nearest legal values.
int parse_rope_dims(std::string_view text, int head_dim, std::string* warning);

/// ROPE_FRACTION, 0 .. 1, of a head -> effective rope_dims: the nearest even number, at least 2 unless the fraction is 0.
int rope_dims_of_fraction(double fraction, int head_dim);

/// ROPE_LAYERS -> effective rope_dims per layer. Values as for ROPE_DIMS, separated by commas, "16*8" for eight of a kind; the
/// list is repeated until every layer has one ("full*3,none": every fourth layer has no rotation). *warning as above.
/// Error(usage) for what parse_rope_dims refuses, a count that is not positive, and more values than layers.
std::vector<int> parse_rope_layers(std::string_view text, int head_dim, int num_layers, std::string* warning);

/// Error(usage) for a scaling that is not defined: a factor below 1, ntk over two lanes, yarn without the original length.
void check_rope_scaling(const RopeSpec& spec);

/// "full (64 of 64 lanes)", "16 of 64 lanes", "none (0 of 64 lanes)".
std::string describe_rope_dims(const RopeSpec& spec);

/// The canonical ROPE_DIMS text of an effective value: "full", "none" or the number. Reads back to the same.
std::string rope_dims_text(int rope_dims, int head_dim);

/// The canonical ROPE_LAYERS text: "full*3,none". Reads back to the same for as many layers.
std::string rope_layers_text(const std::vector<int>& rope_layers, int head_dim);

}  // namespace pgolf
