#include "pgolf/study/report.h"
namespace pgolf {
std::string report_text(const Summary&, const std::vector<std::string>&, bool) {
  return {};
}
}  // namespace pgolf
