// Compares the bytes that the tokens of documents count with those that the documents have.
#pragma once

#include <string>
#include <string_view>

#include "pgolf/data/byte_check.h"

namespace pgolf {

/// The largest error of a count, as a fraction of the bytes of the normalized text, that is only warned of: from spaces that the
/// rule counts wrong, and from unknown characters. Normalization is no error, however far it changes the number of bytes: the
/// tokens stand for the normalized text, and count its bytes.
inline constexpr double kToleratedByteError = 0.05;

/// In percent. Text of any language has a few characters that NFKC replaces.
inline constexpr double kNormalizationWorthAWarning = 0.1;

struct DocumentBytes {
  TargetBytes tokens;
  int64_t text = 0;     ///< bytes of the documents
  int64_t unknown = 0;  ///< bytes of what became unknown pieces, after normalization
  /// By how many bytes normalization changed the length, document by document.
  int64_t normalized = 0;

  DocumentBytes& operator+=(const DocumentBytes& other);
};

/// stream: BOS and the text's tokens.
DocumentBytes compare_bytes(const Tokenizer& tokenizer, const ByteCheck& check, std::string_view text,
                            std::span<const uint16_t> stream);

/// Logs both numbers; if they differ, or are equal only because errors cancel each other, each error with its number, as a
/// warning or, if spaces and unknown characters together are beyond kToleratedByteError, Error(bad_input). Normalization that
/// changes little is logged only.
void report_bytes(const Tokenizer& tokenizer, const ByteCheck& check, const DocumentBytes& bytes, ByteCounting counting);

}  // namespace pgolf
