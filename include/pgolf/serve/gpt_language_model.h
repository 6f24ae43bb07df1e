// A Gpt behind the server's interface.
#pragma once

#include <memory>

#include "pgolf/model/gpt.h"
#include "pgolf/serve/language_model.h"

namespace pgolf {

/// Prompts are scored as likelihoods() does it (pgolf/eval/likelihood.h), to the same bits; text is drawn as generate() does it.
std::unique_ptr<LanguageModel> make_language_model(Gpt model, int context, const at::Device& device);

}  // namespace pgolf
