// The artifact's scores in overlapping windows.
#pragma once

#include "pgolf/train/trainer.h"

namespace pgolf {

/// On all ranks, each scoring its share: with EVAL_STRIDE the score "sliding_window", with TTT_ENABLED also "ttt", during which
/// the trainer's model learns. Rank 0 logs and records them. False if a stop signal ended it early.
bool score_overlapping(Trainer& trainer, RecordFile* records);

}  // namespace pgolf
