// The work behind the program prepare_data: from text to a tokenizer and shards, and back for checking.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace pgolf {

struct TrainTokenizerOptions {
  std::vector<std::filesystem::path> inputs;  ///< as for DocumentReader
  int vocab_size = 1024;
  std::filesystem::path output;  ///< ends in .model; the list of pieces goes beside it as .vocab
  int64_t max_docs = 0;          ///< only the first so many documents; 0 = all
  /// SentencePiece leaves out every text above 4,192 bytes, and so does the Python program. true: such documents are
  /// cut at line ends or blanks into parts that are short enough, and used.
  bool split_long = false;
};

/// Trains a BPE tokenizer with the settings of parameter-golf's data/download_hf_docs_and_tokenize.py: byte fallback,
/// split digits, nmt_nfkc, no dummy prefix, character coverage 0.999, ids 0 pad, 1 BOS, 2 EOS, 3 unknown. The same
/// documents give the same file. Error(bad_input) if the text does not suffice for vocab_size pieces.
void train_tokenizer(const TrainTokenizerOptions& options);

struct TokenizeOptions {
  std::vector<std::filesystem::path> inputs;
  std::filesystem::path tokenizer_path;
  std::filesystem::path out_dir;
  /// Exactly one of the two is set. val_docs: the first so many documents are validation, as upstream does.
  std::optional<int64_t> val_docs;
  /// A document is validation if the first 64 bits of its text's SHA-256, as a fraction of 2^64, are below this;
  /// adding documents moves none of the others.
  std::optional<double> val_fraction;
  int64_t shard_tokens = 100'000'000;
  int threads = 0;     ///< 0 = all processors
  bool force = false;  ///< replace the shards in out_dir
};

/// Writes fineweb_train_%06d.bin and fineweb_val_%06d.bin: BOS before each document, no EOS, documents run on from
/// shard to shard, every shard but the last of its split full. The result does not depend on threads. Shards are
/// written into out_dir/.prepare_data.partial and moved into place when all are complete: after an Error out_dir has
/// the shards it had before. A split that was asked for and stays empty is an Error(bad_input).
void tokenize(const TokenizeOptions& options);

/// Checks shards (files, or all .bin files below folders) and prints for each its tokens, documents, the sha256 of its
/// tokens and, with a tokenizer, the bytes its targets (all tokens but the first) stand for; then totals. All files are
/// checked before Error(bad_input) tells that some were bad.
void verify_shards(const std::vector<std::filesystem::path>& paths, const std::optional<std::filesystem::path>& tokenizer_path);

/// Prints a shard's header facts and the text of the tokens [offset, offset + count), each document on a line of its own.
void inspect_shard(const std::filesystem::path& path, const std::filesystem::path& tokenizer_path, int64_t offset, int64_t count);

}  // namespace pgolf
