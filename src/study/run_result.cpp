#include "pgolf/study/run_result.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>

#include "pgolf/base/error.h"
#include "pgolf/base/files.h"
#include "pgolf/base/format.h"
#include "pgolf/base/text.h"
#include "pgolf/study/sweep_folder.h"

namespace pgolf {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

std::optional<double> number(const json& line, const char* key) {
  const auto found = line.find(key);
  if (found == line.end() || !found->is_number()) return std::nullopt;
  return found->get<double>();
}

std::optional<int64_t> integer(const json& line, const char* key) {
  const auto found = line.find(key);
  if (found == line.end() || !found->is_number_integer()) return std::nullopt;
  return found->get<int64_t>();
}

std::string text(const json& line, const char* key) {
  const auto found = line.find(key);
  return found != line.end() && found->is_string() ? found->get<std::string>() : std::string();
}

/// Thrown by the readers below for a line that lacks what it must have.
struct Lacking {
  std::string key;
};

double need_number(const json& line, const char* key) {
  const auto value = number(line, key);
  if (!value) throw Lacking{key};
  return *value;
}

int64_t need_integer(const json& line, const char* key) {
  const auto value = integer(line, key);
  if (!value) throw Lacking{key};
  return *value;
}

void for_each_line(const fs::path& path, std::vector<std::string>* problems, bool* cut,
                   const std::function<void(const std::string& kind, const json& line)>& use) {
  const std::string all = read_text(path);
  const auto lines = split(all, '\n');
  for (size_t i = 0; i < lines.size(); ++i) {
    if (trim(lines[i]).empty()) continue;
    const auto line = json::parse(lines[i], nullptr, /*allow_exceptions=*/false);
    const std::string where = format("%s:%zu", path.c_str(), i + 1);
    if (!line.is_object()) {
      if (i + 1 == lines.size())
        *cut = true;  // no line end: the writer was killed here
      else
        problems->push_back(where + " is no JSON object and was left out");
      continue;
    }
    try {
      use(text(line, "kind"), line);
    } catch (const Lacking& lacking) {
      problems->push_back(where + " has no number for " + lacking.key + " and was left out");
    }
  }
}

void take_metric(const std::string& kind, const json& line, RunResult* run) {
  if (kind == "run") {
    run->program_version = text(line, "version");
  } else if (kind == "train") {
    const TrainPoint point{need_integer(line, "step"), integer(line, "tokens").value_or(0), need_number(line, "train_loss"),
                           number(line, "train_time_ms").value_or(0), number(line, "grad_norm")};
    run->train.push_back(point);
  } else if (kind == "val") {
    run->val.push_back({need_integer(line, "step"), need_number(line, "val_loss"), need_number(line, "val_bpb")});
  } else if (kind == "final") {
    run->finished = true;
  } else if (kind == "end") {
    run->peak_allocated_bytes = integer(line, "peak_allocated_bytes");
    run->peak_reserved_bytes = integer(line, "peak_reserved_bytes");
    run->rope_table_bytes = integer(line, "rope_table_bytes");
  }
}

AttentionMeasure& head_of(RunResult* run, const json& line) {
  const int64_t layer = need_integer(line, "layer"), head = need_integer(line, "head");
  for (auto& known : run->attention) {
    if (known.layer == layer && known.head == head) return known;
  }
  run->attention.emplace_back();
  run->attention.back().layer = layer;
  run->attention.back().head = head;
  return run->attention.back();
}

void take_measure(const std::string& kind, const json& line, RunResult* run) {
  if (kind == "length") {
    LengthMeasure m;
    m.seq_len = need_integer(line, "seq_len");
    m.tokens = integer(line, "tokens");
    m.table_bytes = integer(line, "rope_table_bytes");
    m.table_bytes_computed = integer(line, "rope_table_bytes_computed");
    m.kv_cache_bytes = integer(line, "kv_cache_bytes");
    m.loss = number(line, "val_loss");
    m.bpb = number(line, "val_bpb");
    m.stderr_loss = number(line, "stderr_loss");
    m.last_bucket_loss = number(line, "last_bucket_loss");
    run->lengths.push_back(m);
  } else if (kind == "position") {
    run->positions.push_back({need_integer(line, "seq_len"), need_integer(line, "from"), need_integer(line, "to"),
                              integer(line, "tokens").value_or(0), number(line, "loss")});
  } else if (kind == "retrieval") {
    run->retrieval.push_back({text(line, "task"), need_integer(line, "seq_len"), need_integer(line, "distance"),
                              integer(line, "items").value_or(0), number(line, "accuracy"), number(line, "stderr"),
                              number(line, "loss")});
  } else if (kind == "attention") {
    auto& head = head_of(run, line);
    head.distance = number(line, "distance");
    head.entropy = number(line, "entropy");
    head.first_token = number(line, "first_token");
    head.previous_token = number(line, "previous_token");
  } else if (kind == "logit_share") {
    head_of(run, line).rotated_share = number(line, "rotated");
  } else if (kind == "relative_shift") {
    run->shift_max_change = std::max(run->shift_max_change.value_or(0), need_number(line, "max_change"));
  }
}

template <class T, class Key>
void sort_by(std::vector<T>& values, const Key& key) {
  std::stable_sort(values.begin(), values.end(), [&](const T& a, const T& b) { return key(a) < key(b); });
}

}  // namespace

