// A one-line progress bar on standard error, drawn only when that is a terminal.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace pgolf {

class Progress {
 public:
  /// total 0 = unknown. label is the start of the line.
  Progress(std::string label, int64_t total);
  ~Progress();

  /// Redraws at most ten times a second. suffix is free text after the bar (loss, tokens/s, time left).
  void update(int64_t done, const std::string& suffix = {});
  void finish();

  static bool enabled();     ///< standard error is a terminal and TERM is not "dumb"
  static void clear_line();  ///< removes a bar that is on screen, so that a log line can be printed

 private:
  std::string label_;
  int64_t total_;
  std::chrono::steady_clock::time_point last_draw_{};
};

}  // namespace pgolf
