// What a file is that is not what a reader expected.
#pragma once

#include <string>

#include "pgolf/base/files.h"

namespace pgolf {

/// By the first bytes: "xz-compressed", "a Git LFS pointer to a file that was not downloaded", "UTF-16 text", ...; empty if
/// unknown (Brotli, for example, has no magic number).
std::string describe_foreign(BytesView file);
inline constexpr const char* kSentencePieceKind = "a SentencePiece model";

/// The command that unpacks a kind: "gunzip"; empty if it is not compressed.
std::string unpacking_command(const std::string& kind);

/// What a ZIP archive is, by the names of its records, if it cannot be a file of torch.save: "a NumPy .npz archive", ...
std::string foreign_zip(BytesView archive);

/// ": it is ..." for a message; empty if unknown.
std::string foreign_clause(BytesView file);

/// "UTF-16" or "UTF-32", by the byte order mark or by the zeros between ASCII characters; otherwise empty.
std::string wide_encoding(BytesView file);

}  // namespace pgolf
