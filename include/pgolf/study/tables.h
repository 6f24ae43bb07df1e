// The CSV files of a sweep. Their columns: docs/sweeps.md.
#pragma once

#include <string>

#include "pgolf/base/table.h"
#include "pgolf/study/summary.h"

namespace pgolf {

/// Value of the first column of sweep.csv; a new number for every change of the columns.
inline constexpr int kSweepSchema = 2;

/// One row per run and evaluation length. Depends only on the runs' results: no times, no absolute paths.
Table sweep_table(const Summary& summary);
Table timing_table(const Summary& summary);
/// One row per arm, as shown in the report and the loss plot.
Table arms_table(const Summary& summary);
/// Means over an arm's seeds, per evaluation length.
Table lengths_table(const Summary& summary);
Table positions_table(const Summary& summary);
Table retrieval_table(const Summary& summary);
Table attention_table(const Summary& summary);
/// Computed bytes of cos/sin tables and KV cache per arm and length, and the measured ones if available.
Table memory_table(const Summary& summary);
/// Of one run.
Table trajectory_table(const SummaryRun& run);

}  // namespace pgolf
