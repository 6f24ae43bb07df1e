// The contents of a SentencePiece model, for checking it and for writing the same tokenizer in another format.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace pgolf {

/// A part of sentencepiece_model.proto, the protocol buffer that a .model file is.
struct SentencePieceModel {
  enum class Kind { unigram = 1, bpe = 2, word = 3, character = 4 };
  enum class Type { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };
  struct Piece {
    std::string text;
    float score = 0;
    Type type = Type::normal;
  };

  std::vector<Piece> pieces;
  Kind kind = Kind::unigram;
  bool byte_fallback = false;
  bool blank_at_end = false;        ///< the dummy blank, and in pieces the blank of a word
  std::string charsmap;             ///< normalization rules, compiled; empty: none
  bool dummy_blank = true;          ///< a space before each text
  bool remove_extra_spaces = true;  ///< at both ends, and all but one of a run
  bool escape_spaces = true;        ///< a space becomes kBlank
};

/// Error(bad_input), naming origin, if serialized is not such a protocol buffer.
SentencePieceModel read_sentencepiece(std::string_view serialized, const std::string& origin);

}  // namespace pgolf
