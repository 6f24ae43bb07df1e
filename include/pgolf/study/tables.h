// The CSV files of a sweep. Their columns: docs/sweeps.md.
#pragma once

#include <string>

#include "pgolf/study/csv.h"
#include "pgolf/study/summary.h"

namespace pgolf {

/// Goes into the first column of sweep.csv; another number means other columns.
inline constexpr int kSweepSchema = 1;

/// One row per run and evaluation length. Depends on the runs' results alone: no times, no absolute paths.
CsvTable sweep_table(const Summary& summary);
CsvTable timing_table(const Summary& summary);
/// One row per arm: what the report and the plots of losses show.
CsvTable arms_table(const Summary& summary);
/// Means over an arm's seeds, per evaluation length.
CsvTable lengths_table(const Summary& summary);
CsvTable positions_table(const Summary& summary);
CsvTable retrieval_table(const Summary& summary);
CsvTable attention_table(const Summary& summary);
/// Bytes of cos/sin tables and KV cache per arm and length, by formula, with the measured ones where there are any.
CsvTable memory_table(const Summary& summary);
/// Of one run.
CsvTable trajectory_table(const SummaryRun& run);

}  // namespace pgolf
