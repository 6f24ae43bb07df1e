#include "profile.h"

#include <torch/csrc/autograd/profiler_kineto.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "pgolf/base/error.h"
#include "pgolf/base/files.h"
#include "pgolf/base/format.h"
#include "pgolf/base/log.h"
#include "pgolf/train/runtime.h"

namespace pgolf {
namespace {

using torch::autograd::profiler::KinetoEvent;

constexpr const char* kStepName = "(optimizer step)";
constexpr const char* kEvaluate = "autograd::engine::evaluate_function: ";

struct Row {
  double self_ms = 0;
  int64_t calls = 0;
};
using Rows = std::map<std::string, Row>;

/// A readable operation name: without namespaces and autograd's wrappers; a backward function is named by its class.
std::string short_name(std::string name) {
  for (const std::string part : {kEvaluate, "torch::autograd::", "pgolf::ops::", "fast::", "cpu::", "(anonymous namespace)::"}) {
    for (size_t at; (at = name.find(part)) != std::string::npos;) name.erase(at, part.size());
  }
  if (name.rfind("CppNode<", 0) == 0) name = name.substr(8, name.size() - 9) + " (backward)";
  return name;
}

struct Profile {
  Rows host, device;
  int64_t host_threads = 0;  ///< threads that ran operations
  int64_t steps = 0;
  double step_ms = 0;  ///< mean
};

/// Self time: an event's duration minus the events that start within it on the same thread (or stream).
Profile summarize(const std::vector<KinetoEvent>& events) {
  Profile profile;
  std::vector<std::pair<uint64_t, uint64_t>> windows;
  for (const auto& event : events) {
    if (event.name() != kStepName || event.deviceType() != at::kCPU) continue;
    windows.emplace_back(event.startNs(), event.endNs());
    profile.step_ms += static_cast<double>(event.durationNs()) / 1e6;
  }
  profile.steps = static_cast<int64_t>(windows.size());
  profile.step_ms /= static_cast<double>(std::max<int64_t>(1, profile.steps));

  using Track = std::tuple<at::DeviceType, int, uint64_t>;
  std::map<Track, std::vector<const KinetoEvent*>> tracks;
  for (const auto& event : events) {
    const bool inside = std::any_of(windows.begin(), windows.end(), [&](const auto& window) {
      return event.startNs() >= window.first && event.startNs() < window.second;
    });
    if (!inside || event.isAsync()) continue;
    const bool host = event.deviceType() == at::kCPU;
    const uint64_t queue = host ? event.startThreadId() : static_cast<uint64_t>(event.deviceResourceId());
    tracks[{event.deviceType(), event.deviceIndex(), queue}].push_back(&event);
  }
  for (auto& [track, list] : tracks) {
    std::stable_sort(list.begin(), list.end(), [](const KinetoEvent* a, const KinetoEvent* b) {
      return a->startNs() != b->startNs() ? a->startNs() < b->startNs() : a->endNs() > b->endNs();
    });
    const bool host = std::get<0>(track) == at::kCPU;
    profile.host_threads += host ? 1 : 0;
    Rows& rows = host ? profile.host : profile.device;
    std::vector<std::pair<uint64_t, Row*>> open;  // end and row of the enclosing events
    for (const KinetoEvent* event : list) {
      while (!open.empty() && open.back().first <= event->startNs()) open.pop_back();
      const double ms = static_cast<double>(event->durationNs()) / 1e6;
      if (!open.empty()) open.back().second->self_ms -= ms;
      const std::string name = event->name();
      Row& row = rows[short_name(name)];
      row.self_ms += ms;
      row.calls += name.rfind(kEvaluate, 0) == 0 ? 0 : 1;
      open.emplace_back(event->endNs(), &row);
    }
  }
  return profile;
}

/// Merges rows below a thousandth of the step.
std::string table(const char* where, const Rows& rows, int64_t threads, const Profile& profile) {
  const double whole_ms = profile.step_ms * static_cast<double>(profile.steps * threads);
  std::vector<std::pair<std::string, Row>> sorted;
  Row others;
  for (const auto& [name, row] : rows) {
    if (row.self_ms >= whole_ms / 1000) {
      sorted.emplace_back(name, row);
    } else {
      others.self_ms += row.self_ms;
      others.calls += row.calls;
    }
  }
  std::sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) { return a.second.self_ms > b.second.self_ms; });
  if (others.calls > 0) sorted.emplace_back("(others)", others);
  const auto steps = static_cast<double>(profile.steps);
  std::string text = format("%7s  %10s %9s  %s\n", "share", "self ms", "calls", where);
  for (const auto& [name, row] : sorted) {
    text += format("%6.1f%%  %10.3f %9.1f  %s\n", 100 * row.self_ms / whole_ms, row.self_ms / steps,
                   static_cast<double>(row.calls) / steps, name.c_str());
  }
  return text;
}

}  // namespace

StepProfiler::StepProfiler(int steps, const RunFolder& folder, const at::Device& device)
    : steps_(steps), folder_(folder), device_(device) {}

StepProfiler::~StepProfiler() {
  range_.reset();
  if (recording_) torch::autograd::profiler::disableProfiler();
}

void StepProfiler::begin_step() {
  if (steps_ > 0 && seen_ == kWarmupSteps) {
    using namespace torch::profiler::impl;
    const ProfilerConfig config(ProfilerState::KINETO);
    std::set<ActivityType> activities{ActivityType::CPU};
    if (device_.is_cuda()) {
      activities.insert(ActivityType::CUDA);
    } else {
      ::setenv("KINETO_LOG_LEVEL", "5", /*overwrite=*/0);  // silences a CUDA build's warning about a missing driver
    }
    torch::autograd::profiler::prepareProfiler(config, activities);
    torch::autograd::profiler::enableProfiler(config, activities);
    recording_ = true;
  }
  if (!recording_) return;
  range_.emplace(at::RecordScope::USER_SCOPE);
  range_->before(kStepName);
}

void StepProfiler::end_step() {
  ++seen_;
  if (!recording_) return;
  synchronize(device_);
  range_.reset();
  if (seen_ == kWarmupSteps + steps_) write();
}

void StepProfiler::finish() {
  if (recording_) write();
  if (steps_ > 0 && seen_ < kWarmupSteps + steps_) {
    log::warn(format("PROFILE=%d: the run had only %d steps; profiled %d after the first %d", steps_, seen_,
                     std::max(0, seen_ - kWarmupSteps), kWarmupSteps));
  }
}

void StepProfiler::write() {
  const auto result = torch::autograd::profiler::disableProfiler();
  recording_ = false;
  result->save(folder_.profile_trace());
  const Profile profile = summarize(result->events());
  std::string text = format(
      "profile: %lld steps of %.3f ms each, operations on %lld CPU thread(s); self time and calls per "
      "step\n",
      static_cast<long long>(profile.steps), profile.step_ms, static_cast<long long>(profile.host_threads));
  text += table("on the CPU", profile.host, std::max<int64_t>(1, profile.host_threads), profile);
  if (!profile.device.empty()) text += "\n" + table("on the GPU", profile.device, 1, profile);
  log::info(text + folder_.profile_trace().string());
  try {
    write_atomic(folder_.profile_table(), text);
  } catch (const Error& error) {
    log::warn(error.what());  // no reason to end a training
  }
}

}  // namespace pgolf
