#include "pgolf/run/run_folder.h"

#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>

#include "pgolf/base/error.h"
#include "pgolf/base/files.h"
#include "pgolf/base/format.h"

namespace pgolf {
namespace fs = std::filesystem;

bool RunFolder::is_run() const {
  std::error_code none;
  return fs::is_regular_file(config(), none) && fs::is_regular_file(metrics(), none);
}

bool RunFolder::create() const {
  std::error_code error;
  fs::create_directories(path.parent_path(), error);
  const bool made = !error && fs::create_directory(path, error);
  if (error)
    throw Error(ExitCode::io, format("cannot create the folder %s: %s", path.c_str(), error.message().c_str()),
                "choose another OUT_DIR");
  return made;
}

void RunFolder::lock() const {
  const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);  // stays open: the lock ends with the process
  if (fd >= 0 && ::flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    throw Error(ExitCode::usage, format("another process is training in %s", path.c_str()),
                "wait for it, or choose another RUN_ID");
  }
}

void RunFolder::remove_leftovers() const {
  for (const auto& folder : {path, checkpoints()}) {
    std::error_code none;
    for (const auto& entry : fs::directory_iterator(folder, none)) {
      if (is_temporary(entry.path())) fs::remove(entry.path(), none);
    }
  }
}

}  // namespace pgolf
