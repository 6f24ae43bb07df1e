#include "pgolf/config/rope_spec.h"

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/base/text.h"
#include "pgolf/config/parse.h"

namespace pgolf {

int parse_rope_dims(std::string_view text, int head_dim, std::string* warning) {
  warning->clear();
  const std::string word = lower_case(trim(text));
  if (word == "full") return head_dim;
  if (word == "none") return 0;
  const auto value = parse_integer(word);
  const auto lanes = static_cast<long long>(value.value_or(0));
  if (!value) {
    throw Error(ExitCode::usage, format("ROPE_DIMS=%s is not a number of lanes", printable(text).c_str()),
                format("use full, none or an even number from 2 to %d", head_dim));
  }
  if (lanes == 0) return head_dim;
  if (lanes < 0) {
    throw Error(ExitCode::usage,
                format("ROPE_DIMS=%lld is negative; the nearest legal values are 0 (= full) and 2 (or none)", lanes));
  }
  if (lanes > head_dim) {
    *warning = format("ROPE_DIMS=%lld is more than the %d lanes of a head; all %d rotate (full)", lanes, head_dim, head_dim);
    return head_dim;
  }
  if (lanes == 1) {
    throw Error(ExitCode::usage, "ROPE_DIMS=1 is odd; the nearest legal values are 0 (= full) and 2 (or none)");
  }
  if (lanes % 2 != 0) {
    throw Error(ExitCode::usage, format("ROPE_DIMS=%lld is odd; the nearest legal values are %lld and %lld (or full, none)",
                                        lanes, lanes - 1, lanes + 1));
  }
  return static_cast<int>(lanes);
}

std::string describe_rope_dims(const RopeSpec& spec) {
  if (spec.none()) return format("none (0 of %d lanes)", spec.head_dim);
  if (spec.full()) return format("full (%d of %d lanes)", spec.head_dim, spec.head_dim);
  return format("%d of %d lanes", spec.rope_dims, spec.head_dim);
}

std::string rope_dims_text(const RopeSpec& spec) {
  if (spec.none()) return "none";
  if (spec.full()) return "full";
  return std::to_string(spec.rope_dims);
}

}  // namespace pgolf
