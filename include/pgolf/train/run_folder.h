// OUT_DIR/RUN_ID: the folder of one run and its machine-readable log.
#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace pgolf {

/// metrics.jsonl: one JSON object a line, each with "kind" ("run", "train", "val", "final", ...).
class MetricsFile {
 public:
  /// Appends. With keep_until_step >= 0 an existing file first loses every line of a later step, the validation of that
  /// step, and every line without a step but the first, so that a continued run leaves the same file as an undisturbed one.
  explicit MetricsFile(const std::filesystem::path& path, int64_t keep_until_step = -1);
  void write(const nlohmann::ordered_json& line);

 private:
  std::filesystem::path path_;
};

struct RunFolder {
  std::filesystem::path path;

  std::filesystem::path log() const { return path / "log.txt"; }
  std::filesystem::path metrics() const { return path / "metrics.jsonl"; }
  std::filesystem::path config() const { return path / "config.env"; }
  std::filesystem::path checkpoints() const { return path / "checkpoints"; }
  std::filesystem::path model() const { return path / "final_model.pt"; }
  std::filesystem::path artifact() const { return path / "final_model.int8.ptz"; }
  std::filesystem::path profile_trace() const { return path / "profile.json"; }
  std::filesystem::path profile_table() const { return path / "profile.txt"; }

  /// Makes the folder. False if it existed before; Error(io) if it cannot be made.
  bool create() const;

  /// Keeps other processes out until this one ends. Error(usage) if one is in it already.
  void lock() const;

  /// Removes the temporary files that a killed process left here (those of AtomicFile).
  void remove_leftovers() const;
};

}  // namespace pgolf
