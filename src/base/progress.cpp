#include "pgolf/base/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "pgolf/base/format.h"
#include "pgolf/base/log.h"

namespace pgolf {
namespace {

std::atomic<bool> bar_on_screen{false};

size_t terminal_width() {
  winsize size{};
  if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 20) return size.ws_col;
  return 80;
}

}  // namespace

bool Progress::enabled() {
  static const bool value = [] {
    const char* term = std::getenv("TERM");
    return log::rank_prefix().empty() && ::isatty(STDERR_FILENO) == 1 && !(term != nullptr && std::string_view(term) == "dumb");
  }();
  return value;
}

void Progress::clear_line() {
  if (!bar_on_screen.exchange(false)) return;
  std::fputs("\r\033[K", stderr);
  std::fflush(stderr);
}

Progress::Progress(std::string label, int64_t total) : label_(std::move(label)), total_(total) {}
Progress::~Progress() {
  finish();
}

void Progress::update(int64_t done, const std::string& suffix) {
  if (!enabled()) return;
  const auto now = std::chrono::steady_clock::now();
  if (now - last_draw_ < std::chrono::milliseconds(100)) return;
  last_draw_ = now;
  std::string line = label_;
  if (total_ > 0) {
    const double fraction = std::clamp(static_cast<double>(done) / static_cast<double>(total_), 0.0, 1.0);
    constexpr int width = 24;
    const int filled = static_cast<int>(fraction * width);
    line += format(" [%s%s] %3.0f%%", std::string(filled, '=').c_str(), std::string(width - filled, ' ').c_str(), 100 * fraction);
  } else {
    line += " " + with_commas(done);
  }
  if (!suffix.empty()) line += " " + suffix;
  line.resize(std::min(line.size(), terminal_width() - 1));
  std::fprintf(stderr, "\r\033[K%s", line.c_str());
  std::fflush(stderr);
  bar_on_screen = true;
}

void Progress::finish() {
  clear_line();
}

}  // namespace pgolf
