#include "pgolf/study/report.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "decimals.h"
#include "pgolf/base/table.h"
#include "pgolf/study/plan.h"
#include "report_measures.h"

namespace pgolf {
namespace {

constexpr const char* kBaselineMissing = "no full arm";

std::string signed_decimals(double value) {
  return format("%+.4f", value);
}

std::string difference_text(const PairedDifference& difference) {
  if (difference.pairs == 0) return "";
  if (!difference.low) return signed_decimals(difference.mean);
  return format("%+.4f [%+.4f, %+.4f]", difference.mean, *difference.low, *difference.high);
}

std::string arms_part(const Summary& summary) {
  Table table({"arm", "rotated dims", "seeds", "val_loss", "val_bpb", format("val_loss, last %d", kLastValidations),
               "difference to full (95 %)", "pairs", "in deviations of full's seeds", "val_loss is"});
  bool missing = false, marked = false;
  for (const Arm& arm : summary.arms) {
    std::string seeds = std::to_string(arm.counted.size());
    if (arm.diverged > 0) seeds += format(", %d diverged", arm.diverged);
    if (arm.unfinished > 0) seeds += format(", %d unfinished", arm.unfinished);
    std::string pairs, noise, conclusion = verdict_text(arm.verdict);
    const PairedDifference& difference = arm.loss_difference;
    if (arm.verdict == Verdict::no_difference && difference.low && (*difference.low > 0 || *difference.high < 0))
      conclusion += " (although the interval excludes 0)";
    if (arm.is_baseline) {
      conclusion = "baseline";
    } else if (!arm.baseline) {
      conclusion = kBaselineMissing;
      missing = true;
    } else if (difference.pairs > 0) {
      pairs = std::to_string(difference.pairs);
      const auto deviation = sample_deviation(summary.values(summary.arms[*arm.baseline], &RunFacts::final_val_loss));
      if (deviation && *deviation > 0) noise = format("%+.1f", difference.mean / *deviation);
      if (arm.settings_from_baseline > 0) {
        conclusion += "*";
        marked = true;
      }
    }
    table.add({arm.label, format("%g of %d", arm.mean_rope_dims, arm.head_dim), seeds,
               mean_and_deviation(summary.values(arm, &RunFacts::final_val_loss), 4),
               mean_and_deviation(summary.values(arm, &RunFacts::final_val_bpb), 4),
               mean_and_deviation(summary.values(arm, &RunFacts::last_k_val_loss), 4), difference_text(difference), pairs, noise,
               conclusion});
  }
  std::string out = "\n## Arms\n\n" + table.markdown();
  if (missing) out += "\n\"no full arm\": no run has full rotation in all layers; add `full` to the sweep for a baseline.\n";
  if (marked)
    out +=
        "\n\\*: compared with the baseline whose other settings are nearest, since no arm has full rotation and this arm's other "
        "settings.\n";
  return out;
}

std::string shared_settings(const Summary& summary) {
  if (summary.runs.empty()) return {};
  std::string out;
  const auto& first = summary.runs.front().result.command;
  for (const char* name : {"NUM_LAYERS", "MODEL_DIM", "NUM_HEADS", "NUM_KV_HEADS", "TRAIN_SEQ_LEN", "TRAIN_BATCH_TOKENS",
                           "ITERATIONS", "ROPE_BASE", "QK_NORM", "PARALLEL_BLOCK"}) {
    const std::string text = find_option(first.resolved, name).text;
    const bool same = std::all_of(summary.runs.begin(), summary.runs.end(), [&](const SummaryRun& run) {
      return find_option(run.result.command.resolved, name).text == text;
    });
    if (same) out += (out.empty() ? "" : ", ") + std::string(name) + "=" + text;
  }
  out = "Common to all: " + out + ".\n";
  std::set<int64_t> tokens;
  for (const Arm& arm : summary.arms) {
    for (const size_t run : arm.counted) tokens.insert(summary.runs[run].facts.tokens);
  }
  if (tokens.size() == 1) {
    out += format("Every finished run was trained on %s tokens.\n", with_commas(*tokens.begin()).c_str());
  } else if (!tokens.empty()) {
    out += format("**The runs were trained on unequal numbers of tokens, %s to %s: arms that saw less are at a disadvantage.**\n",
                  with_commas(*tokens.begin()).c_str(), with_commas(*tokens.rbegin()).c_str());
  }
  return out;
}

std::string reading_part() {
  return format(
      "\n## How to read this\n\n"
      "Losses are means over seeds ± their standard deviation, of the validation after the last step (nats per token; val_bpb: "
      "bits per byte). A difference is arm minus full, computed per seed, since runs of one seed share their initial weights, "
      "and averaged over the seeds that both have. Seeds change only the initial weights: all runs read the same data in the "
      "same order, so the effect of another order or another text is not covered. The brackets give the 95 %% confidence "
      "interval of that mean (Student's t over the seeds). **An arm whose mean lies within the range of full's same seeds is "
      "\"no difference\". Outside it, the arm is lower or higher if the interval excludes 0, otherwise \"not decided\": more "
      "seeds are needed.** \"Full\" is the baseline: full rotation in all layers and otherwise equal settings. With many arms, "
      "one interval in twenty excludes 0 by chance.\n\n"
      "A diverged run stopped at a non-finite value, or ended no better than chance (validation loss >= ln VOCAB_SIZE); it is "
      "counted, but left out of the means.\n\n"
      "\"No difference\" is a statement about these models, this much training and this many seeds: the brackets show how large "
      "an undetected difference may be, and with two or three seeds that is a lot.\n");
}

std::string spikes_part(const Summary& summary) {
  const SpikeRule rule;
  Table table({"arm", "runs", "spikes", "greatest height", "longest recovery, steps", "not recovered", "diverged runs",
               "largest gradient norm"});
  for (const Arm& arm : summary.arms) {
    int64_t spikes = 0, unrecovered = 0, runs = 0;
    double height = 0;
    size_t recovery = 0;
    std::optional<double> norm;
    for (const size_t r : arm.runs) {
      const RunFacts& facts = summary.runs[r].facts;
      if (summary.runs[r].result.status() == RunStatus::unfinished) continue;
      ++runs;
      spikes += static_cast<int64_t>(facts.spikes.spikes.size());
      for (const auto& spike : facts.spikes.spikes) {
        height = std::max(height, spike.height);
        recovery = std::max(recovery, spike.recovery.value_or(0));
        unrecovered += spike.recovery ? 0 : 1;
      }
      if (facts.max_grad_norm) norm = std::max(norm.value_or(0), *facts.max_grad_norm);
    }
    if (runs == 0) continue;
    table.add({arm.label, std::to_string(runs), std::to_string(spikes), spikes > 0 ? format("%.3f", height) : "",
               spikes > unrecovered ? std::to_string(recovery) : "", std::to_string(unrecovered), std::to_string(arm.diverged),
               norm ? format("%.3g", *norm) : ""});
  }
  return format(
             "\n## Spikes\n\nA spike begins at a step whose training loss is more than %g robust standard deviations above the "
             "median "
             "of the %d steps before it. The deviation is 1.4826 times the median absolute deviation of these steps, at least %g "
             "of "
             "the median; the first %d steps are not judged. Height is measured from that median; recovery is the number of "
             "steps until the loss is within one deviation of it again, and a spike that takes more than %d has not "
             "recovered.\n\n",
             rule.factor, rule.window, rule.floor, rule.window, rule.window) +
         table.markdown();
}

std::string left_out_part(const Summary& summary, const std::vector<std::string>& problems) {
  std::string out;
  for (const auto& run : summary.runs) {
    const RunStatus status = run.result.status();
    if (status == RunStatus::finished && !run.repeat) continue;
    std::string why = run.repeat ? "has the same settings and seed as another run" : status_text(status);
    if (run.result.exit_code) why += format(", exit code %d", *run.result.exit_code);
    out += format("- %s: %s, %lld steps\n", run.result.name.c_str(), why.c_str(), static_cast<long long>(run.facts.steps));
  }
  for (const auto& problem : problems) out += "- " + problem + "\n";
  return out.empty() ? "" : "\n## Left out of the means\n\n" + out;
}

std::string plot_links(const std::vector<std::string>& plots, std::initializer_list<const char*> wanted) {
  std::string out;
  for (const char* name : wanted) {
    if (std::find(plots.begin(), plots.end(), name) != plots.end()) out += format("\n![%s](plots/%s.svg)\n", name, name);
  }
  return out;
}

std::string commands_part(const Summary& summary, const std::vector<std::string>& calls) {
  std::string out;
  for (const auto& call : calls) out += call + "\n";
  if (!out.empty())
    out = "\n## Commands\n\n```sh\n" + out + "```\n\nThe individual runs:\n\n```sh\n";
  else
    out = "\n## Commands\n\n```sh\n";
  for (const auto& run : summary.runs) {
    if (!run.result.arguments.empty())
      out += "train_gpt " + shell_line(run.result.arguments) + "\n";
    else
      out += "train_gpt --config " + shell_quoted(RunFolder{run.result.name}.config().lexically_normal()) + "\n";
  }
  return out + "```\n";
}

}  // namespace

std::string report_text(const Summary& summary, const std::vector<std::string>& calls, const std::vector<std::string>& problems,
                        const std::vector<std::string>& plots) {
  std::string out = format("# Sweep: %zu arms, %zu runs\n\n", summary.arms.size(), summary.runs.size());
  out += shared_settings(summary);
  if (!summary.differing.empty()) {
    out += "Besides the rotation, arms differ in:";
    for (const auto& name : summary.differing) out += " " + name;
    out += ", with train_gpt's default where an arm's name has none.\n";
  }
  out += arms_part(summary) + plot_links(plots, {"loss"}) + reading_part() + spikes_part(summary);
  out += report_lengths(summary) + report_positions(summary) + report_retrieval(summary) + report_attention(summary);
  out += report_memory(summary) + report_times(summary) + left_out_part(summary, problems);
  const std::string others = plot_links(plots, {"trajectory", "positions", "lengths", "lengths_last", "memory"});
  if (!others.empty()) out += "\n## Plots\n" + others;
  return out + commands_part(summary, calls);
}

}  // namespace pgolf
