// From a trained model to its artifact.
#pragma once

#include <cstdint>
#include <functional>

#include "pgolf/model/gpt.h"
#include "pgolf/model_io/model_writer.h"
#include "pgolf/train/runtime.h"

namespace pgolf {

struct PackedModel {
  Artifact artifact;
  QuantStats stats;
};

/// Quantizes and compresses the model as config.output says, and logs how long the parts of GPTQ took. code_bytes: the code's
/// share of the budget. after_part: called after each part of GPTQ, of which the longest takes minutes; may be empty.
PackedModel pack_model(Gpt& model, const ModelMetadata& metadata, const RunConfig& config, const Runtime& runtime,
                       const Process& process, int64_t code_bytes, const std::function<void()>& after_part = {});

}  // namespace pgolf
