// MIN_STEPS: chooses tokens per step and blocks such that enough steps fit into the time cap on this machine.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "pgolf/config/train_options.h"
#include "pgolf/dist/group.h"
#include "pgolf/model_io/checkpoint.h"
#include "pgolf/train/runtime.h"

namespace pgolf {

struct StepSize {
  int64_t tokens = 0;  ///< TRAIN_BATCH_TOKENS
  int layers = 0;      ///< NUM_LAYERS
  bool operator==(const StepSize&) const = default;
};

struct StepFit {
  StepSize size;
  double step_ms = 0;  ///< timed or predicted, for this size
  bool fits = false;   ///< step_ms is within the limit
};

struct StepTimes {
  double best_ms = 0;   ///< fastest step
  double spent_ms = 0;  ///< total time spent on timing
};
/// Times at least one step, and more if allowed_ms leaves time for them.
using TimeSteps = std::function<StepTimes(const StepSize& size, double allowed_ms)>;

/// The largest number of tokens whose step takes at most max_step_ms; if even the smallest takes longer, the smallest with the
/// most layers that fit; if none fit, the smallest size. tokens, layers: the candidates, in descending order.
/// Times the smallest number of tokens and then one more size, chosen by the first timing and a budget of about five seconds; a
/// line through the two predicts the rest.
StepFit fit_steps(const std::vector<int64_t>& tokens, const std::vector<int>& layers, double max_step_ms,
                  const TimeSteps& time_steps);

/// Resolves the command again.
using Resolve = std::function<TrainCommand(const Overrides&)>;

/// Sets TRAIN_BATCH_TOKENS and NUM_LAYERS of the command according to MIN_STEPS, never increasing them, and MIN_STEPS to 0.
/// With a checkpoint they are the checkpoint's; otherwise times steps of temporary trainers and returns a log line with the
/// result.
std::string apply_min_steps(TrainCommand& command, const std::optional<Checkpoint>& checkpoint, const Resolve& resolve,
                            const Runtime& runtime, Group& group);

}  // namespace pgolf
