// A SentencePiece model as the files of Hugging Face's tokenizers.
#pragma once

#include <string>

#include "pgolf/data/tokenizer.h"

namespace pgolf {

/// tokenizer.json: the same ids as Tokenizer::encode(), after BOS if there is one. The text of a control piece ("<s>") is encoded
/// like any other if the caller sets split_special_tokens, which tokenizer_config_json() does. Error(bad_input) for what the
/// format cannot say: models of words or characters, unused pieces, a space at the end of words.
std::string tokenizer_json(const Tokenizer& tokenizer);

/// tokenizer_config.json: special tokens and the class to open tokenizer.json with. context_length: longest input, in tokens.
std::string tokenizer_config_json(const Tokenizer& tokenizer, int context_length);

}  // namespace pgolf
