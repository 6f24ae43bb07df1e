// Exports a trained model: final_model.pt and the artifact under the size budget, and validates the artifact.
#pragma once

#include "pgolf/train/trainer.h"

namespace pgolf {

/// Called on all ranks; rank 0 does it, the others take part in the validation. Writes both files, logs their sizes against
/// BUDGET_BYTES, loads the artifact into the trainer's model and scores it; with TTT_ENABLED the model then goes on learning.
/// code_bytes: the code's share of the budget (the compressed source bundle). ExitCode::over_budget if model and code exceed the
/// budget; both files are kept even then.
ExitCode export_model(Trainer& trainer, const RunFolder& folder, int64_t code_bytes);

}  // namespace pgolf
