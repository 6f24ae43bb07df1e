// FIT_BUDGET: coarser codes instead of an artifact that is too large.
#pragma once

#include <cstdint>
#include <functional>

#include "pgolf/model_io/model_writer.h"

namespace pgolf {

/// The number of bytes that an ideal coder of single codes would need: their entropy, and all other bytes as they are.
double information_bytes(const QuantizedModel& model);

struct FittedModel {
  double factor = 1;  ///< of both clips
  QuantizedModel quantized;
  Artifact artifact;
  int compressed = 0;  ///< artifacts that were made
};

/// The smallest factor of the clips, to about 0.1 % of the size, whose artifact has at most limit bytes. A code whose clip is f
/// times as large needs log2(f) bits less, as long as the codes are spread out. The information predicts the size, on the line
/// through the last two candidates, so that two or three are compressed as a rule. If the limit cannot be reached below a factor
/// of 8, the artifact is the last one tried. quantize(factor) must be GPTQ with both clips times factor.
FittedModel fit_budget(const std::function<QuantizedModel(double factor)>& quantize,
                       const std::function<Artifact(const QuantizedModel&)>& compress, int64_t limit);

}  // namespace pgolf
