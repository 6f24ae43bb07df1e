#include "pgolf/study/plan.h"

#include <algorithm>
#include <numeric>
#include <set>

#include "pgolf/base/error.h"
#include "pgolf/base/files.h"
#include "pgolf/base/format.h"
#include "pgolf/base/hash.h"
#include "pgolf/config/micro_steps.h"
#include "pgolf/config/parse.h"
#include "pgolf/study/arm.h"

namespace pgolf {
namespace {

constexpr size_t kMaxRuns = 100'000;
constexpr size_t kMaxSlug = 100;
constexpr size_t kHashDigits = 8;

TrainCommand resolve(const std::vector<std::string>& arguments, const Environment& environment) {
  std::vector<const char*> argv{"train_gpt"};
  for (const auto& argument : arguments) argv.push_back(argument.c_str());
  return resolve_train_command(static_cast<int>(argv.size()), argv.data(), environment);
}

bool has_flag(const std::vector<std::string>& arguments, const std::string& flag) {
  return std::any_of(arguments.begin(), arguments.end(),
                     [&](const std::string& word) { return word == flag || word.starts_with(flag + "="); });
}

void check_fixed(const SweepRequest& request) {
  for (const char* name : {"OUT_DIR", "RUN_ID"}) {
    if (has_flag(request.fixed, flag_of(name)))
      throw Error(ExitCode::usage, format("%s after --: sweep_gpt names the run folders", flag_of(name).c_str()),
                  "use --out-dir before --");
  }
  for (const char* action :
       {"--help", "-h", "--help-markdown", "--version", "--print-config", "--dry-run", "--resume", "--write-source"}) {
    if (has_flag(request.fixed, action))
      throw Error(ExitCode::usage, format("%s after -- is not a setting of a run", action),
                  "sweep_gpt resumes runs by itself; --list shows its commands");
  }
  for (const auto& [name, values] : request.varied) {
    if (has_flag(request.fixed, flag_of(name)))
      throw Error(ExitCode::usage, format("%s is given on both sides of --", flag_of(name).c_str()), "remove one of them");
  }
}

/// "rope_dims-16.seed-1": readable, with characters that are valid in a RUN_ID.
std::string slug(const std::vector<std::string>& varied, const TrainCommand& command) {
  std::string out;
  for (const auto& name : varied) {
    std::string text = find_option(command.resolved, name).text;
    if (name == "ROPE_LAYERS" && text == "same") continue;
    std::erase(text, '+');  // 1e+30 must not look like 1e-30
    for (char& c : text) {
      const bool legal = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_';
      if (c == '*')
        c = 'x';
      else if (!legal)
        c = '-';
    }
    out += (out.empty() ? "" : ".") + lower_case(name) + "-" + text;
  }
  return out.empty() ? "run" : out.substr(0, kMaxSlug);
}

void add_unique(std::vector<std::string>& lines, std::string line) {
  if (std::find(lines.begin(), lines.end(), line) == lines.end()) lines.push_back(std::move(line));
}

void add_advice(SweepPlan& plan) {
  std::set<int64_t> batches, lengths;
  bool capped = false, none = false, full = false;
  for (const auto& run : plan.runs) {
    const RunConfig& config = run.command.config;
    batches.insert(config.data.train_batch_tokens);
    lengths.insert(config.data.train_seq_len);
    capped = capped || config.schedule.max_wallclock_seconds > 0;
    none = none || rotates_nowhere(config.model);
    full = full || rotates_fully(config.model);
  }
  const auto varies = [&](const char* name) {
    return std::find(plan.varied.begin(), plan.varied.end(), name) != plan.varied.end();
  };
  if (varies("ROPE_DIMS") || varies("ROPE_FRACTION") || varies("ROPE_LAYERS") || varies("ROPE_SELECT") || varies("ROPE_STYLE")) {
    const bool fraction = varies("ROPE_FRACTION");
    if (!none)
      plan.notes.push_back(format("suggestion: add %s, the model without rotation, as the lower bound", fraction ? "0" : "none"));
    if (!full)
      plan.notes.push_back(format("suggestion: add %s, the baseline that arms are compared with", fraction ? "1" : "full"));
  }
  if (capped) {
    plan.warnings.push_back(
        "MAX_WALLCLOCK_SECONDS is above 0: runs may stop at the time limit, so arms may train for unequal numbers of steps; use "
        "--max-wallclock-seconds 0 and --iterations");
  }
  if (batches.size() > 1) {
    int64_t unit = kMicroSteps;
    for (const int64_t length : lengths) unit = std::lcm(unit, kMicroSteps * length);
    plan.warnings.push_back(format(
        "the arms differ in TRAIN_BATCH_TOKENS, so they see unequal numbers of tokens per step; a multiple of %lld fits every "
        "TRAIN_SEQ_LEN",
        static_cast<long long>(unit)));
  }
}

}  // namespace

std::string shell_quoted(const std::string& text) {
  constexpr const char* plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./,:+=@%-";
  if (!text.empty() && text.find_first_not_of(plain) == std::string::npos) return text;
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

std::string shell_line(const std::vector<std::string>& words) {
  std::string out;
  for (const auto& word : words) out += (out.empty() ? "" : " ") + shell_quoted(word);
  return out;
}

SweepPlan plan_sweep(const SweepRequest& request, const Environment& environment) {
  check_fixed(request);
  SweepPlan plan;
  // The seed varies slowest, so that after half the time there is a sweep with half the seeds.
  auto axes = request.varied;
  std::stable_partition(axes.begin(), axes.end(), [](const auto& axis) { return axis.first == "SEED"; });
  size_t combinations = 1;
  for (const auto& axis : axes) {
    combinations *= axis.second.size();
    if (combinations > kMaxRuns) throw Error(ExitCode::usage, format("the sweep has more than %zu combinations", kMaxRuns));
  }
  for (const auto& axis : request.varied) plan.varied.push_back(axis.first);

  std::map<std::string, size_t> known;  // identity -> run
  for (size_t number = 0; number < combinations; ++number) {
    std::map<std::string, std::string> chosen;
    size_t rest = number;
    for (auto axis = axes.rbegin(); axis != axes.rend(); ++axis) {
      chosen[axis->first] = axis->second[rest % axis->second.size()];
      rest /= axis->second.size();
    }
    std::vector<std::string> arguments = request.fixed;
    std::string text;
    for (const auto& name : plan.varied) {
      if (name != "SEED") text += (text.empty() ? "" : " ") + name + "=" + chosen[name];
      arguments.insert(arguments.end(), {flag_of(name), chosen[name]});
    }
    if (request.threads > 0) arguments.insert(arguments.end(), {"--num-threads", std::to_string(request.threads)});
    arguments.insert(arguments.end(), {"--out-dir", request.out_dir});
    TrainCommand command = resolve(arguments, environment);
    if (command.config.schedule.min_steps > 0)
      refuse(command.resolved, {"MIN_STEPS"}, "every run of a sweep would choose its own sizes", "remove it");
    for (const auto& warning : command.warnings) add_unique(plan.warnings, warning);
    const std::string identity = run_identity(command, plan.varied);
    const auto [position, fresh] = known.emplace(identity, plan.runs.size());
    if (!fresh) {
      PlannedRun& same = plan.runs[position->second];
      if (same.requested.front() != text) {
        add_unique(same.requested, text);
        add_unique(plan.notes, format("%s is equivalent to %s (rope_dims %s, head_dim %d) and is run once", text.c_str(),
                                      same.requested.front().c_str(), layer_rope_dims_text(command.config.model).c_str(),
                                      command.config.model.head_dim()));
      }
      continue;
    }
    PlannedRun run;
    run.run_id = slug(plan.varied, command) + "-" + sha256_hex(as_bytes(identity)).substr(0, kHashDigits);
    arguments.insert(arguments.end(), {"--run-id", run.run_id, "--resume", "auto"});
    run.requested = {text};
    run.arguments = std::move(arguments);
    run.command = std::move(command);
    plan.runs.push_back(std::move(run));
  }
  add_advice(plan);
  return plan;
}

}  // namespace pgolf
