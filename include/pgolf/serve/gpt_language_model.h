// Adapts a Gpt to the server's interface.
#pragma once

#include <memory>

#include "pgolf/model/gpt.h"
#include "pgolf/serve/language_model.h"

namespace pgolf {

/// Scores prompts like likelihoods() (pgolf/eval/likelihood.h), bit for bit; samples text like generate().
std::unique_ptr<LanguageModel> make_language_model(Gpt model, int context, int bos_id, const at::Device& device);

}  // namespace pgolf
