#include "pgolf/study/plots.h"
namespace pgolf {
bool draw_plots(const Summary&, const std::filesystem::path&) {
  return false;
}
}  // namespace pgolf
