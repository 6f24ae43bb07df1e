#include "pgolf/optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace pgolf {

namespace {

double cosine_scale(const ScheduleConfig& schedule, int step, double elapsed_ms) {
  const bool timed = schedule.cap_ms() > 0;
  const double budget = timed ? schedule.cap_ms() : schedule.iterations;
  const double done = timed ? elapsed_ms : step, warmup = schedule.lr_warmup_frac * budget;
  if (done < warmup) return std::min((timed ? elapsed_ms : step + 1) / warmup, 1.0);
  const double part = std::min((done - warmup) / std::max(budget - warmup, 1e-9), 1.0);
  return schedule.lr_min_scale + (1 - schedule.lr_min_scale) * 0.5 * (1 + std::cos(std::numbers::pi * part));
}

}  // namespace

double used_fraction(const ScheduleConfig& schedule, int step, double elapsed_ms) {
  const double cap_ms = schedule.cap_ms();
  return cap_ms > 0 ? elapsed_ms / cap_ms : step / std::max(static_cast<double>(schedule.iterations), 1.0);
}

double lr_scale(const ScheduleConfig& schedule, int step, double elapsed_ms) {
  if (schedule.lr_schedule == LrSchedule::cosine) return cosine_scale(schedule, step, elapsed_ms);
  if (schedule.warmdown_frac >= 0) {
    const double used = used_fraction(schedule, step, elapsed_ms);
    if (schedule.warmdown_frac == 0 || used < 1 - schedule.warmdown_frac) return 1.0;
    return std::max((1 - used) / schedule.warmdown_frac, schedule.min_lr);
  }
  if (schedule.warmdown_iters <= 0) return 1.0;
  const double cap_ms = schedule.cap_ms();
  if (cap_ms <= 0) {
    const double remaining = schedule.iterations - step;
    if (remaining > schedule.warmdown_iters || remaining <= 0) return 1.0;
    return std::max(remaining / schedule.warmdown_iters, schedule.min_lr);
  }
  const double warmdown_ms = schedule.warmdown_iters * (elapsed_ms / std::max(step, 1));
  const double remaining_ms = std::max(cap_ms - elapsed_ms, 0.0);
  return remaining_ms <= warmdown_ms ? std::max(remaining_ms / std::max(warmdown_ms, 1e-9), schedule.min_lr) : 1.0;
}

int extra_passes(const ScheduleConfig& schedule, int num_loops, int current, double used) {
  if (current == num_loops) return current;
  if (current > 0) return used >= schedule.loop_phase2_at ? num_loops : current;
  if (used < schedule.enable_looping_at) return 0;
  return schedule.loop_phase2_at > 0 ? 1 : num_loops;
}

double muon_momentum(const OptimConfig& optim, int step) {
  const double fraction =
      optim.muon_momentum_warmup_steps > 0 ? std::min(static_cast<double>(step) / optim.muon_momentum_warmup_steps, 1.0) : 1.0;
  return (1 - fraction) * optim.muon_momentum_warmup_start + fraction * optim.muon_momentum;
}

}  // namespace pgolf
