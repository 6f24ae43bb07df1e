#include "pgolf/train/min_steps.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/base/log.h"
#include "pgolf/config/parse.h"
#include "pgolf/train/trainer.h"

namespace pgolf {
namespace {

constexpr double kBudgetMs = 5000;            ///< for all timing, although each timed size takes at least one step
constexpr double kFirstMs = 0.8 * kBudgetMs;  ///< share of the first size
constexpr int kSteps = 3;                     ///< timed if time allows: the first warms up the caches ...
constexpr double kQuickMs = 500;              ///< ... and more if they take less than this
constexpr int kMinLayers = 2;

using Clock = std::chrono::steady_clock;

double milliseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

/// The line through two timings. Time grows with size, so a falling line is noise; it is replaced by the constant y1.
struct Line {
  double x, y, slope;
  Line(double x0, double y0, double x1, double y1) : x(x1), y(y1), slope(std::max((y1 - y0) / (x1 - x0), 0.0)) {}
  double at(double other) const { return y + slope * (other - x); }
};

StepFit fit_tokens(const std::vector<int64_t>& tokens, int layers, double max_step_ms, const StepTimes& smallest,
                   const TimeSteps& time_steps) {
  const int64_t min_tokens = tokens.back();
  const double left = kBudgetMs - smallest.spent_ms;
  // An upper bound, because the time of the update does not depend on the number of tokens.
  const auto upper_bound = [&](int64_t n) { return smallest.best_ms * static_cast<double>(n) / static_cast<double>(min_tokens); };
  std::function<double(int64_t)> predicted = upper_bound;
  const auto timed = std::find_if(tokens.begin(), tokens.end() - 1, [&](int64_t n) { return 1.5 * upper_bound(n) <= left; });
  if (timed != tokens.end() - 1) {
    const double ms = time_steps({*timed, layers}, left).best_ms;
    const Line line(static_cast<double>(min_tokens), smallest.best_ms, static_cast<double>(*timed), ms);
    predicted = [line](int64_t n) { return line.at(static_cast<double>(n)); };
  }
  for (const int64_t n : tokens) {
    if (n != min_tokens && predicted(n) <= max_step_ms) return {{n, layers}, predicted(n), true};
  }
  return {{min_tokens, layers}, smallest.best_ms, true};
}

StepFit fit_layers(int64_t tokens, const std::vector<int>& layers, double max_step_ms, const StepTimes& all,
                   const TimeSteps& time_steps) {
  if (layers.size() == 1) return {{tokens, layers.front()}, all.best_ms, false};
  // The largest value below `below` that fits; otherwise the smallest.
  const auto largest = [&](int below, const std::function<double(int)>& predicted) {
    const auto found =
        std::find_if(layers.begin(), layers.end(), [&](int n) { return n < below && predicted(n) <= max_step_ms; });
    return found == layers.end() ? layers.back() : *found;
  };
  const int first = largest(layers.front(), [&](int n) { return all.best_ms * n / layers.front(); });
  const double ms = time_steps({tokens, first}, kBudgetMs - all.spent_ms).best_ms;
  if (ms <= max_step_ms || first == layers.back()) return {{tokens, first}, ms, ms <= max_step_ms};
  // The time of embedding and head does not depend on the number of layers.
  const Line line(layers.front(), all.best_ms, first, ms);
  const int second = largest(first, [&](int n) { return line.at(n); });
  return {{tokens, second}, line.at(second), line.at(second) <= max_step_ms};
}

StepTimes time_steps(const TrainCommand& command, const Runtime& runtime, Group& group, double allowed_ms) {
  auto begin = Clock::now();
  Trainer trainer(command.config, command.resolved, runtime, group);
  trainer.set_extra_passes(command.config.model.num_loops);  // the slowest steps
  if (runtime.device.is_cuda()) {
    // The first step loads libraries and kernels, the second is recorded: seconds that say nothing about a step.
    for (int i = 0; i < 2; ++i) trainer.warmup_step();
    synchronize(runtime.device);
    begin = Clock::now();
  }
  StepTimes times{.best_ms = std::numeric_limits<double>::infinity()};
  for (int steps = 1;; ++steps) {
    const auto start = Clock::now();
    trainer.warmup_step();
    synchronize(runtime.device);
    const double ms = milliseconds_since(start);
    if (stop_signal() != 0)
      throw Error(ExitCode::interrupted, "interrupted before the run started, while timing steps for MIN_STEPS");
    times = {std::min(times.best_ms, ms), milliseconds_since(begin)};
    if (times.spent_ms + ms > allowed_ms || (steps >= kSteps && times.spent_ms > kQuickMs)) return times;
  }
}

Overrides overrides_of(const StepSize& size, const StepSize& given, const std::string& origin) {
  Overrides overrides;
  if (size.tokens != given.tokens) overrides.push_back({"TRAIN_BATCH_TOKENS", std::to_string(size.tokens), origin});
  if (size.layers != given.layers) overrides.push_back({"NUM_LAYERS", std::to_string(size.layers), origin});
  return overrides;
}

/// The checkpoint's size where MIN_STEPS may have reduced it.
StepSize size_of(const Checkpoint& checkpoint, const StepSize& given) {
  const auto stored = [&](const char* name, int64_t max) {
    const auto found = checkpoint.state.config.find(name);
    if (found == checkpoint.state.config.end()) return max;
    return std::min(parse_integer(found->second).value_or(max), max);
  };
  return {stored("TRAIN_BATCH_TOKENS", given.tokens), static_cast<int>(stored("NUM_LAYERS", given.layers))};
}

/// "TRAIN_BATCH_TOKENS=4096 (of 16384)".
std::string choice_text(const char* name, int64_t chosen, int64_t given) {
  const std::string text = format("%s=%lld", name, static_cast<long long>(chosen));
  return chosen == given ? text : text + format(" (of %lld)", static_cast<long long>(given));
}

}  // namespace

StepFit fit_steps(const std::vector<int64_t>& tokens, const std::vector<int>& layers, double max_step_ms,
                  const TimeSteps& time_steps) {
  const StepTimes smallest = time_steps({tokens.back(), layers.front()}, kFirstMs);
  if (smallest.best_ms > max_step_ms) return fit_layers(tokens.back(), layers, max_step_ms, smallest, time_steps);
  return fit_tokens(tokens, layers.front(), max_step_ms, smallest, time_steps);
}

std::string apply_min_steps(TrainCommand& command, const std::optional<Checkpoint>& checkpoint, const Resolve& resolve,
                            const Runtime& runtime, Group& group) {
  if (group.world_size() > 1) refuse(command.resolved, {"MIN_STEPS"}, "MIN_STEPS needs a single process", "remove it");
  const ScheduleConfig& schedule = command.config.schedule;
  const StepSize given{command.config.data.train_batch_tokens, command.config.model.num_layers};
  const ResolvedOption requested = find_option(command.resolved, "MIN_STEPS");
  const auto apply = [&](const StepSize& size, const std::string& origin) {
    Overrides overrides = overrides_of(size, given, origin + " for MIN_STEPS=" + requested.text);
    overrides.push_back({"MIN_STEPS", "0", "was " + requested.text + " (" + requested.origin + ")"});
    TrainCommand resolved = resolve(overrides);
    // The run folder is already chosen, and resolving again would generate another RUN_ID.
    resolved.config.output = command.config.output;
    find_option(resolved.resolved, "RUN_ID") = find_option(command.resolved, "RUN_ID");
    command = std::move(resolved);
  };
  if (checkpoint) {
    apply(size_of(*checkpoint, given), "from the checkpoint");
    return "";
  }

  const auto sized = [&](const StepSize& size) { return resolve(overrides_of(size, given, "tried")); };
  const auto legal = [&](const StepSize& size) {
    try {
      sized(size);
      return true;
    } catch (const Error& error) {
      if (error.code() != ExitCode::usage) throw;
      return false;
    }
  };
  std::vector<int64_t> tokens{given.tokens};
  while (tokens.back() % 2 == 0 && legal({tokens.back() / 2, given.layers})) tokens.push_back(tokens.back() / 2);
  std::vector<int> layers{given.layers};
  for (int n = given.layers - 1; n >= kMinLayers; --n) {
    if (legal({given.tokens, n})) layers.push_back(n);
  }
  const int steps = std::max(std::min(schedule.min_steps, schedule.iterations), 1);
  const double cap_ms = schedule.cap_ms();
  const StepFit fit = fit_steps(tokens, layers, cap_ms / steps, [&](const StepSize& size, double allowed_ms) {
    return time_steps(sized(size), runtime, group, allowed_ms);
  });
  const double predicted_steps = std::floor(cap_ms / fit.step_ms);
  apply(fit.size, "chosen");
  if (!fit.fits) {
    command.warnings.push_back(
        format("MIN_STEPS=%s: the smallest step takes about %.0f ms, so only %.0f steps fit into MAX_WALLCLOCK_SECONDS=%s",
               requested.text.c_str(), fit.step_ms, predicted_steps,
               find_option(command.resolved, "MAX_WALLCLOCK_SECONDS").text.c_str()));
    log::warn(command.warnings.back());
  }
  return format("min_steps:%s %s:%s %s predicted_step:%.0fms predicted_steps:%.0f", requested.text.c_str(),
                fit.fits ? "fits" : "smallest", choice_text("TRAIN_BATCH_TOKENS", fit.size.tokens, given.tokens).c_str(),
                choice_text("NUM_LAYERS", fit.size.layers, given.layers).c_str(), fit.step_ms, predicted_steps);
}

}  // namespace pgolf
