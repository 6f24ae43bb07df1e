// Learning-rate and momentum schedules: pure functions of step and elapsed training time.
#pragma once

#include "pgolf/config/run_config.h"

namespace pgolf {

/// The part of the budget that is used: of the time cap, else of the iterations.
/// step: steps done. elapsed_ms: training time so far, validation excluded.
double used_fraction(const ScheduleConfig& schedule, int step, double elapsed_ms);

/// Factor on every base learning rate.
/// golf (upstream's lr_mul): no warmup; 1, then linear decay to 0, but not below min_lr:
///  - during the last warmdown_frac of the budget, if that is set;
///  - else with a time cap: during its last warmdown_iters * (average step time) milliseconds;
///  - else: during the last warmdown_iters iterations.
/// cosine: depends on the fraction p of the budget (time with a cap, else iterations) that is used. Linear warmup to 1 while p is
/// below lr_warmup_frac (by iterations: (step + 1) / warmup iterations), then half a cosine down to lr_min_scale.
/// step, elapsed_ms: as above.
double lr_scale(const ScheduleConfig& schedule, int step, double elapsed_ms);

/// The extra passes over looped blocks in the step after that part of the budget, when the step before made `current` of them:
/// first 0, from enable_looping_at on num_loops, or if loop_phase2_at is set 1, and num_loops from there on. They never become
/// fewer, and change at most once per step.
int extra_passes(const ScheduleConfig& schedule, int num_loops, int current, double used);

/// Muon's momentum for the step after `step` finished ones: linear from muon_momentum_warmup_start to muon_momentum.
double muon_momentum(const OptimConfig& optim, int step);

}  // namespace pgolf
