// The parts of report.md that show what eval_gpt measured, and times. Each is empty if there is nothing to show.
#pragma once

#include <string>

#include "pgolf/study/summary.h"

namespace pgolf {

std::string report_lengths(const Summary& summary);
std::string report_positions(const Summary& summary);
std::string report_retrieval(const Summary& summary);
std::string report_attention(const Summary& summary);
std::string report_memory(const Summary& summary);
std::string report_times(const Summary& summary);

}  // namespace pgolf
