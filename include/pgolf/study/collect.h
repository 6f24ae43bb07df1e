// Run folders -> CSV files, report.md and plots.
#pragma once

#include <filesystem>

namespace pgolf {

/// Reads every run at or below folder and writes the tables, trajectory.csv into each run's folder, report.md, and the plots,
/// if gnuplot is there. A folder that cannot be read as a run is warned about and left out.
/// Error(bad_input) if there is no run at all; Error(io) if it cannot write.
void collect(const std::filesystem::path& folder);

}  // namespace pgolf
