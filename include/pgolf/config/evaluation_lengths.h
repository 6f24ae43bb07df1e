// EVAL_SEQ_LENS: which window lengths a trained model is measured at.
#pragma once

#include <string>
#include <vector>

namespace pgolf {

/// Window lengths from texts such as "0.5x" (times train_seq_len, rounded) or "512", ascending, each once; train_seq_len is
/// always among them. Error(usage) for no text at all, what is no positive length, or one above 2^24.
std::vector<int> evaluation_lengths(const std::vector<std::string>& texts, int train_seq_len);

}  // namespace pgolf
