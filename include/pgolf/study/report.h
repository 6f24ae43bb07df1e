// report.md: the report of a sweep.
#pragma once

#include <string>
#include <vector>

#include "pgolf/study/summary.h"

namespace pgolf {

/// calls: command lines of the sweep, if any. problems: what could not be read, one line each. plots: names of the plots in
/// plots/.
std::string report_text(const Summary& summary, const std::vector<std::string>& calls, const std::vector<std::string>& problems,
                        const std::vector<std::string>& plots);

}  // namespace pgolf