RunStatus RunResult::status() const {
  if (exit_code == static_cast<int>(ExitCode::non_finite) && !finished) return RunStatus::diverged;
  if (!finished || val.empty()) return RunStatus::unfinished;
  return val.back().step > 0 && val.back().loss >= std::log(command.config.model.vocab_size) ? RunStatus::diverged
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

bool is_run_folder(const fs::path& folder) {
  std::error_code none;
  return fs::is_regular_file(folder / "config.env", none) && fs::is_regular_file(folder / "metrics.jsonl", none);
}

bool is_finished(const fs::path& folder) {
  if (!is_run_folder(folder)) return false;
  bool finished = false, cut = false;
  std::vector<std::string> problems;
  for_each_line(folder / "metrics.jsonl", &problems, &cut,
                [&](const std::string& kind, const json&) { finished = finished || kind == "final"; });
  return finished;
}

std::vector<int> measured_lengths(const fs::path& measures) {
  std::vector<int> lengths;
  if (!fs::exists(measures)) return lengths;
  bool cut = false;
  std::vector<std::string> problems;
  for_each_line(measures, &problems, &cut, [&](const std::string& kind, const json& line) {
    if (kind == "length") lengths.push_back(static_cast<int>(need_integer(line, "seq_len")));
  });
  std::sort(lengths.begin(), lengths.end());
  return lengths;
}

RunResult read_run(const fs::path& root, const std::string& name) {
  RunResult run;
  run.name = name;
  run.folder = (root / name).lexically_normal();
  const std::string config = (run.folder / "config.env").string();
  const char* argv[] = {"train_gpt", "--config", config.c_str()};
  run.command = resolve_train_command(3, argv, {});
  const RunNote note = read_note({run.folder.parent_path()}, run.folder.filename());
  run.requested = note.requested;
  run.varied = note.varied;
  run.arguments = note.arguments;
  run.exit_code = note.exit_code;

  bool cut = false;
  for_each_line(run.folder / "metrics.jsonl", &run.problems, &cut,
                [&](const std::string& kind, const json& line) { take_metric(kind, line, &run); });
  sort_by(run.train, [](const TrainPoint& p) { return p.step; });
  sort_by(run.val, [](const ValPoint& p) { return p.step; });

  const fs::path measures = run.folder / "measures.jsonl";
  if (fs::exists(measures)) {
    run.measured = true;
    for_each_line(measures, &run.problems, &cut,
                  [&](const std::string& kind, const json& line) { take_measure(kind, line, &run); });
    sort_by(run.lengths, [](const LengthMeasure& m) { return m.seq_len; });
    sort_by(run.positions, [](const PositionMeasure& m) { return std::pair(m.seq_len, m.from); });
    sort_by(run.retrieval, [](const RetrievalMeasure& m) { return std::tuple(m.task, m.seq_len, m.distance); });
    sort_by(run.attention, [](const AttentionMeasure& m) { return std::pair(m.layer, m.head); });
  }
  if (cut && run.finished) run.problems.push_back(run.folder.string() + ": the last line of a file is cut off and was left out");
  return run;
}

std::vector<std::string> find_runs(const fs::path& root) {
  if (is_run_folder(root)) return {"."};
  std::vector<std::string> names;
  std::error_code error;
  for (auto entry = fs::recursive_directory_iterator(root, fs::directory_options::skip_permission_denied, error);
       !error && entry != fs::recursive_directory_iterator(); entry.increment(error)) {
    std::error_code none;
    if (!entry->is_directory(none) || !is_run_folder(entry->path())) continue;
    names.push_back(entry->path().lexically_relative(root).generic_string());
    entry.disable_recursion_pending();
  }
  if (error) throw Error(ExitCode::bad_input, format("cannot read the folder %s: %s", root.c_str(), error.message().c_str()));
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace pgolf
