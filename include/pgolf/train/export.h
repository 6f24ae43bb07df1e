// What remains of a run: final_model.pt, the artifact under the size budget, and the proof that it can be read back.
#pragma once

#include "pgolf/train/trainer.h"

namespace pgolf {

/// Writes both files, logs their sizes against BUDGET_BYTES, reads the artifact back into the trainer's model and
/// scores it. code_bytes: what counts beside the model (the compressed source bundle). ExitCode::over_budget if model and
/// code exceed the budget; both files are kept all the same.
ExitCode export_model(Trainer& trainer, const RunFolder& folder, int64_t code_bytes);

}  // namespace pgolf
