// Elapsed seconds on a clock that nobody sets.
#pragma once

#include <chrono>

namespace pgolf {

class Stopwatch {
 public:
  /// Since it was made, or since the last lap().
  double seconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }
  double milliseconds() const { return 1000 * seconds(); }

  /// The same, and begins again.
  double lap() {
    const auto now = Clock::now();
    const double seconds = std::chrono::duration<double>(now - start_).count();
    start_ = now;
    return seconds;
  }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point start_ = Clock::now();
};

}  // namespace pgolf
