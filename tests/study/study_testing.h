// Run folders written by hand, and fakes of the programs that a sweep starts.
#pragma once

#include <gtest/gtest.h>

#include <utility>
#include <vector>

#include "pgolf/study/summary.h"
#include "support/files.h"

namespace pgolf::testing {

/// A model with heads of 64 dims, 4 layers.
inline std::string config_text(const std::string& rest) {
  return "NUM_LAYERS=4\nMODEL_DIM=256\nNUM_HEADS=4\nNUM_KV_HEADS=2\nVOCAB_SIZE=1024\nTRAIN_SEQ_LEN=128\nTRAIN_BATCH_TOKENS=8192\n"
         "MAX_WALLCLOCK_SECONDS=0\n" +
         rest;
}

inline std::string train_line(int step, double loss) {
  return format("{\"kind\":\"train\",\"step\":%d,\"train_loss\":%.17g,\"tokens\":%d,\"train_time_ms\":%d,\"grad_norm\":0.5}\n",
                step, loss, step * 8192, step * 100);
}

inline std::string val_line(int step, double loss) {
  return format("{\"kind\":\"val\",\"step\":%d,\"val_loss\":%.17g,\"val_bpb\":%.17g}\n", step, loss, loss / 2);
}

inline constexpr const char* kFinalLine = "{\"kind\":\"final\",\"val_loss\":1}\n";

/// Two steps, a validation after each; the last one has this loss.
inline void write_run(const fs::path& folder, const std::string& config, double val_loss, bool finished = true) {
  fs::create_directories(folder);
  write_file(folder / "config.env", config_text(config));
  write_file(folder / "metrics.jsonl", "{\"kind\":\"run\",\"run_id\":\"x\"}\n" + train_line(1, 6) + val_line(1, val_loss + 1) +
                                           train_line(2, val_loss) + val_line(2, val_loss) + (finished ? kFinalLine : ""));
}

inline Summary summary_of(const fs::path& folder) {
  std::vector<RunResult> results;
  for (const auto& name : find_runs(folder)) results.push_back(read_run(folder, name));
  return summarize(std::move(results));
}

inline const Arm& arm_named(const Summary& summary, const std::string& label) {
  for (const auto& arm : summary.arms) {
    if (arm.label == label) return arm;
  }
  ADD_FAILURE() << "no arm " << label;
  return summary.arms.at(0);
}

/// Cells of a table without quoted ones.
inline std::vector<std::vector<std::string>> rows_of(const std::string& csv) {
  std::vector<std::vector<std::string>> rows;
  size_t start = 0;
  for (size_t end; (end = csv.find('\n', start)) != std::string::npos; start = end + 1) {
    rows.emplace_back();
    const std::string line = csv.substr(start, end - start) + ",";
    for (size_t from = 0, to; (to = line.find(',', from)) != std::string::npos; from = to + 1)
      rows.back().push_back(line.substr(from, to - from));
  }
  return rows;
}

}  // namespace pgolf::testing
