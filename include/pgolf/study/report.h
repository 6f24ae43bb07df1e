// report.md: a sweep in words and tables.
#pragma once

#include <string>
#include <vector>

#include "pgolf/study/summary.h"

namespace pgolf {

/// problems: what could not be read, one line each. plots: whether pictures stand in plots/.
std::string report_text(const Summary& summary, const std::vector<std::string>& problems, bool plots);

}  // namespace pgolf
