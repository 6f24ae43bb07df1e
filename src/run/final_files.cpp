#include "pgolf/run/final_files.h"

#include <stdlib.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/base/log.h"

namespace pgolf {
namespace fs = std::filesystem;

namespace {

/// A new folder of this user's alone.
fs::path make_folder(const fs::path& parent, const std::string& run_id) {
  std::error_code ignored;
  fs::create_directories(parent, ignored);
  std::string name = (parent / (run_id + ".XXXXXX")).string();
  if (::mkdtemp(name.data()) == nullptr)
    throw Error(ExitCode::io, format("cannot create a folder in %s: %s", parent.c_str(), std::strerror(errno)));
  return name;
}

fs::path temporary_folder() {
  std::error_code error;
  const auto path = fs::temp_directory_path(error);
  return error ? fs::path("/tmp") : path;
}

}  // namespace

fs::path FinalFiles::save(const fs::path& path, const std::function<void(const fs::path&)>& write) {
  try {
    write(path);
    return path;
  } catch (const Error& error) {
    if (error.code() != ExitCode::io) throw;
    try {
      if (other_.empty())
        other_ = make_folder(fallback_dir_.empty() ? temporary_folder() : fallback_dir_, folder_.path.filename().string());
      const fs::path elsewhere = other_ / path.filename();
      write(elsewhere);
      log::warn(format("%s; it is in %s instead", error.what(), elsewhere.c_str()));
      return elsewhere;
    } catch (const Error& second) {
      throw Error(ExitCode::io, format("%s, nor elsewhere: %s", error.what(), second.what()),
                  "make room, or set FALLBACK_DIR to a folder that has some");
    }
  }
}

fs::path FinalFiles::save(const fs::path& path, BytesView bytes) {
  return save(path, [bytes](const fs::path& where) { write_atomic(where, bytes); });
}

void FinalFiles::try_save(const fs::path& path, BytesView bytes) {
  try {
    save(path, bytes);
  } catch (const Error& error) {
    if (error.code() != ExitCode::io) throw;
    log::warn(error.what());
    if (!lost_) lost_ = error;
  }
}

void FinalFiles::save_rest(RecordFile& records) {
  const std::string& rest = records.unwritten();
  if (!rest.empty()) save(records.path(), [&rest](const fs::path& where) { append_whole(where, rest); });
}

void FinalFiles::require_complete() const {
  if (lost_) throw *lost_;
  if (other_.empty()) return;
  throw Error(ExitCode::io, format("not everything could be written to %s", folder_.path.c_str()),
              format("make room there and move what is in %s", other_.c_str()));
}

void FinalFiles::require_usable(const fs::path& fallback_dir) {
  if (fallback_dir.empty()) return;
  std::error_code none;
  fs::path there = fs::absolute(fallback_dir, none);
  while (!fs::exists(there, none) && there.has_relative_path()) there = there.parent_path();
  if (::access(there.c_str(), W_OK | X_OK) == 0 && fs::is_directory(there, none)) return;
  throw Error(ExitCode::io, format("FALLBACK_DIR=%s: nothing can be written in %s", fallback_dir.c_str(), there.c_str()),
              "choose another folder");
}

}  // namespace pgolf
