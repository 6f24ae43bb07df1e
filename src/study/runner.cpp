#include "pgolf/study/runner.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <optional>

#include "pgolf/base/files.h"
#include "pgolf/base/format.h"
#include "pgolf/base/log.h"
#include "pgolf/base/progress.h"
#include "pgolf/base/text.h"
#include "pgolf/config/evaluation_lengths.h"
#include "pgolf/study/process.h"
#include "pgolf/study/run_result.h"
#include "pgolf/study/statistics.h"

namespace pgolf {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

/// Blocks the signals that a sweep handles, so that they can be waited for.
class BlockedSignals {
 public:
  BlockedSignals() {
    ::sigemptyset(&set_);
    ::sigaddset(&set_, SIGCHLD);
    for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
      struct sigaction present {};
      ::sigaction(number, nullptr, &present);
      if (present.sa_handler != SIG_IGN) ::sigaddset(&set_, number);  // ignored under nohup
    }
    ::sigprocmask(SIG_BLOCK, &set_, &before_);
  }
  ~BlockedSignals() { ::sigprocmask(SIG_SETMASK, &before_, nullptr); }

  /// The next signal, or 0 after a timeout.
  int wait() const {
    const timespec timeout{.tv_sec = 0, .tv_nsec = 200'000'000};
    const int number = ::sigtimedwait(&set_, nullptr, &timeout);
    return number > 0 ? number : 0;
  }

 private:
  sigset_t set_{}, before_{};
};

/// Whether training ended in this folder without its final record, and there is no checkpoint to continue from.
bool must_restart(const RunFolder& folder) {
  return !is_finished(folder) && fs::exists(folder.model()) &&
         glob_sorted((folder.checkpoints() / "*.safetensors").string()).empty();
}

/// Unless a process holds its lock.
void remove_run(const RunFolder& folder) {
  const int fd = ::open(folder.path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd >= 0 && ::flock(fd, LOCK_EX | LOCK_NB) == 0) fs::remove_all(folder.path);
  if (fd >= 0) ::close(fd);
}

/// The last error line in a process's log, else its last line.
std::string last_message(const fs::path& log, size_t from) {
  const std::string all = read_text(log);
  std::string last, error;
  for (const auto& line : split(std::string_view(all).substr(std::min(from, all.size())), '\n')) {
    if (trim(line).empty()) continue;
    last = line;
    if (line.starts_with("error: ")) error = line;
  }
  return printable(error.empty() ? last : error);
}

size_t size_of(const fs::path& file) {
  std::error_code none;
  const auto size = fs::file_size(file, none);
  return none ? 0 : static_cast<size_t>(size);
}

class Runner {
 public:
  Runner(const std::vector<PlannedRun>& runs, const SweepFolder& folder, const RunnerOptions& options)
      : runs_(runs), folder_(folder), options_(options), jobs_(static_cast<size_t>(options.jobs)), bar_("sweep", count(runs)) {}

  SweepOutcome run() {
    size_t there = 0;
    for (const auto& run : runs_) there += needed(run) == Stage::nothing ? 1 : 0;
    if (there > 0) log::info(format("%zu of %zu runs are already complete", there, runs_.size()));
    done_ = static_cast<int64_t>(there);
    todo_ = count(runs_) - done_;
    while (true) {
      if (stopping_ == 0) fill();
      if (busy() == 0) break;
      const int signal = signals_.wait();
      if (signal != 0 && signal != SIGCHLD) stop(signal);
      reap();
      bar_.update(done_, time_left());
    }
    bar_.finish();
    if (stopping_ != 0) {
      log::info("interrupted: run the same command to continue");
      return {ExitCode::interrupted, failed_};
    }
    return {first_failure_, failed_};
  }

 private:
  enum class Stage { nothing, train, measure };
  struct Job {
    pid_t pid = 0;  // 0: idle
    const PlannedRun* run = nullptr;
    Stage stage = Stage::nothing;
    size_t log_start = 0;
    Clock::time_point start;
  };

  static int64_t count(const std::vector<PlannedRun>& runs) { return static_cast<int64_t>(runs.size()); }

  Stage needed(const PlannedRun& run) const {
    if (!is_finished(folder_.run(run.run_id))) return Stage::train;
    if (!options_.measure) return Stage::nothing;
    const auto wanted = evaluation_lengths(options_.eval_seq_lens, run.command.config.data.train_seq_len);
    const auto there = measured_lengths(folder_.run(run.run_id).measures());
    return std::includes(there.begin(), there.end(), wanted.begin(), wanted.end()) ? Stage::nothing : Stage::measure;
  }

  size_t busy() const {
    return static_cast<size_t>(std::count_if(jobs_.begin(), jobs_.end(), [](const Job& job) { return job.pid != 0; }));
  }

  void fill() {
    for (size_t slot = 0; slot < jobs_.size(); ++slot) {
      while (jobs_[slot].pid == 0 && next_ < runs_.size()) {
        const PlannedRun& run = runs_[next_++];
        const Stage stage = needed(run);
        if (stage == Stage::nothing) continue;
        jobs_[slot].start = Clock::now();
        start(slot, run, stage);
      }
    }
  }

