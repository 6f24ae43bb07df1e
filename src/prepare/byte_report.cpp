#include "pgolf/prepare/byte_report.h"

#include <algorithm>
#include <cstdlib>
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
  normalized += other.normalized;
  return *this;
}

DocumentBytes compare_bytes(const Tokenizer& tokenizer, const ByteCheck& check, std::string_view text,
                            std::span<const uint16_t> stream) {
  DocumentBytes bytes{.tokens = check.count(stream), .text = static_cast<int64_t>(text.size())};
  if (bytes.tokens.unknown > 0) bytes.unknown = tokenizer.unknown_bytes(text);
  bytes.normalized = std::abs(bytes.tokens.decoded + bytes.unknown - bytes.text);
  return bytes;
}

void report_bytes(const Tokenizer& tokenizer, const ByteCheck& check, const DocumentBytes& bytes, ByteCounting counting) {
  const int64_t counted = bytes.tokens.counted(counting), decoded = bytes.tokens.decoded;
  const int64_t spaces = bytes.tokens.error(counting), normalized = decoded + bytes.unknown;
  log::info(format("bytes of text:%s counted:%s", with_commas(bytes.text).c_str(), with_commas(counted).c_str()));
  if (spaces == 0 && bytes.unknown == 0 && bytes.normalized == 0) return;

  std::vector<std::string> reasons, hints;
  if (spaces > 0) {
    reasons.push_back(format("the rule that counts bytes does not fit this tokenizer (%s) and is wrong by %s token by token",
                             check.rule_faults().c_str(), with_commas(spaces).c_str()));
    hints.push_back(
        format("count with --byte-count decoded, in train_gpt and eval_gpt too (it counts %s)", with_commas(decoded).c_str()));
  }
  if (bytes.unknown > 0) {
    reasons.push_back(format("%s bytes of unknown characters count 0", with_commas(bytes.unknown).c_str()));
    hints.emplace_back("use a tokenizer with byte fallback");
  }
  if (bytes.normalized > 0) {
    reasons.push_back(format("the tokenizer normalizes the text to %s bytes, and changes documents by %s in all",
                             with_commas(normalized).c_str(), with_commas(bytes.normalized).c_str()));
    hints.emplace_back("prepare_data tokenizer --normalization identity makes one that does not");
  }
  const double text = static_cast<double>(std::max<int64_t>(bytes.text, 1));
  const std::string difference = counted == bytes.text ? "and the text has as many, but only because errors cancel each other"
                                                       : format("but the text has %s (%+.2g%%)", with_commas(bytes.text).c_str(),
                                                                100.0 * static_cast<double>(counted - bytes.text) / text);
  const std::string message = format("%s: the tokens count %s bytes, %s: %s", tokenizer.path().c_str(),
                                     with_commas(counted).c_str(), difference.c_str(), join(reasons, "; ").c_str());
  const int64_t error = spaces + bytes.unknown;
  if (static_cast<double>(error) > kToleratedByteError * static_cast<double>(normalized))
    throw Error(ExitCode::bad_input, message, join(hints, "; or "));
  if (error == 0 && 100.0 * static_cast<double>(bytes.normalized) < kNormalizationWorthAWarning * text)
    log::info(message);
  else
    log::warn(message + "; " + join(hints, "; or "));
}

}  // namespace pgolf
