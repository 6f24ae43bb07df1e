#include "pgolf/study/collect.h"

#include "pgolf/base/error.h"
#include "pgolf/base/files.h"
#include "pgolf/base/format.h"
#include "pgolf/base/log.h"
#include "pgolf/study/plots.h"
#include "pgolf/study/report.h"
#include "pgolf/study/sweep_folder.h"
#include "pgolf/study/tables.h"

namespace pgolf {
namespace fs = std::filesystem;

void collect(const fs::path& folder) {
  if (!fs::is_directory(folder)) throw Error(ExitCode::bad_input, format("no such folder: %s", folder.c_str()));
  std::vector<RunResult> results;
  std::vector<std::string> problems;
  for (const auto& name : find_runs(folder)) {
    try {
      results.push_back(read_run(folder, name));
      problems.insert(problems.end(), results.back().problems.begin(), results.back().problems.end());
    } catch (const Error& e) {
      problems.push_back(format("%s was left out: %s", (folder / name).c_str(), e.what()));
    }
  }
  for (const auto& problem : problems) log::warn(problem);
  if (results.empty()) {
    throw Error(ExitCode::bad_input, format("no runs in or below %s", folder.c_str()),
                "a run is a folder with config.env and metrics.jsonl");
  }
  const Summary summary = summarize(std::move(results));
  for (const auto& run : summary.runs) write_atomic(run.result.folder / "trajectory.csv", trajectory_table(run).csv());
  write_atomic(folder / "timing.csv", timing_table(summary).csv());
  write_atomic(folder / "arms.csv", arms_table(summary).csv());
  write_atomic(folder / "lengths.csv", lengths_table(summary).csv());
  write_atomic(folder / "positions.csv", positions_table(summary).csv());
  write_atomic(folder / "retrieval.csv", retrieval_table(summary).csv());
  write_atomic(folder / "attention.csv", attention_table(summary).csv());
  write_atomic(folder / "memory.csv", memory_table(summary).csv());
  write_atomic(folder / "sweep.csv", sweep_table(summary).csv());
  const auto plots = draw_plots(summary, folder);
  write_atomic(folder / "report.md", report_text(summary, read_calls({folder}), problems, plots));
  log::info(format("%zu runs of %zu arms: %s, sweep.csv and other tables%s", summary.runs.size(), summary.arms.size(),
                   (folder / "report.md").c_str(), !plots.empty() ? ", plots in plots/" : ""));
}

}  // namespace pgolf