  void start(size_t slot, const PlannedRun& run, Stage stage) {
    Job& job = jobs_[slot];
    const fs::path log = folder_.log(run.run_id);
    std::vector<std::pair<std::string, std::string>> variables;
    if (!options_.devices.empty())
      variables.emplace_back("CUDA_VISIBLE_DEVICES", options_.devices[slot % options_.devices.size()]);
    job.run = &run;
    job.stage = stage;
    job.log_start = size_of(log);
    if (stage == Stage::train && must_restart(folder_.run(run.run_id))) remove_run(folder_.run(run.run_id));
    job.pid = start_process(stage == Stage::train ? train_command(options_, run) : measure_command(options_, folder_, run),
                            variables, log);
  }

  void stop(int signal) {
    const bool again = stopping_ != 0;
    stopping_ = signal;
    log::info(again ? "killing the remaining processes" : "stopping: waiting for checkpoints; a second signal kills");
    for (const Job& job : jobs_) {
      if (job.pid != 0) ::kill(job.pid, again ? SIGKILL : signal == SIGHUP ? SIGTERM : signal);  // on SIGHUP the runs still save
    }
  }

  void reap() {
    for (size_t slot = 0; slot < jobs_.size(); ++slot) {
      Job& job = jobs_[slot];
      int status = 0;
      if (job.pid == 0 || ::waitpid(job.pid, &status, WNOHANG) != job.pid) continue;
      job.pid = 0;
      if (ended(job, status) && stopping_ == 0) start(slot, *job.run, Stage::measure);
    }
  }

  /// Whether the run is to be measured next.
  bool ended(const Job& job, int status) {
    const PlannedRun& run = *job.run;
    const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    const bool trained = job.stage == Stage::train;
    // An artifact over its budget is a result, too.
    const bool good = trained
                          ? (code == 0 || code == static_cast<int>(ExitCode::over_budget)) && is_finished(folder_.run(run.run_id))
                          : code == 0 && needed(run) == Stage::nothing;
    if (good) {
      if (trained) note_exit(folder_, run.run_id, std::nullopt);
      if (needed(run) == Stage::measure) return true;
      finished(job);
      return false;
    }
    if (stopping_ != 0) return false;
    if (trained) note_exit(folder_, run.run_id, code);
    ++done_;
    --todo_;
    const std::string how = WIFEXITED(status) ? format("exit code %d", code) : format("signal %d", WTERMSIG(status));
    const std::string message = last_message(folder_.log(run.run_id), job.log_start);
    log::warn(format("%s: %s failed with %s: %s (log: %s)", run.run_id.c_str(), trained ? "training" : "measuring", how.c_str(),
                     message.empty() ? "no output" : message.c_str(), folder_.log(run.run_id).c_str()));
    ++failed_;
    if (first_failure_ == ExitCode::ok) first_failure_ = code == 0 ? ExitCode::bad_input : static_cast<ExitCode>(code);
    return false;
  }

  void finished(const Job& job) {
    ++done_;
    --todo_;
    const double seconds = std::chrono::duration<double>(Clock::now() - job.start).count();
    seconds_.push_back(seconds);
    log::info(format("[%lld/%zu] %s: done in %s%s%s", static_cast<long long>(done_), runs_.size(), job.run->run_id.c_str(),
                     human_duration(seconds).c_str(), todo_ > 0 ? ", " : "", todo_ > 0 ? time_left().c_str() : ""));
  }

  std::string time_left() const {
    if (seconds_.empty()) return {};
    const double rounds = static_cast<double>(todo_) / static_cast<double>(jobs_.size());
    return "about " + human_duration(quantile(seconds_, 0.5) * rounds) + " left";
  }

  const std::vector<PlannedRun>& runs_;
  const SweepFolder& folder_;
  const RunnerOptions& options_;
  BlockedSignals signals_;
  std::vector<Job> jobs_;
  Progress bar_;
  size_t next_ = 0;
  int64_t done_ = 0, todo_ = 0;
  size_t failed_ = 0;
  int stopping_ = 0;
  std::vector<double> seconds_;  // of the runs finished so far
  ExitCode first_failure_ = ExitCode::ok;
};

}  // namespace

std::vector<std::string> train_command(const RunnerOptions& options, const PlannedRun& run) {
  std::vector<std::string> words{options.train_gpt.string()};
  words.insert(words.end(), run.arguments.begin(), run.arguments.end());
  return words;
}

std::vector<std::string> measure_command(const RunnerOptions& options, const SweepFolder& folder, const PlannedRun& run) {
  const RunConfig& config = run.command.config;
  std::vector<std::string> words{options.eval_gpt.string(),
                                 "measure",
                                 folder.run(run.run_id).model().string(),
                                 "--val-files",
                                 config.data.val_files(),
                                 "--tokenizer-path",
                                 config.data.tokenizer_path,
                                 "--eval-seq-lens",
                                 join(options.eval_seq_lens, ","),
                                 "--output",
                                 folder.run(run.run_id).measures().string()};
  for (const char* name : {"DEVICE", "DTYPE", "OPS", "NUM_THREADS", "EVAL_TOKENS", "BYTE_COUNT"}) {
    const auto& option = find_option(run.command.resolved, name);
    if (option.source != Source::default_value) words.insert(words.end(), {flag_of(name), option.text});
  }
  return words;
}

SweepOutcome run_sweep(const std::vector<PlannedRun>& runs, const SweepFolder& folder, const RunnerOptions& options) {
  std::signal(SIGPIPE, SIG_IGN);  // a reader of the log that has gone is no reason to end
  return Runner(runs, folder, options).run();
}

}  // namespace pgolf
