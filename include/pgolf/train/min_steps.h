// MIN_STEPS: how many tokens a step, and how many blocks, leave this machine time for enough steps.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "pgolf/config/train_options.h"
#include "pgolf/dist/process.h"
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
  double step_ms = 0;   ///< of this size, as timed or as predicted
  bool enough = false;  ///< step_ms is no more than was asked for
};

struct StepTimes {
  double best_ms = 0;   ///< the quickest step
  double spent_ms = 0;  ///< in finding out
};
/// Times at least one step, and more if allowed_ms leaves time for them.
using TimeSteps = std::function<StepTimes(const StepSize& size, double allowed_ms)>;

/// The most tokens whose step takes at most most_ms; where the fewest take longer, these with as many layers as do not; where
/// there is nothing of the kind, the smallest size. tokens, layers: what may be taken, largest first.
/// Times the fewest tokens and then one more size, which the budget of about five seconds and the first time choose; a line
/// through the two predicts the rest.
StepFit fit_steps(const std::vector<int64_t>& tokens, const std::vector<int>& layers, double most_ms,
                  const TimeSteps& time_steps);

/// The command resolved anew.
using Resolve = std::function<TrainCommand(const Overrides&)>;

/// Puts TRAIN_BATCH_TOKENS and NUM_LAYERS that suit MIN_STEPS into the command, and 0 into MIN_STEPS; none is larger than it was.
/// With a checkpoint they are those of the checkpoint, else steps of trainers made for the purpose are timed, and the line that
/// says what came of it is returned.
std::string apply_min_steps(TrainCommand& command, const std::optional<Checkpoint>& checkpoint, const Resolve& resolve,
                            const Runtime& runtime, const Process& process);

}  // namespace pgolf
