// The commands of prepare_data: text to tokenizers and shards, and back for checking.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "pgolf/config/byte_counting.h"

namespace pgolf {

/// SentencePiece's default max_sentence_length, in bytes.
inline constexpr size_t kMaxTextBytes = 4192;

/// What a tokenizer does to text before it splits it. nmt_nfkc: upstream's; compatibility forms of characters become the common
/// ones, white space of any kind and length one space, and none is left at the ends. identity: nothing.
enum class Normalization { nmt_nfkc, identity };
constexpr EnumTexts<Normalization, 2> enum_texts(Normalization) {
  return {{{"nmt_nfkc", Normalization::nmt_nfkc}, {"identity", Normalization::identity}}};
}

struct TrainTokenizerOptions {
  std::vector<std::filesystem::path> inputs;  ///< as for DocumentReader
  int vocab_size = 1024;
  std::filesystem::path output;  ///< ends in .model; the list of pieces is written next to it as .vocab
  int64_t max_docs = 0;          ///< use only the first max_docs documents; 0 = all
  /// SentencePiece skips texts longer than kMaxTextBytes, and so does upstream. true: such documents are split at line ends
  /// or spaces into parts that are short enough.
  bool split_long = false;
  Normalization normalization = Normalization::nmt_nfkc;
};

/// Trains a BPE tokenizer with the settings of parameter-golf's data/download_hf_docs_and_tokenize.py: byte fallback,
/// split digits, nmt_nfkc, no dummy prefix, character coverage 0.999, ids 0 pad, 1 BOS, 2 EOS, 3 unknown. The same
/// documents give the same file. Error(bad_input) if there is not enough text for vocab_size pieces.
///
/// ByteCounting::rule is exact for any text with it, once normalized: a lone space is always a piece, however rare it is in the
/// documents. With Normalization::identity it is exact for any text without U+2581; a dummy blank precedes the text, since the
/// rule does not count a document's first space. Logs the bytes of the documents and those that their tokens count
/// (byte_report.h).
void train_tokenizer(const TrainTokenizerOptions& options);

struct TokenizeOptions {
  std::vector<std::filesystem::path> inputs;
  std::filesystem::path tokenizer_path;
  std::filesystem::path out_dir;
  /// Exactly one of the two is set. val_docs: the first val_docs documents are used for validation, as upstream does.
  std::optional<int64_t> val_docs;
  /// A document goes to validation if the first 64 bits of its text's SHA-256, as a fraction of 2^64, are below this;
  /// adding documents does not move others.
  std::optional<double> val_fraction;
  int64_t shard_tokens = 100'000'000;
  int threads = 0;     ///< 0 = all processors
  bool force = false;  ///< replace the shards in out_dir
  ByteCounting byte_counting = ByteCounting::rule;
};

/// Writes fineweb_train_%06d.bin and fineweb_val_%06d.bin: BOS before each document, no EOS; documents continue
/// across shards; every shard is full but the last of its split. The result does not depend on threads. Shards are
/// written into out_dir/.prepare_data.partial and moved into place when all are complete: after an Error out_dir still
/// has its previous shards. A folder that it made does not stay if there are none. A requested split that stays empty is
/// an Error(bad_input), and so are validation documents without text, and tokens that plainly count other bytes than the
/// documents have (byte_report.h). shards.json next to the shards says what they were made with (data/shard_manifest.h).
void tokenize(const TokenizeOptions& options);

/// Checks shards (files, or all .bin files below folders) and prints for each its tokens, documents, the sha256 of its
/// tokens and, with a tokenizer, the bytes of text of its targets (all tokens but the first); then totals, whose targets are all
/// tokens but the first of each split: a shard's first token follows the last one of the shard before. All files are checked
/// before Error(bad_input) reports that some are bad; what is called .bin but is no regular file is bad. Without a tokenizer, BOS
/// is what the manifest next to a shard says, else upstream's 1; warns if a folder has none. Error(usage) if a manifest
/// contradicts the tokenizer.
void verify_shards(const std::vector<std::filesystem::path>& paths, const std::optional<std::filesystem::path>& tokenizer_path,
                   ByteCounting byte_counting = ByteCounting::rule);

/// Prints a shard's header and the text of the tokens [offset, offset + count), one document per line.
void inspect_shard(const std::filesystem::path& path, const std::filesystem::path& tokenizer_path, int64_t offset, int64_t count);

}  // namespace pgolf
