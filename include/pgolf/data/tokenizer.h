// A SentencePiece model. Encodes and decodes like Python's SentencePieceProcessor.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "pgolf/data/sentencepiece_model.h"

namespace pgolf {

/// What stands for a space in pieces, U+2581. A text's own U+2581 is encoded like a space, and lost.
inline constexpr std::string_view kBlank = "\u2581";

/// A piece with a space for every kBlank.
std::string with_spaces(std::string piece);

/// The space that encoding adds to a text, which decoding takes off again.
enum class DummyBlank { none, first, last };

/// Immutable after construction; all members may be called from several threads at once.
class Tokenizer {
 public:
  /// Error(bad_input) if the file is missing or is not a SentencePiece model.
  explicit Tokenizer(const std::filesystem::path& model_path);
  /// From a model file's content; origin names it in messages.
  Tokenizer(std::string_view serialized, const std::filesystem::path& origin);
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  const std::filesystem::path& path() const { return path_; }
  int vocab_size() const;
  int bos_id() const;  ///< -1 if the model has none
  int eos_id() const;  ///< -1 if the model has none
  int pad_id() const;  ///< -1 if the model has none
  int unknown_id() const;
  /// bos_id(). Error(bad_input) if the model has none.
  int required_bos_id() const;
  /// The ids that end a text when a model samples them, BOS and EOS; those that exist.
  std::vector<int> document_ends() const;

  /// Ids of the text's pieces, without BOS or EOS. The model's own normalization comes first: line ends and
  /// runs of whitespace become one space, and bytes that are not UTF-8 become U+FFFD.
  std::vector<int> encode(std::string_view text) const;
  /// Control ids (pad, BOS, EOS) decode to nothing. Error(bad_input) if an id is not in the vocabulary.
  std::string decode(const std::vector<int>& ids) const;

  /// The text as encode() splits it, normalized, with kBlank for spaces and with the dummy blank.
  std::string normalize(std::string_view text) const;
  /// Bytes of the normalized text, with spaces as one byte, that encode() turns into unknown pieces.
  int64_t unknown_bytes(std::string_view text) const;
  DummyBlank dummy_blank() const;

  /// These need 0 <= id < vocab_size().
  const std::string& id_to_piece(int id) const;
  float score(int id) const;
  bool is_byte(int id) const;
  unsigned char byte_of(int id) const;  ///< of a byte piece: "<0xE2>" is 0xE2
  bool is_control(int id) const;
  bool is_unknown(int id) const;
  bool is_unused(int id) const;

  SentencePieceModel contents() const;

  /// Error(usage) with both numbers unless the model has exactly vocab_size pieces.
  void require_vocab_size(int vocab_size) const;

  /// Identifies the pieces, but not how text is split into them: the first 16 hexadecimal digits of the SHA-256 of, for each id,
  /// a letter (c control, u unknown, x unused, b byte, t text), the piece and a line end.
  std::string fingerprint() const;
  /// Error(usage) unless fingerprint is this tokenizer's, or empty (unknown). owner: what was made with that one, "the model
  /// x.pt".
  void require_fingerprint(const std::string& fingerprint, const std::string& owner) const;

 private:
  struct Model;
  /// encode() as pieces: unknown ones are the text that they stand for.
  std::vector<std::string> spellings(std::string_view text) const;

  std::filesystem::path path_;
  std::unique_ptr<Model> model_;
};

}  // namespace pgolf
