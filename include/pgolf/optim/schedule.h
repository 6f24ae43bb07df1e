// Learning-rate and momentum schedules: pure functions of step and elapsed training time.
#pragma once

#include "pgolf/config/run_config.h"

namespace pgolf {

/// Factor on every base learning rate.
/// golf (upstream's lr_mul): no warmup; 1, then linear decay to 0:
///  - with a wall-clock cap: during the last warmdown_iters * (average step time) milliseconds of it, or the last
///    warmdown_frac of it when that is set;
///  - without: during the last warmdown_iters iterations, or the last warmdown_frac of them.
/// cosine: depends on the fraction p of the budget (time with a cap, else iterations) that is used. Linear warmup to 1 while p is
/// below lr_warmup_frac (by iterations: (step + 1) / warmup iterations), then half a cosine down to lr_min_scale.
/// step: steps done. elapsed_ms: training time so far, validation excluded.
double lr_scale(const ScheduleConfig& schedule, int step, double elapsed_ms);

/// Muon's momentum for the step after `step` finished ones: linear from muon_momentum_warmup_start to muon_momentum.
double muon_momentum(const OptimConfig& optim, int step);

}  // namespace pgolf
