// The CSV files of a sweep. Their columns: docs/sweeps.md.
#pragma once

#include <string>

#include "pgolf/base/table.h"
#include "pgolf/study/summary.h"

namespace pgolf {

/// Goes into the first column of sweep.csv; another number means other columns.
inline constexpr int kSweepSchema = 1;

/// One row per run and evaluation length. Depends on the runs' results alone: no times, no absolute paths.
Table sweep_table(const Summary& summary);
Table timing_table(const Summary& summary);
/// One row per arm: what the report and the plots of losses show.
Table arms_table(const Summary& summary);
/// Means over an arm's seeds, per evaluation length.
Table lengths_table(const Summary& summary);
Table positions_table(const Summary& summary);
Table retrieval_table(const Summary& summary);
Table attention_table(const Summary& summary);
/// Bytes of cos/sin tables and KV cache per arm and length, by formula, with the measured ones where there are any.
Table memory_table(const Summary& summary);
/// Of one run.
Table trajectory_table(const SummaryRun& run);

}  // namespace pgolf
