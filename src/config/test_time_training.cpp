#include "pgolf/config/test_time_training.h"

namespace pgolf {

void add_test_time_training(OptionTable& table, TestTimeTraining& ttt) {
  table.add("TTT_ENABLED", bind::boolean(&ttt.enabled), "",
            "Test-time training: train on each chunk of the validation tokens once all its windows have been scored. Needs "
            "EVAL_STRIDE.");
  table.add("TTT_LR", bind::number(&ttt.lr, {.low = 0}), "", "Learning rate of SGD for the first chunk; falls to 0 by a cosine.");
  table.add("TTT_EPOCHS", bind::integer(&ttt.epochs, 0, 1 << 20), "", "Passes over each chunk.");
  table.add("TTT_MOMENTUM", bind::number(&ttt.momentum, {.low = 0, .high = 1, .high_open = true}), "", "Momentum of SGD.");
  table.add("TTT_CHUNK_TOKENS", bind::integer(&ttt.chunk_tokens, 1, int64_t{1} << 40), "tokens", "Length of a chunk.");
}

void check_test_time_training(const TestTimeTraining& ttt, int stride, const std::vector<ResolvedOption>& options) {
  if (ttt.enabled && stride == 0) {
    refuse(options, {"TTT_ENABLED", "EVAL_STRIDE"}, "test-time training scores overlapping windows",
           "set EVAL_STRIDE, such as 64");
  }
  const TestTimeTraining defaults;
  const auto must_be_default = [&](const char* name, bool is_default) {
    if (!ttt.enabled && !is_default) refuse(options, {name, "TTT_ENABLED"}, "no effect without test-time training");
  };
  must_be_default("TTT_LR", ttt.lr == defaults.lr);
  must_be_default("TTT_EPOCHS", ttt.epochs == defaults.epochs);
  must_be_default("TTT_MOMENTUM", ttt.momentum == defaults.momentum);
  must_be_default("TTT_CHUNK_TOKENS", ttt.chunk_tokens == defaults.chunk_tokens);
}

}  // namespace pgolf
