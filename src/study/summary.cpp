#include "pgolf/study/summary.h"

#include <algorithm>
#include <numeric>
#include <set>
#include <tuple>

namespace pgolf {
namespace {

constexpr int64_t kMaxWarmUpSteps = 10;

double mean_rope_dims(const ModelConfig& model) {
  const auto dims = layer_rope_dims(model);
  return std::accumulate(dims.begin(), dims.end(), 0.0) / static_cast<double>(dims.size());
}

std::vector<std::string> differing_settings(const std::vector<Arm>& arms) {
  std::map<std::string, std::set<std::string>> texts;
  for (const auto& arm : arms) {
    for (const auto& [name, text] : arm.settings) texts[name].insert(text);
  }
  std::vector<std::string> names;
  for (const auto& [name, values] : texts) {
    const bool everywhere = std::all_of(arms.begin(), arms.end(), [&](const Arm& arm) { return arm.settings.contains(name); });
    if (name != kRotation && (values.size() > 1 || !everywhere)) names.push_back(name);
  }
  return names;
}

void label(Arm& arm, const std::vector<std::string>& differing) {
  arm.rotation = arm.settings.at(kRotation);
  for (const auto& name : differing) {
    const auto found = arm.settings.find(name);
    if (found != arm.settings.end() && found->second != default_text(name))
      arm.family += (arm.family.empty() ? "" : " ") + name + "=" + found->second;
  }
  arm.label = arm.rotation + (arm.family.empty() ? "" : " " + arm.family);
}

int settings_between(const Arm& a, const Arm& b) {
  std::set<std::string> names;
  for (const auto& [name, text] : a.settings) {
    const auto found = b.settings.find(name);
    if (found == b.settings.end() || found->second != text) names.insert(name);
  }
  for (const auto& [name, text] : b.settings) {
    if (!a.settings.contains(name)) names.insert(name);
  }
  names.erase(kRotation);
  return static_cast<int>(names.size());
}

/// Of these arms the one whose other settings are nearest, with the same ROPE_STYLE if several are.
std::optional<size_t> nearest(const Summary& summary, const Arm& arm, const std::vector<size_t>& candidates) {
  const auto style = [&](const Arm& of) { return summary.runs[of.runs.front()].result.command.config.model.rope.style; };
  const auto distance = [&](size_t i) {
    return std::pair(settings_between(summary.arms[i], arm), style(summary.arms[i]) == style(arm) ? 0 : 1);
  };
  const auto found =
      std::min_element(candidates.begin(), candidates.end(), [&](size_t a, size_t b) { return distance(a) < distance(b); });
  return found == candidates.end() ? std::nullopt : std::optional(*found);
}

/// The arms with full rotation that others differ from in nothing but the rotation, or else the first with full rotation.
std::vector<size_t> find_baselines(const Summary& summary) {
  std::vector<size_t> full;
  for (size_t i = 0; i < summary.arms.size(); ++i) {
    if (summary.arms[i].full) full.push_back(i);
  }
  std::set<size_t> baselines;
  for (const Arm& arm : summary.arms) {
    const auto found = arm.full ? std::nullopt : nearest(summary, arm, full);
    if (found && settings_between(arm, summary.arms[*found]) == 0) baselines.insert(*found);
  }
  if (baselines.empty() && !full.empty()) baselines.insert(full.front());
  return {baselines.begin(), baselines.end()};
}

/// Values of the seeds that both arms have, in the same order.
struct CommonSeeds {
  std::vector<double> arm, baseline;

