// What a run shows of its model during training.
#pragma once

#include <optional>
#include <string>

#include "pgolf/config/run_config.h"
#include "pgolf/data/tokenizer.h"
#include "pgolf/model/gpt.h"
#include "pgolf/run/event_file.h"

namespace pgolf {

/// config.prompt and its continuation, with the sampling options' defaults; every call uses the same seed.
/// context: see GenerateOptions. Error(bad_input) if the tokenizer has no BOS.
std::string sample_text(Gpt& model, const Tokenizer& tokenizer, const SampleConfig& config, int context,
                        const at::Device& device);

/// In buckets of equal width between the smallest and the largest finite value; none if there is no such value.
std::optional<Histogram> histogram_of(const at::Tensor& values);

}  // namespace pgolf
