#include "pgolf/config/rope_spec.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/base/text.h"
#include "pgolf/config/layer_list.h"
#include "pgolf/config/parse.h"

namespace pgolf {

namespace {

/// Value of ROPE_DIMS. Errors and the warning begin with the value.
int read_dims(std::string_view text, int head_dim, std::string* warning) {
  const std::string word = lower_case(trim(text));
  if (word == "full") return head_dim;
  if (word == "none") return 0;
  const auto value = parse_integer(word);
  const auto dims = static_cast<long long>(value.value_or(0));
  if (!value) {
    throw Error(ExitCode::usage, format("%s is not a valid number of dims", printable(text).c_str()),
                format("use full, none or an even number from 2 to %d", head_dim));
  }
  if (dims == 0) return head_dim;
  if (dims < 0)
    throw Error(ExitCode::usage, format("%lld is negative; the nearest valid values are 0 (= full) and 2 (or none)", dims));
  if (dims > head_dim) {
    *warning = format("%lld exceeds the %d dims of a head; rotating all %d (full)", dims, head_dim, head_dim);
    return head_dim;
  }
  if (dims == 1) throw Error(ExitCode::usage, "1 is odd; the nearest valid values are 0 (= full) and 2 (or none)");
  if (dims % 2 != 0) {
    throw Error(ExitCode::usage,
                format("%lld is odd; the nearest valid values are %lld and %lld (or full, none)", dims, dims - 1, dims + 1));
  }
  return static_cast<int>(dims);
}

}  // namespace

int parse_rope_dims(std::string_view text, int head_dim, std::string* warning, const char* option) {
  warning->clear();
  try {
    const int dims = read_dims(text, head_dim, warning);
    if (!warning->empty()) warning->insert(0, std::string(option) + "=");
    return dims;
  } catch (const Error& error) {
    throw Error(error.code(), format("%s=%s", option, error.what()), error.hint());
  }
}

int rope_dims_of_fraction(double fraction, int head_dim) {
  if (fraction == 0) return 0;
  return std::clamp(2 * static_cast<int>(std::lround(fraction * head_dim / 2)), 2, head_dim);
}

std::vector<int> parse_rope_layers(std::string_view text, int head_dim, int num_layers, std::string* warning) {
  warning->clear();
  const std::string option = "ROPE_LAYERS=" + printable(text) + ": ";
  std::vector<int> values;
  try {
    values = parse_layer_list(text, num_layers, [&](std::string_view entry) { return read_dims(entry, head_dim, warning); });
  } catch (const Error& error) {
    throw Error(ExitCode::usage, option + error.what(), std::string("use values of ROPE_DIMS, ") + kLayerListHint);
  }
  if (!warning->empty()) warning->insert(0, option);
  const size_t period = values.size();
  while (static_cast<int>(values.size()) < num_layers) values.push_back(values[values.size() - period]);
  return values;
}

void check_rope_scaling(const RopeSpec& spec, const std::string& prefix) {
  const std::string option = prefix + "ROPE_SCALING";
  if (!(spec.scaling_factor >= 1)) {
    throw Error(ExitCode::usage, format("%s_FACTOR=%g must be at least 1", option.c_str(), spec.scaling_factor));
  }
  if (spec.scaling == RopeScaling::ntk && spec.span() == 2) {
    throw Error(ExitCode::usage,
                option +
                    "=ntk is not defined for 2 dims: the base would be multiplied by factor^(2/(2-2)), and a single pair rotates "
                    "by 1 per position for any base",
                "use linear, or rotate at least 4 dims");
  }
  if (spec.scaling == RopeScaling::yarn && spec.original_seq_len < 1) {
    throw Error(ExitCode::usage, option + "=yarn needs ROPE_ORIGINAL_SEQ_LEN, the sequence length in training");
  }
}

RopeSpec::RopeSpec(int head_dim, int rope_dims, const RopeSettings& settings)
    : RopeSettings(settings), head_dim(head_dim), rope_dims(rope_dims) {
  if (rope_dims < 0 || rope_dims > head_dim || rope_dims % 2 != 0)
    throw std::invalid_argument(format("rope_dims %d does not fit head_dim %d", rope_dims, head_dim));
}

RopeDims::RopeDims(std::vector<int> layers) : dims_(std::move(layers)), listed_(true) {
  if (dims_.empty()) throw std::invalid_argument("RopeDims needs at least one layer");
}

int RopeDims::of_layer(int layer, int head_dim) const {
  const int dims = dims_[static_cast<size_t>(layer) % dims_.size()];
  return dims == kFull ? head_dim : dims;
}

int RopeDims::max(int head_dim) const {
  int max = 0;
  for (size_t i = 0; i < dims_.size(); ++i) max = std::max(max, of_layer(static_cast<int>(i), head_dim));
  return max;
}

std::string RopeDims::layers_text(int head_dim) const {
  return listed_ ? rope_layers_text(dims_, head_dim) : "same";
}

bool RopeSpec::rotates(int pair) const {
  const int pairs = head_dim / 2, rotated = rope_dims / 2;
  switch (select) {
    case RopeSelect::prefix:
    case RopeSelect::high:
      return pair < rotated;
    case RopeSelect::low:
      return pair >= pairs - rotated;
    case RopeSelect::uniform:
      break;
  }
  // Pair floor(j * pairs / rotated) for some j.
  if (rotated == 0) return false;
  const int j = (pair * rotated + pairs - 1) / pairs;
  return j < rotated && j * pairs / rotated == pair;
}

bool RopeSpec::rotates_dim(int dim) const {
  const int pairs = span() / 2;
  return dim < span() && rotates(style == RopeStyle::half ? dim % pairs : dim / 2);
}

std::string describe_rope_dims(const RopeSpec& spec) {
  if (spec.none()) return format("none (0 of %d dims)", spec.head_dim);
  if (spec.full()) return format("full (%d of %d dims)", spec.head_dim, spec.head_dim);
  return format("%d of %d dims", spec.rope_dims, spec.head_dim);
}

std::string rope_dims_text(int rope_dims, int head_dim) {
  if (rope_dims == 0) return "none";
  if (rope_dims == head_dim) return "full";
  return std::to_string(rope_dims);
}

std::string rope_layers_text(const std::vector<int>& rope_layers, int head_dim) {
  std::vector<std::string> entries;
  for (const int dims : rope_layers) entries.push_back(rope_dims_text(dims, head_dim));
  return layer_list_text(entries);
}

}  // namespace pgolf
