#include "pgolf/prepare/byte_report.h"

#include <cmath>
#include <vector>

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/base/log.h"
#include "pgolf/base/text.h"

namespace pgolf {

DocumentBytes& DocumentBytes::operator+=(const DocumentBytes& other) {
  tokens += other.tokens;
  text += other.text;
  unknown += other.unknown;
  return *this;
}

DocumentBytes compare_bytes(const Tokenizer& tokenizer, const ByteCheck& check, std::string_view text,
                            std::span<const uint16_t> stream) {
  DocumentBytes bytes{.tokens = check.count(stream), .text = static_cast<int64_t>(text.size())};
  if (bytes.tokens.unknown > 0) bytes.unknown = tokenizer.unknown_bytes(text);
  return bytes;
}

void report_bytes(const Tokenizer& tokenizer, const ByteCheck& check, const DocumentBytes& bytes, ByteCounting counting) {
  const int64_t counted = bytes.tokens.counted(counting), decoded = bytes.tokens.decoded;
  const int64_t normalized = decoded + bytes.unknown;
  log::info(format("bytes of text:%s counted:%s", with_commas(bytes.text).c_str(), with_commas(counted).c_str()));
  if (counted == bytes.text) return;

  std::vector<std::string> reasons, hints;
  if (counted != decoded) {
    reasons.push_back(format("the rule that counts bytes does not fit this tokenizer (%s)", check.rule_faults().c_str()));
    hints.push_back(
        format("count with --byte-count decoded, in train_gpt and eval_gpt too (it counts %s)", with_commas(decoded).c_str()));
  }
  if (bytes.unknown > 0) {
    reasons.push_back(format("%s bytes of unknown characters count 0", with_commas(bytes.unknown).c_str()));
    hints.emplace_back("use a tokenizer with byte fallback");
  }
  if (normalized != bytes.text) {
    reasons.push_back(format("the tokenizer normalizes the text to %s bytes", with_commas(normalized).c_str()));
    hints.emplace_back("prepare_data tokenizer --normalization identity makes one that does not");
  }
  const double difference =
      100.0 * static_cast<double>(counted - bytes.text) / static_cast<double>(std::max<int64_t>(bytes.text, 1));
  const std::string message =
      format("%s: the tokens count %s bytes, but the text has %s (%+.2g%%): %s", tokenizer.path().c_str(),
             with_commas(counted).c_str(), with_commas(bytes.text).c_str(), difference, join(reasons, "; ").c_str());
  const auto error = static_cast<double>(std::abs(counted - normalized));
  if (error > kToleratedByteError * static_cast<double>(normalized))
    throw Error(ExitCode::bad_input, message, join(hints, "; or "));
  if (counted == normalized && std::abs(difference) < kNormalizationWorthAWarning)
    log::info(message);
  else
    log::warn(message + "; " + join(hints, "; or "));
}

}  // namespace pgolf