  PairedDifference difference() const {
    std::vector<double> differences;
    for (size_t i = 0; i < arm.size(); ++i) differences.push_back(arm[i] - baseline[i]);
    return paired_difference(differences);
  }
};

CommonSeeds common_seeds(const Summary& summary, const Arm& arm, const Arm& baseline, std::optional<double> RunFacts::*fact) {
  std::map<int64_t, double> baseline_values;
  for (const size_t i : baseline.counted) {
    const auto& run = summary.runs[i];
    if (run.facts.*fact) baseline_values[run.result.seed()] = *(run.facts.*fact);
  }
  CommonSeeds common;
  for (const size_t i : arm.counted) {
    const auto& run = summary.runs[i];
    const auto other = baseline_values.find(run.result.seed());
    if (other == baseline_values.end() || !(run.facts.*fact)) continue;
    common.arm.push_back(*(run.facts.*fact));
    common.baseline.push_back(other->second);
  }
  return common;
}

}  // namespace

RunFacts facts_of(const RunResult& run) {
  RunFacts facts;
  std::vector<double> losses, step_ms;
  for (const auto& point : run.train) {
    losses.push_back(point.train_loss);
    if (point.grad_norm) facts.max_grad_norm = std::max(facts.max_grad_norm.value_or(0), *point.grad_norm);
  }
  facts.spikes = find_spikes(losses);
  const auto count = static_cast<int64_t>(run.train.size());
  for (int64_t i = std::max<int64_t>(1, std::min(kMaxWarmUpSteps, count / 4)); i < count; ++i) {
    const auto &before = run.train[static_cast<size_t>(i) - 1], &now = run.train[static_cast<size_t>(i)];
    if (now.step == before.step + 1 && now.train_time_ms > before.train_time_ms)
      step_ms.push_back(now.train_time_ms - before.train_time_ms);
  }
  facts.timed_steps = static_cast<int64_t>(step_ms.size());
  if (!step_ms.empty()) {
    facts.step_ms_median = quantile(step_ms, 0.5);
    facts.step_ms_p10 = quantile(step_ms, 0.1);
    facts.step_ms_p90 = quantile(step_ms, 0.9);
  }
  if (!run.train.empty()) {
    facts.steps = run.train.back().step;
    facts.tokens = run.train.back().tokens;
  }
  if (!run.finished || run.val.empty()) return facts;
  if (!run.train.empty()) facts.final_train_loss = run.train.back().train_loss;
  facts.final_val_loss = run.val.back().val_loss;
  facts.final_val_bpb = run.val.back().val_bpb;
  std::vector<double> loss, bpb;
  for (auto val = run.val.rbegin(); val != run.val.rend() && static_cast<int>(loss.size()) < kLastValidations && val->step > 0;
       ++val) {
    loss.push_back(val->val_loss);
    bpb.push_back(val->val_bpb);
  }
  if (loss.empty()) return facts;  // validated before training only
  facts.last_k_val_loss = mean(loss);
  facts.last_k_val_bpb = mean(bpb);
  return facts;
}

std::vector<double> Summary::values(const Arm& arm, std::optional<double> RunFacts::*fact) const {
  std::vector<double> out;
  for (const size_t i : arm.counted) {
    if (const auto& value = runs[i].facts.*fact) out.push_back(*value);
  }
  return out;
}

Summary summarize(std::vector<RunResult> results) {
  Summary summary;
  std::sort(results.begin(), results.end(), [](const RunResult& a, const RunResult& b) { return a.name < b.name; });
  // Options that any sweep in this folder varied distinguish arms, for all runs.
  std::set<std::string> names;
  for (const auto& result : results) names.insert(result.varied.begin(), result.varied.end());
  const std::vector<std::string> extra(names.begin(), names.end());

  std::map<ArmSettings, std::vector<RunResult>> groups;
  for (auto& result : results) groups[arm_settings(result.command, extra)].push_back(std::move(result));
  std::vector<std::pair<Arm, std::vector<RunResult>>> arms;
  for (auto& [settings, members] : groups) {
    const ModelConfig& model = members.front().command.config.model;
    Arm arm;
    arm.settings = settings;
    arm.mean_rope_dims = mean_rope_dims(model);
    arm.head_dim = model.head_dim();
    arm.full = rotates_fully(model);
    arm.plain = arm.settings.at(kRotation) == rope_dims_text(static_cast<int>(arm.mean_rope_dims), arm.head_dim);
    arms.emplace_back(std::move(arm), std::move(members));
  }
  std::vector<Arm> plain;
  for (const auto& entry : arms) plain.push_back(entry.first);
  summary.differing = differing_settings(plain);
  for (auto& entry : arms) label(entry.first, summary.differing);
  std::stable_sort(arms.begin(), arms.end(), [](const auto& a, const auto& b) {
    return std::tie(a.first.family, a.first.mean_rope_dims, a.first.rotation) <
           std::tie(b.first.family, b.first.mean_rope_dims, b.first.rotation);
  });

  for (auto& [arm, members] : arms) {
    std::stable_sort(members.begin(), members.end(), [](const RunResult& a, const RunResult& b) { return a.seed() < b.seed(); });
    std::set<int64_t> seeds;
    for (auto& member : members) {
      SummaryRun run{.result = std::move(member), .facts = {}, .arm = summary.arms.size(), .repeat = false};
      run.facts = facts_of(run.result);
      const RunStatus status = run.result.status();
      if (status == RunStatus::unfinished)
        ++arm.unfinished;
      else if (!seeds.insert(run.result.seed()).second)
        run.repeat = true;
      else if (status == RunStatus::diverged)
        ++arm.diverged;
      else
        arm.counted.push_back(summary.runs.size());
      arm.runs.push_back(summary.runs.size());
      summary.runs.push_back(std::move(run));
    }
    summary.arms.push_back(std::move(arm));
  }
  const auto baselines = find_baselines(summary);
  for (const size_t i : baselines) summary.arms[i].is_baseline = true;
  for (Arm& arm : summary.arms) {
    arm.baseline = arm.is_baseline ? std::nullopt : nearest(summary, arm, baselines);
    if (!arm.baseline) continue;
    const Arm& baseline = summary.arms[*arm.baseline];
    arm.settings_from_baseline = settings_between(arm, baseline);
    const CommonSeeds losses = common_seeds(summary, arm, baseline, &RunFacts::final_val_loss);
    arm.loss_difference = losses.difference();
    arm.bpb_difference = common_seeds(summary, arm, baseline, &RunFacts::final_val_bpb).difference();
    if (!losses.arm.empty()) arm.verdict = verdict(arm.loss_difference, mean(losses.arm), losses.baseline);
  }
  return summary;
}

}  // namespace pgolf
