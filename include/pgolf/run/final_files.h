// What a run must not lose at its end, on a disk that may be full.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>

#include "pgolf/base/error.h"
#include "pgolf/base/files.h"
#include "pgolf/run/record_file.h"
#include "pgolf/run/run_folder.h"

namespace pgolf {

/// Files go where they belong in the run's folder or, where that fails, with a warning, to a new folder under FALLBACK_DIR.
class FinalFiles {
 public:
  /// fallback_dir: empty for the system's temporary folder.
  FinalFiles(RunFolder folder, std::filesystem::path fallback_dir)
      : folder_(std::move(folder)), fallback_dir_(std::move(fallback_dir)) {}

  /// write(path) writes the run's file or folder `path`; called again with another path if it throws Error(io). Returns where it
  /// is. Error(io) if it is nowhere.
  std::filesystem::path save(const std::filesystem::path& path, const std::function<void(const std::filesystem::path&)>& write);
  /// The same with write_atomic.
  std::filesystem::path save(const std::filesystem::path& path, BytesView bytes);

  /// The same, but a file that is nowhere is a warning for now: others come after it.
  void try_save(const std::filesystem::path& path, BytesView bytes);

  /// Adds the lines that records has kept.
  void save_rest(RecordFile& records);

  /// Error(io) that says where files are, if not all are in the run's folder; or which is nowhere.
  void require_complete() const;

  /// Error(io) if nothing can be written there: better now than after training. Writes nothing.
  static void require_usable(const std::filesystem::path& fallback_dir);

 private:
  RunFolder folder_;
  std::filesystem::path fallback_dir_, other_;
  std::optional<Error> lost_;  ///< of the first file that is nowhere
};

}  // namespace pgolf
