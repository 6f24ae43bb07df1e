// How an optimizer step is divided.
//
// micro-step: an eighth of the batch, upstream's unit of gradient accumulation.
// micro-batch: the tokens of one forward and backward pass, one or more micro-steps.
#pragma once

namespace pgolf {

/// Micro-steps per optimizer step, over ranks and time, as upstream: every world size sees the same batch.
inline constexpr int kMicroSteps = 8;

}  // namespace pgolf
