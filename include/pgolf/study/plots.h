// Pictures, drawn by gnuplot from the CSV files of a sweep and from nothing else.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "pgolf/study/summary.h"

namespace pgolf {

/// Name without extension -> gnuplot script. A script is run in folder/plots, reads ../*.csv and draws what `terminal` and
/// `picture` say. Only pictures for which there are numbers.
std::map<std::string, std::string> plot_scripts(const Summary& summary);

/// Writes the scripts as plots/NAME.gp, draws plots/NAME.png and .svg and returns the names. None, after one line that says
/// why, if gnuplot is missing or fails.
std::vector<std::string> draw_plots(const Summary& summary, const std::filesystem::path& folder);

}  // namespace pgolf
