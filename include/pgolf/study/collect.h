// Run folders -> CSV files, report.md and plots.
#pragma once

#include <filesystem>

namespace pgolf {

/// Reads all runs in or below folder and writes the tables, trajectory.csv in each run's folder, report.md, and, if gnuplot is
/// installed, the plots. A folder that cannot be read as a run is skipped with a warning.
/// Error(bad_input) if there are no runs; Error(io) if writing fails.
void collect(const std::filesystem::path& folder);

}  // namespace pgolf
