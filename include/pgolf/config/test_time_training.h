// Test-time training: its options, which train_gpt and eval_gpt score have in common.
#pragma once

#include "pgolf/config/options.h"
#include "pgolf/config/run_config.h"

namespace pgolf {

void add_test_time_training(OptionTable& table, TestTimeTraining& ttt);

/// Error(usage) if it is enabled without a stride between windows, or off and set. stride: EVAL_STRIDE.
void check_test_time_training(const TestTimeTraining& ttt, int stride, const std::vector<ResolvedOption>& options);

}  // namespace pgolf
