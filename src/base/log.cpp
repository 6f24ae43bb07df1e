#include "pgolf/base/log.h"

#include <poll.h>
#include <spdlog/logger.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <unistd.h>

#include <climits>
#include <memory>
#include <mutex>
#include <utility>

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/base/progress.h"
#include "pgolf/base/text.h"

namespace pgolf::log {
namespace {

std::unique_ptr<spdlog::logger> make_logger(const char* name, spdlog::sink_ptr sink, const char* pattern) {
  auto logger = std::make_unique<spdlog::logger>(name, std::move(sink));
  logger->set_pattern(pattern);
  logger->flush_on(spdlog::level::trace);
  return logger;
}

spdlog::logger& out() {
  static const auto logger = make_logger("out", std::make_shared<spdlog::sinks::stdout_sink_mt>(), "%v");
  return *logger;
}

spdlog::logger& err() {
  static const auto logger = make_logger("err", std::make_shared<spdlog::sinks::stderr_sink_mt>(), "%v");
  return *logger;
}

std::unique_ptr<spdlog::logger>& file() {
  static std::unique_ptr<spdlog::logger> logger;
  return logger;
}

int this_rank = 0;

}  // namespace

void set_rank(int rank) {
  this_rank = rank;
}

std::string rank_prefix() {
  return this_rank == 0 ? "" : format("[rank %d] ", this_rank);
}

void open_log_file(const std::filesystem::path& path) {
  try {
    file() = make_logger("file", std::make_shared<spdlog::sinks::basic_file_sink_mt>(path.string()), "%v");
    file()->set_error_handler([warned = false](const std::string& what) mutable {
      if (!std::exchange(warned, true))
        err().info("{}warning: {}; the lines above and below may be missing there", rank_prefix(), what);
    });
  } catch (const spdlog::spdlog_ex& e) {
    throw Error(ExitCode::io, e.what());
  }
}

void close_log_file() {
  file().reset();
}

void info(std::string_view line) {
  if (this_rank == 0) {
    Progress::clear_line();
    out().info(line);
  }
  file_only(line);
}

void file_only(std::string_view line) {
  if (file()) file()->info(line);
}

void warn(std::string_view line) {
  Progress::clear_line();
  err().info("{}warning: {}", rank_prefix(), line);
  if (file()) file()->info("warning: {}", line);
}

void err_or_drop(std::string_view line) {
  static std::mutex mutex;
  static int64_t dropped = 0;
  const std::lock_guard lock(mutex);
  pollfd stream{STDERR_FILENO, POLLOUT, 0};
  if (::poll(&stream, 1, 0) <= 0 || (stream.revents & POLLOUT) == 0) {
    ++dropped;
    return;
  }
  std::string text;
  if (dropped > 0)
    text = format("%lld lines are missing here: nobody read them; ", static_cast<long long>(std::exchange(dropped, 0)));
  // A pipe that has room at all takes this much without waiting.
  err().info(printable(text.append(line), PIPE_BUF - 8));
}

}  // namespace pgolf::log
