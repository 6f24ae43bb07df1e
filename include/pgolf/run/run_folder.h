// OUT_DIR/RUN_ID: the folder of a run and the names of its files.
#pragma once

#include <filesystem>
#include <string>

namespace pgolf {

struct RunFolder {
  std::filesystem::path path;

  std::filesystem::path log() const { return path / "log.txt"; }
  /// Of a rank other than 0.
  std::filesystem::path rank_log(int rank) const { return path / ("rank_" + std::to_string(rank) + ".txt"); }
  std::filesystem::path metrics() const { return path / "metrics.jsonl"; }
  std::filesystem::path measures() const { return path / "measures.jsonl"; }
  std::filesystem::path config() const { return path / "config.env"; }
  std::filesystem::path checkpoints() const { return path / "checkpoints"; }
  std::filesystem::path model() const { return path / "final_model.pt"; }
  std::filesystem::path artifact() const { return path / "final_model.int8.ptz"; }
  /// The artifact of another quantizer.
  std::filesystem::path gptq_artifact() const { return path / "final_model.gptq.ptz"; }
  std::filesystem::path profile_trace() const { return path / "profile.json"; }
  std::filesystem::path profile_table() const { return path / "profile.txt"; }

  /// Whether it contains a run: config.env and metrics.jsonl.
  bool is_run() const;

  /// Creates the folder. False if it already existed; Error(io) if it cannot be created.
  bool create() const;

  /// Locks the folder until this process ends. Error(usage) if another process holds the lock.
  void lock() const;

  /// Removes the temporary files that a killed process left here (those of AtomicFile).
  void remove_leftovers() const;
};

}  // namespace pgolf
