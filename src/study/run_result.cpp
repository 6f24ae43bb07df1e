#include "pgolf/study/run_result.h"

#include <algorithm>
#include <cmath>

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/run/record_file.h"
#include "pgolf/study/sweep_folder.h"

namespace pgolf {
namespace {

namespace fs = std::filesystem;

template <class Record>
void keep(const nlohmann::json& line, std::vector<Record>* records) {
  if (auto record = as<Record>(line)) records->push_back(std::move(*record));
}

void take_metric(const nlohmann::json& line, RunResult* run) {
  keep(line, &run->train);
  keep(line, &run->val);
  if (const auto first = as<RunRecord>(line)) run->program_version = first->version;
  if (const auto end = as<EndRecord>(line)) run->end = *end;
  if (as<FinalRecord>(line)) run->finished = true;
}

HeadMeasure& head_of(RunResult* run, int64_t layer, int64_t head) {
  for (auto& known : run->attention) {
    if (known.layer == layer && known.head == head) return known;
  }
  auto& added = run->attention.emplace_back();
  added.layer = layer;
  added.head = head;
  return added;
}

void take_measure(const nlohmann::json& line, RunResult* run) {
  keep(line, &run->lengths);
  keep(line, &run->positions);
  keep(line, &run->retrieval);
  if (const auto attention = as<AttentionRecord>(line)) {
    static_cast<AttentionRecord&>(head_of(run, attention->layer, attention->head)) = *attention;
  }
  if (const auto share = as<LogitShareRecord>(line)) head_of(run, share->layer, share->head).rotated_share = share->rotated;
  if (const auto shift = as<RelativeShiftRecord>(line))
    run->shift_max_change = std::max(run->shift_max_change.value_or(0), shift->max_change);
}

template <class T, class Key>
void sort_by(std::vector<T>& values, const Key& key) {
  std::stable_sort(values.begin(), values.end(), [&](const T& a, const T& b) { return key(a) < key(b); });
}

}  // namespace

RunStatus RunResult::status() const {
  if (exit_code == static_cast<int>(ExitCode::non_finite) && !finished) return RunStatus::diverged;
  if (!finished || val.empty()) return RunStatus::unfinished;
  return val.back().step > 0 && val.back().val_loss >= std::log(command.config.model.vocab_size) ? RunStatus::diverged
                                                                                                 : RunStatus::finished;
}

std::string status_text(RunStatus status) {
  switch (status) {
    case RunStatus::finished:
      return "finished";
    case RunStatus::diverged:
      return "diverged";
    case RunStatus::unfinished:
      return "unfinished";
  }
  return {};
}

bool is_finished(const RunFolder& folder) {
  if (!folder.is_run()) return false;
  bool finished = false;
  read_records(folder.metrics(), [&](const auto& line) { finished = finished || as<FinalRecord>(line); });
  return finished;
}

std::vector<int> measured_lengths(const fs::path& measures) {
  std::vector<int> lengths;
  if (!fs::exists(measures)) return lengths;
  read_records(measures, [&](const auto& line) {
    if (const auto length = as<LengthRecord>(line)) lengths.push_back(static_cast<int>(length->seq_len));
  });
  std::sort(lengths.begin(), lengths.end());
  return lengths;
}

RunResult read_run(const fs::path& root, const std::string& name) {
  RunResult run;
  run.name = name;
  run.folder = (root / name).lexically_normal();
  const RunFolder folder{run.folder};
  const std::string config = folder.config();
  const char* argv[] = {"train_gpt", "--config", config.c_str()};
  run.command = resolve_train_command(3, argv, {});
  const RunNote note = read_note({run.folder.parent_path()}, run.folder.filename());
  run.requested = note.requested;
  run.varied = note.varied;
  run.arguments = note.arguments;
  run.exit_code = note.exit_code;

  RecordProblems problems = read_records(folder.metrics(), [&](const auto& line) { take_metric(line, &run); });
  sort_by(run.train, [](const TrainRecord& r) { return r.step; });
  sort_by(run.val, [](const ValRecord& r) { return r.step; });
  if (fs::exists(folder.measures())) {
    run.measured = true;
    const auto more = read_records(folder.measures(), [&](const auto& line) { take_measure(line, &run); });
    problems.lines.insert(problems.lines.end(), more.lines.begin(), more.lines.end());
    problems.cut = problems.cut || more.cut;
    sort_by(run.lengths, [](const LengthRecord& r) { return r.seq_len; });
    sort_by(run.positions, [](const PositionRecord& r) { return std::pair(r.seq_len, r.from); });
    sort_by(run.retrieval, [](const RetrievalRecord& r) { return std::tuple(r.task, r.seq_len, r.distance); });
    sort_by(run.attention, [](const HeadMeasure& m) { return std::pair(m.layer, m.head); });
  }
  run.problems = std::move(problems.lines);
  if (problems.cut && run.finished) run.problems.push_back(run.folder.string() + ": skipped a truncated last line");
  return run;
}

std::vector<std::string> find_runs(const fs::path& root) {
  if (RunFolder{root}.is_run()) return {"."};
  std::vector<std::string> names;
  std::error_code error;
  for (auto entry = fs::recursive_directory_iterator(root, fs::directory_options::skip_permission_denied, error);
       !error && entry != fs::recursive_directory_iterator(); entry.increment(error)) {
    std::error_code none;
    if (!entry->is_directory(none) || !RunFolder{entry->path()}.is_run()) continue;
    names.push_back(entry->path().lexically_relative(root).generic_string());
    entry.disable_recursion_pending();
  }
  if (error) throw Error(ExitCode::bad_input, format("cannot read the folder %s: %s", root.c_str(), error.message().c_str()));
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace pgolf
