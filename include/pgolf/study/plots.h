// Plots, drawn by gnuplot from nothing but the CSV files of a sweep.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "pgolf/study/summary.h"

namespace pgolf {

/// Name without extension -> gnuplot script. A script runs in folder/plots, reads ../*.csv and writes the format given by the
/// variable `picture`. Only plots that have data.
std::map<std::string, std::string> plot_scripts(const Summary& summary);

/// Writes the scripts as plots/NAME.gp, draws plots/NAME.png and .svg and returns the names. If gnuplot is missing or fails,
/// logs why and returns none.
std::vector<std::string> draw_plots(const Summary& summary, const std::filesystem::path& folder);

}  // namespace pgolf
