#include "pgolf/study/sweep_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <nlohmann/json.hpp>
#include <thread>

#include "pgolf/base/error.h"
#include "pgolf/base/files.h"
#include "pgolf/base/format.h"
#include "pgolf/base/text.h"

namespace pgolf {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

std::vector<std::string> texts(const Json& note, const char* key) {
  std::vector<std::string> out;
  const auto found = note.find(key);
  if (found == note.end() || !found->is_array()) return out;
  for (const auto& entry : *found) {
    if (entry.is_string()) out.push_back(entry.get<std::string>());
  }
  return out;
}

void write_note(const SweepFolder& folder, const std::string& run_id, const RunNote& note) {
  Json json{{"run", run_id}, {"varied", note.varied}, {"requested", note.requested}, {"arguments", note.arguments}};
  if (note.exit_code) json["exit_code"] = *note.exit_code;
  write_atomic(folder.plan(run_id), json.dump(1) + "\n");
}

}  // namespace

void SweepFolder::create() const {
  for (const auto& each : {path, path / "logs", path / "plan"}) {
    std::error_code error;
    fs::create_directories(each, error);
    if (!error && ::access(each.c_str(), W_OK | X_OK) != 0) error.assign(errno, std::generic_category());
    if (error) {
      throw Error(ExitCode::io, format("cannot write to the folder %s: %s", each.c_str(), error.message().c_str()),
                  "choose another --out-dir");
    }
  }
}

void SweepFolder::lock() const {
  using namespace std::chrono_literals;
  // Inherited by every child, so the lock is held until the last one ends.
  const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY);
  if (fd < 0) throw Error(ExitCode::io, format("cannot open the folder %s", path.c_str()));
  for (int attempts = 0; ::flock(fd, LOCK_EX | LOCK_NB) != 0; ++attempts) {
    if (errno != EWOULDBLOCK) return;  // the file system has no locks
    if (attempts == 30) {
      throw Error(ExitCode::usage, format("another sweep_gpt is running in %s", path.c_str()),
                  "wait for it, stop it, or choose another --out-dir");
    }
    std::this_thread::sleep_for(100ms);
  }
}

std::vector<std::string> read_calls(const SweepFolder& folder) {
  std::vector<std::string> lines;
  const fs::path file = folder.path / "plan" / "calls.txt";
  if (!fs::exists(file)) return lines;
  for (auto& line : split(read_text(file), '\n')) {
    if (!line.empty()) lines.push_back(std::move(line));
  }
  return lines;
}

void note_call(const SweepFolder& folder, const std::string& line) {
  auto lines = read_calls(folder);
  if (std::find(lines.begin(), lines.end(), line) != lines.end()) return;
  lines.push_back(line);
  std::string text;
  for (const auto& each : lines) text += each + "\n";
  write_atomic(folder.path / "plan" / "calls.txt", text);
}

RunNote read_note(const SweepFolder& folder, const std::string& run_id) {
  RunNote note;
  if (!fs::exists(folder.plan(run_id))) return note;
  const Json json = Json::parse(read_text(folder.plan(run_id)), nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return note;
  note.requested = texts(json, "requested");
  note.varied = texts(json, "varied");
  note.arguments = texts(json, "arguments");
  if (const auto code = json.find("exit_code"); code != json.end() && code->is_number_integer())
    note.exit_code = code->get<int>();
  return note;
}

void note_plan(const SweepFolder& folder, const SweepPlan& plan, const PlannedRun& run) {
  RunNote note = read_note(folder, run.run_id);
  note.varied = plan.varied;
  note.arguments = run.arguments;
  note.requested.insert(note.requested.end(), run.requested.begin(), run.requested.end());
  std::sort(note.requested.begin(), note.requested.end());
  note.requested.erase(std::unique(note.requested.begin(), note.requested.end()), note.requested.end());
  write_note(folder, run.run_id, note);
}

void note_exit(const SweepFolder& folder, const std::string& run_id, std::optional<int> exit_code) {
  RunNote note = read_note(folder, run_id);
  if (note.exit_code == exit_code) return;
  note.exit_code = exit_code;
  write_note(folder, run_id, note);
}

}  // namespace pgolf
