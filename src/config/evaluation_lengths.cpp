#include "pgolf/config/evaluation_lengths.h"

#include <cmath>
#include <set>

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/base/text.h"
#include "pgolf/config/parse.h"
#include "pgolf/config/run_config.h"

namespace pgolf {

std::vector<int> evaluation_lengths(const std::vector<std::string>& texts, int train_seq_len) {
  const char* hint = "use multiples of the training length or token counts, e.g. 0.5x,1x,2x,4096";
  if (texts.empty()) throw Error(ExitCode::usage, "EVAL_SEQ_LENS is empty", hint);
  std::set<int> lengths{train_seq_len};
  for (const auto& text : texts) {
    const bool factor = text.ends_with('x');
    const auto number = factor ? parse_number(std::string_view(text).substr(0, text.size() - 1)) : std::nullopt;
    const auto tokens = factor ? std::nullopt : parse_integer(text);
    const double length = number ? std::round(*number * train_seq_len) : static_cast<double>(tokens.value_or(0));
    if (!(length >= 1 && length <= kMaxSeqLen)) {
      throw Error(ExitCode::usage,
                  format("EVAL_SEQ_LENS: %s is not a valid length, 1 to %d tokens (training used %d)", printable(text).c_str(),
                         kMaxSeqLen, train_seq_len),
                  hint);
    }
    lengths.insert(static_cast<int>(length));
  }
  return {lengths.begin(), lengths.end()};
}

}  // namespace pgolf
