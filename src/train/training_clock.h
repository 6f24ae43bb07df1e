// Measures a run's training time and decides when it ends.
#pragma once

#include <chrono>
#include <cstdint>

#include "pgolf/config/run_config.h"
#include "pgolf/train/runtime.h"

namespace pgolf {

/// Training time: excludes validation and checkpoints, includes all device work submitted.
class TrainingClock {
 public:
  /// Starts running. total_ms: the time up to the last pause; the clock adds to it.
  TrainingClock(at::Device device, double* total_ms) : device_(device), total_ms_(total_ms) { resume(); }

  /// Does not wait for pending device work.
  double now_ms() const { return *total_ms_ + since_start(); }

  void pause() {
    synchronize(device_);
    *total_ms_ += since_start();
  }
  void resume() {
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

/// Stops after ITERATIONS, or after the step in which the time for training ran out.
class StopCondition {
 public:
  explicit StopCondition(const ScheduleConfig& schedule) : iterations_(schedule.iterations), cap_ms_(schedule.cap_ms()) {}

  void check_time(int64_t step, double now_ms) {
    if (!time_is_up() && cap_ms_ > 0 && now_ms >= cap_ms_) last_step_ = step;
  }
  /// Whether the cap was exceeded at the last check_time().
  bool time_is_up() const { return last_step_ >= 0; }
  bool reached(int64_t step) const { return step == iterations_ || (time_is_up() && step >= last_step_); }
  bool stopped_early(int64_t step) const { return time_is_up() && step < iterations_; }

 private:
  int64_t iterations_;
  double cap_ms_;           ///< 0: none
  int64_t last_step_ = -1;  ///< -1: not known yet
};

}  // namespace pgolf
