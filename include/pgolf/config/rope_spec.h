// Interpretation of ROPE_DIMS and the related options.
#pragma once

#include <compare>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "pgolf/config/enum_text.h"

namespace pgolf {

/// dtype in which the angles and the cos/sin tables are computed. bfloat16 reproduces upstream,
/// whose cast of the whole model rounds its inv_freq buffer (positions above 256 are then no longer distinct).
enum class RopeTableDtype { float32, bfloat16 };
constexpr EnumTexts<RopeTableDtype, 2> enum_texts(RopeTableDtype) {
  return {{{"float32", RopeTableDtype::float32}, {"bfloat16", RopeTableDtype::bfloat16}}};
}

/// Which two of `span` dimensions form pair i: i and i + span/2 (GPT-NeoX), or 2i and 2i + 1 (GPT-J).
enum class RopeStyle { half, interleaved };
constexpr EnumTexts<RopeStyle, 2> enum_texts(RopeStyle) {
  return {{{"half", RopeStyle::half}, {"interleaved", RopeStyle::interleaved}}};
}

/// Which pairs rotate. prefix: dimensions 0 .. rope_dims-1 are treated as a separate head, with the full range of
/// frequencies. The others keep the full head's pairs and frequencies and rotate rope_dims/2 of them: the fastest (high: p-RoPE,
/// arXiv 2410.06205, Gemma 4), the slowest (low), or evenly spaced ones, pairs floor(j * head_dim / rope_dims) for
/// j = 0, 1, ... (uniform).
enum class RopeSelect { prefix, high, low, uniform };
constexpr EnumTexts<RopeSelect, 4> enum_texts(RopeSelect) {
  return {
      {{"prefix", RopeSelect::prefix}, {"high", RopeSelect::high}, {"low", RopeSelect::low}, {"uniform", RopeSelect::uniform}}};
}

/// Context extension beyond the training length; never implied by a sequence length. linear: positions / factor
/// (arXiv 2306.15595). ntk: base * factor^(span/(span-2)). yarn: arXiv 2309.00071, fast pairs unchanged, slow ones linear, and
/// cos and sin (so only the rotated dimensions) times 0.1 ln(factor) + 1.
enum class RopeScaling { none, linear, ntk, yarn };
constexpr EnumTexts<RopeScaling, 4> enum_texts(RopeScaling) {
  return {{{"none", RopeScaling::none}, {"linear", RopeScaling::linear}, {"ntk", RopeScaling::ntk}, {"yarn", RopeScaling::yarn}}};
}

/// Settings shared by all layers of a model.
struct RopeSettings {
  double base = 10000.0;
  RopeTableDtype table_dtype = RopeTableDtype::float32;
  RopeStyle style = RopeStyle::half;
  RopeSelect select = RopeSelect::prefix;
  RopeScaling scaling = RopeScaling::none;
  double scaling_factor = 1.0;  ///< >= 1
  int original_seq_len = 0;     ///< sequence length in training, for yarn

  auto operator<=>(const RopeSettings&) const = default;
};

/// Rotary position embedding of one attention layer (RoFormer, arXiv 2104.09864). Pair i of the span rotates by
/// base^(-2i/span) per position; the other dimensions pass through.
struct RopeSpec : RopeSettings {
  /// std::invalid_argument unless rope_dims is even and from 0 to head_dim. For a model's layer: ModelConfig::rope_of.
  RopeSpec(int head_dim, int rope_dims, const RopeSettings& settings = {});

  int head_dim;
  int rope_dims;  ///< rotated dimensions: 0 (none) .. head_dim (full)

  bool none() const { return rope_dims == 0; }
  bool full() const { return rope_dims == head_dim; }
  /// Dimensions that are divided into pairs.
  int span() const { return select == RopeSelect::prefix ? rope_dims : head_dim; }
  /// Whether pair 0 .. span/2-1 rotates.
  bool rotates(int pair) const;
  /// Whether dimension 0 .. head_dim-1 of a head does.
  bool rotates_dim(int dim) const;

  auto operator<=>(const RopeSpec&) const = default;
};

/// Rotated dimensions per head in each layer, independent of the model's shape. Default: all of them.
class RopeDims {
 public:
  RopeDims() = default;
  RopeDims(int dims) : dims_{dims} {}  ///< in all layers
  /// Per layer, repeated to fill all layers. std::invalid_argument for an empty list.
  RopeDims(std::vector<int> layers);
  RopeDims(std::initializer_list<int> layers) : RopeDims(std::vector<int>(layers)) {}

  int of_layer(int layer, int head_dim) const;
  int max(int head_dim) const;                  ///< over all layers
  std::string layers_text(int head_dim) const;  ///< canonical ROPE_LAYERS: "same" unless made from a list

 private:
  static constexpr int kFull = -1;
  std::vector<int> dims_{kFull};
  bool listed_ = false;
};

/// Value of ROPE_DIMS -> effective rope_dims.
///   "full", "0"        head_dim (as in upstream's records)
///   "none"             0, no rotation
///   even 2..head_dim   itself
///   > head_dim         head_dim, and *warning is set
/// Odd or negative: Error(usage) naming the two nearest valid values; unreadable: Error(usage). Both, and the warning, begin with
/// the option's name.
int parse_rope_dims(std::string_view text, int head_dim, std::string* warning, const char* option = "ROPE_DIMS");

/// ROPE_FRACTION, 0 .. 1, of a head -> effective rope_dims: the nearest even number, at least 2 unless the fraction is 0.
int rope_dims_of_fraction(double fraction, int head_dim);

/// ROPE_LAYERS -> effective rope_dims per layer. Values as for ROPE_DIMS, separated by commas, "16*8" for eight times 16; the
/// list is repeated to fill all layers ("full*3,none": every fourth layer has no rotation). *warning as above.
/// Error(usage) for what parse_rope_dims rejects, a count that is not positive, and more values than layers.
std::vector<int> parse_rope_layers(std::string_view text, int head_dim, int num_layers, std::string* warning);

/// Error(usage) for a scaling that is not defined: a factor below 1, ntk over 2 dimensions, yarn without the original length.
/// prefix: what the options' names begin with.
void check_rope_scaling(const RopeSpec& spec, const std::string& prefix = "");

/// "full (64 of 64 dims)", "16 of 64 dims", "none (0 of 64 dims)".
std::string describe_rope_dims(const RopeSpec& spec);

/// The canonical ROPE_DIMS text of an effective value: "full", "none" or the number. Parses back to the same value.
std::string rope_dims_text(int rope_dims, int head_dim);

/// The canonical ROPE_LAYERS text: "full*3,none". Parses back to the same list for as many layers.
std::string rope_layers_text(const std::vector<int>& rope_layers, int head_dim);

}  // namespace pgolf
