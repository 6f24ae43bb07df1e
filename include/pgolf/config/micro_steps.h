// How an optimiser step is divided.
#pragma once

namespace pgolf {

/// The Python program splits every step into this many micro-steps, over ranks and time: every world size sees the same batch.
inline constexpr int kMicroSteps = 8;

}  // namespace pgolf
