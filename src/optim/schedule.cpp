#include "pgolf/optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace pgolf {

namespace {

double cosine_scale(const ScheduleConfig& schedule, int step, double elapsed_ms) {
  const bool timed = schedule.max_wallclock_seconds > 0;
  const double budget = timed ? 1000.0 * schedule.max_wallclock_seconds : schedule.iterations;
  const double done = timed ? elapsed_ms : step, warmup = schedule.lr_warmup_frac * budget;
  if (done < warmup) return std::min((timed ? elapsed_ms : step + 1) / warmup, 1.0);
  const double part = std::min((done - warmup) / std::max(budget - warmup, 1e-9), 1.0);
  return schedule.lr_min_scale + (1 - schedule.lr_min_scale) * 0.5 * (1 + std::cos(std::numbers::pi * part));
}

}  // namespace

double lr_scale(const ScheduleConfig& schedule, int step, double elapsed_ms) {
  if (schedule.lr_schedule == LrSchedule::cosine) return cosine_scale(schedule, step, elapsed_ms);
  const bool by_fraction = schedule.warmdown_frac >= 0;
  if (by_fraction ? schedule.warmdown_frac == 0 : schedule.warmdown_iters <= 0) return 1.0;
  if (schedule.max_wallclock_seconds <= 0) {
    const double warmdown = by_fraction ? schedule.warmdown_frac * schedule.iterations : schedule.warmdown_iters;
    const double remaining = schedule.iterations - step;
    if (remaining > warmdown || remaining <= 0) return 1.0;
    return remaining / std::max(warmdown, 1.0);
  }
  const double cap_ms = 1000.0 * schedule.max_wallclock_seconds;
  const double warmdown_ms =
      by_fraction ? schedule.warmdown_frac * cap_ms : schedule.warmdown_iters * (elapsed_ms / std::max(step, 1));
  const double remaining_ms = std::max(cap_ms - elapsed_ms, 0.0);
  return remaining_ms <= warmdown_ms ? remaining_ms / std::max(warmdown_ms, 1e-9) : 1.0;
}

double muon_momentum(const OptimConfig& optim, int step) {
  const double fraction =
      optim.muon_momentum_warmup_steps > 0 ? std::min(static_cast<double>(step) / optim.muon_momentum_warmup_steps, 1.0) : 1.0;
  return (1 - fraction) * optim.muon_momentum_warmup_start + fraction * optim.muon_momentum;
}

}  // namespace pgolf
