// EVAL_SEQ_LENS: the window lengths at which a trained model is evaluated.
#pragma once

#include <string>
#include <vector>

namespace pgolf {

/// Window lengths from texts such as "0.5x" (times train_seq_len, rounded) or "512", ascending, without duplicates;
/// train_seq_len is always included. Error(usage) for an empty list, and for a length that is not from 1 to 2^24.
std::vector<int> evaluation_lengths(const std::vector<std::string>& texts, int train_seq_len);

}  // namespace pgolf
