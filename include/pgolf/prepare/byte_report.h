// Compares the bytes that the tokens of documents count with those that the documents have.
#pragma once

#include <string>
#include <string_view>

#include "pgolf/data/byte_check.h"

namespace pgolf {

/// The largest error of a count, as a fraction of the bytes of the normalized text, that is only warned of: from spaces that the
/// rule counts wrong, and from unknown characters. How far normalization changes the number of bytes is warned of, whatever it
/// is: the tokens stand for the normalized text, and count its bytes.
inline constexpr double kToleratedByteError = 0.05;

struct DocumentBytes {
  TargetBytes tokens;
  int64_t text = 0;     ///< bytes of the documents
  int64_t unknown = 0;  ///< bytes of what became unknown pieces, after normalization

  DocumentBytes& operator+=(const DocumentBytes& other);
};

/// stream: BOS and the text's tokens.
DocumentBytes compare_bytes(const Tokenizer& tokenizer, const ByteCheck& check, std::string_view text,
                            std::span<const uint16_t> stream);

/// Logs both numbers; if they differ, a warning with the reasons, or Error(bad_input) beyond kToleratedByteError.
void report_bytes(const Tokenizer& tokenizer, const ByteCheck& check, const DocumentBytes& bytes, ByteCounting counting);

}  // namespace pgolf
