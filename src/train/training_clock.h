// When a run's time passes, and when it is up.
#pragma once

#include <chrono>
#include <cstdint>

#include "pgolf/config/run_config.h"
#include "pgolf/train/runtime.h"

namespace pgolf {

/// Training time: without validation and checkpoints, and with all work that was given to the device.
class TrainingClock {
 public:
  /// Runs from now on. total_ms: what has passed up to the last pause; the clock adds to it.
  TrainingClock(at::Device device, double* total_ms) : device_(device), total_ms_(total_ms) { go_on(); }

  /// Device work under way is not waited for.
  double now_ms() const { return *total_ms_ + since_start(); }

  void pause() {
    synchronize(device_);
    *total_ms_ += since_start();
  }
  void go_on() {
    synchronize(device_);
    start_ = Clock::now();
  }

 private:
  using Clock = std::chrono::steady_clock;
  double since_start() const { return std::chrono::duration<double, std::milli>(Clock::now() - start_).count(); }

  at::Device device_;
  double* total_ms_;
  Clock::time_point start_;
};

/// After ITERATIONS, or after the step in which MAX_WALLCLOCK_SECONDS ran out.
class StopRule {
 public:
  explicit StopRule(const ScheduleConfig& schedule)
      : iterations_(schedule.iterations), cap_ms_(1000.0 * schedule.max_wallclock_seconds) {}

  void look_at_the_clock(int64_t step, double now_ms) {
    if (!decided() && cap_ms_ > 0 && now_ms >= cap_ms_) last_step_ = step;
  }
  /// Whether the time was up when it was last looked at.
  bool decided() const { return last_step_ >= 0; }
  bool reached(int64_t step) const { return step == iterations_ || (decided() && step >= last_step_); }
  bool early(int64_t step) const { return decided() && step < iterations_; }

 private:
  int64_t iterations_;
  double cap_ms_;           ///< 0: none
  int64_t last_step_ = -1;  ///< -1: not decided
};

}  // namespace pgolf
