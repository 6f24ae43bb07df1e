#include "pgolf/train/run_folder.h"

#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>
#include <fstream>
#include <nlohmann/json.hpp>

#include "pgolf/base/error.h"
#include "pgolf/base/files.h"
#include "pgolf/base/format.h"
#include "pgolf/base/text.h"

namespace pgolf {
namespace fs = std::filesystem;

MetricsFile::MetricsFile(const fs::path& path, int64_t keep_until_step) : path_(path) {
  if (keep_until_step < 0 || !fs::exists(path)) return;
  std::string kept;
  for (const auto& line : split(read_text(path), '\n')) {
    const auto json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!json.is_object()) continue;  // the last line of a killed run may be cut
    const auto step = json.find("step");
    // The continued run measures the step of its checkpoint again, and has its own end.
    const bool written_again = json.contains("kind") && (json.at("kind") == "val" || json.at("kind") == "end");
    const int64_t last = written_again ? keep_until_step - 1 : keep_until_step;
    const bool keep = step == json.end() ? kept.empty() : step->is_number_integer() && step->get<int64_t>() <= last;
    if (keep) kept += line + "\n";
  }
  write_atomic(path, kept);
}

void MetricsFile::write(const nlohmann::ordered_json& line) {
  std::ofstream out(path_, std::ios::app);
  out << line.dump() << '\n';
  out.flush();
  if (!out) throw Error(ExitCode::io, format("cannot write %s", path_.c_str()), "is the disk full?");
}

bool RunFolder::create() const {
  std::error_code error;
  fs::create_directories(path.parent_path(), error);
  const bool made = !error && fs::create_directory(path, error);
  if (error)
    throw Error(ExitCode::io, format("cannot make the folder %s: %s", path.c_str(), error.message().c_str()),
                "choose another OUT_DIR");
  return made;
}

void RunFolder::lock() const {
  const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);  // stays open: the lock goes with the process
  if (fd >= 0 && ::flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    throw Error(ExitCode::usage, format("another process is training in %s", path.c_str()),
                "wait for it, or choose another RUN_ID");
  }
}

void RunFolder::remove_leftovers() const {
  for (const auto& folder : {path, checkpoints()}) {
    std::error_code none;
    for (const auto& entry : fs::directory_iterator(folder, none)) {
      if (entry.path().filename().string().find(".tmp.") != std::string::npos) fs::remove(entry.path(), none);
    }
  }
}

}  // namespace pgolf
