// Standard error as a parent process leaves it that holds a pipe and does not read it.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <stdexcept>
#include <string>

namespace pgolf::testing {

/// RAII: standard error is a pipe that is full of the letter x.
class FullPipeAsStderr {
 public:
  FullPipeAsStderr() : before_(::dup(STDERR_FILENO)) {
    if (::pipe(ends_) != 0) throw std::runtime_error("no pipe");
    ::fcntl(ends_[1], F_SETFL, O_NONBLOCK);
    while (::write(ends_[1], "x", 1) == 1) {
    }
    ::fcntl(ends_[1], F_SETFL, 0);
    ::dup2(ends_[1], STDERR_FILENO);
  }
  FullPipeAsStderr(const FullPipeAsStderr&) = delete;
  FullPipeAsStderr& operator=(const FullPipeAsStderr&) = delete;
  ~FullPipeAsStderr() {
    ::dup2(before_, STDERR_FILENO);
    for (const int fd : {before_, ends_[0], ends_[1]}) ::close(fd);
  }

  /// All that is in the pipe.
  std::string read() const {
    std::string text(1 << 20, '\0');
    const ssize_t size = ::read(ends_[0], text.data(), text.size());
    text.resize(size > 0 ? static_cast<size_t>(size) : 0);
    return text;
  }

 private:
  int before_, ends_[2] = {-1, -1};
};

}  // namespace pgolf::testing
