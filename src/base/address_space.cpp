#include "pgolf/base/address_space.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstring>

#include "pgolf/base/error.h"

namespace pgolf {
namespace {

/// Bytes of address space in use; 0 without /proc.
size_t mapped_bytes() {
  const int fd = ::open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  char text[64] = {};
  const ssize_t length = ::read(fd, text, sizeof text - 1);
  ::close(fd);
  size_t pages = 0;
  for (ssize_t i = 0; i < length && text[i] >= '0' && text[i] <= '9'; ++i)
    pages = pages * 10 + static_cast<size_t>(text[i] - '0');
  return pages * static_cast<size_t>(::sysconf(_SC_PAGESIZE));
}

/// The C++ library's, spdlog's and SentencePiece's constructors abort without what they allocate, which is less than 2 MiB.
void before_constructors(int, char**, char**) {
  require_address_space(size_t{2} << 20,
                        "error: the limit on address space (ulimit -v) is too low for this program\n  allow at least 64 MiB\n");
}

__attribute__((section(".preinit_array"), used)) void (*const preinit)(int, char**, char**) = before_constructors;

}  // namespace

void require_address_space(size_t bytes, const char* error) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return;
  if (mapped_bytes() + bytes <= limit.rlim_cur) return;
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, error, std::strlen(error));
  ::_exit(static_cast<int>(ExitCode::unavailable));
}

}  // namespace pgolf

/// Referenced by the linker options (src/CMakeLists.txt) so that every program links this file.
extern "C" const char pgolf_address_space = 0;
