#include "pgolf/study/tables.h"

#include <algorithm>
#include <map>
#include <set>

#include "pgolf/config/cache_size.h"
#include "pgolf/config/model_options.h"
#include "pgolf/config/parse.h"

namespace pgolf {
namespace {

using Cells = std::vector<std::string>;

std::string text_of(const RunResult& run, std::string_view name) {
  return find_option(run.command.resolved, name).text;
}

/// The requested settings, as written.
std::string requested(const RunResult& run) {
  std::string out;
  for (const auto& text : run.requested) out += (out.empty() ? "" : " | ") + text;
  if (!out.empty()) return out;
  for (const char* name : {"ROPE_LAYERS", "ROPE_FRACTION", "ROPE_DIMS"}) {
    const auto& option = find_option(run.command.resolved, name);
    if (option.source != Source::default_value && option.text != "same" && option.text != "none")
      return option.name + "=" + option.text;
  }
  return "ROPE_DIMS=" + text_of(run, "ROPE_DIMS");
}

/// The leading columns of every table of measurements.
const std::vector<Table::Column> kRunColumns = {"run",      "arm",    "arm_number",     "counted",
                                                "rotation", "family", "mean_rope_dims", "seed"};

Cells run_cells(const Summary& summary, const SummaryRun& run) {
  const Arm& arm = summary.arms[run.arm];
  const bool counted = std::any_of(arm.counted.begin(), arm.counted.end(), [&](size_t i) { return &summary.runs[i] == &run; });
  return {run.result.name,
          arm.label,
          cell(static_cast<int64_t>(run.arm)),
          cell(int64_t{counted}),
          arm.rotation,
          arm.family,
          cell(arm.mean_rope_dims),
          cell(run.result.seed())};
}

template <class T>
std::vector<T> joined(std::vector<T> first, const std::vector<T>& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

std::optional<double> mean_of(const std::vector<double>& values) {
  return values.empty() ? std::nullopt : std::optional(mean(values));
}

std::optional<double> min_of(const std::vector<double>& values) {
  return values.empty() ? std::nullopt : std::optional(*std::min_element(values.begin(), values.end()));
}

std::optional<double> max_of(const std::vector<double>& values) {
  return values.empty() ? std::nullopt : std::optional(*std::max_element(values.begin(), values.end()));
}

Cells settings_cells(const RunResult& run) {
  const RunConfig& config = run.command.config;
  const ModelConfig& model = config.model;
  double dims = 0;
  for (const int layer : layer_rope_dims(model)) dims += layer;
  Cells cells{requested(run), layer_rope_dims_text(model), cell(dims / model.num_layers),
              cell(dims / model.num_layers / model.head_dim())};
  for (const auto& name : listed_options(&ListPlaces::sweep)) cells.push_back(text_of(run, name));
  return joined(std::move(cells),
                {cell(int64_t{config.data.train_seq_len}), cell(config.data.train_batch_tokens), cell(int64_t{model.head_dim()}),
                 cell(int64_t{model.num_heads}), cell(int64_t{model.num_kv_heads}), cell(int64_t{model.num_layers}),
                 cell(model.parameter_count())});
}

Cells result_cells(const SummaryRun& run) {
  const RunFacts& facts = run.facts;
  double height = 0;
  int64_t recovery = 0, unrecovered = 0;
  for (const auto& spike : facts.spikes.spikes) {
    height = std::max(height, spike.height);
    recovery = std::max(recovery, static_cast<int64_t>(spike.recovery.value_or(0)));
    unrecovered += spike.recovery ? 0 : 1;
  }
  return {cell(facts.final_train_loss),
          cell(facts.final_val_loss),
          cell(facts.final_val_bpb),
          cell(facts.last_k_val_loss),
          cell(facts.last_k_val_bpb),
          cell(static_cast<int64_t>(facts.spikes.spikes.size())),
          cell(height),
          cell(recovery),
          cell(unrecovered),
          run.result.status() == RunStatus::diverged ? "1" : "0",
          cell(facts.max_grad_norm)};
}

}  // namespace

Table sweep_table(const Summary& summary) {
  std::vector<Table::Column> columns = {"schema_version", "run",       "arm",       "seed",           "status",
                                        "repeat",         "requested", "rope_dims", "mean_rope_dims", "fraction"};
  for (const auto& name : listed_options(&ListPlaces::sweep)) columns.emplace_back(lower_case(name));
  Table table(joined(std::move(columns), {"train_seq_len",
                                          "train_batch_tokens",
                                          "head_dim",
                                          "heads",
                                          "kv_heads",
                                          "layers",
                                          "parameters",
                                          "steps",
                                          "tokens",
                                          "program_version",
                                          "checkpoint",
                                          "final_train_loss",
                                          "final_val_loss",
                                          "final_val_bpb",
                                          "last_k_val_loss",
                                          "last_k_val_bpb",
                                          "spikes",
                                          "spike_height",
                                          "spike_recovery_steps",
                                          "spikes_unrecovered",
                                          "diverged",
                                          "max_grad_norm",
                                          "shift_max_change",
                                          "eval_seq_len",
                                          "length_tokens",
                                          "length_val_loss",
                                          "length_stderr",
                                          "length_val_bpb",
                                          "length_last_bucket_loss",
                                          "table_bytes",
                                          "table_bytes_computed",
                                          "kv_cache_bytes"}));
  for (const auto& run : summary.runs) {
    const RunResult& result = run.result;
    Cells front = joined({cell(int64_t{kSweepSchema}), result.name, summary.arms[run.arm].label, cell(result.seed()),
                          status_text(result.status()), run.repeat ? "1" : "0"},
                         settings_cells(result));
    front = joined(front, {cell(run.facts.steps), cell(run.facts.tokens), result.program_version,
                           result.finished ? RunFolder{result.name}.model().lexically_normal().string() : ""});
    front = joined(joined(front, result_cells(run)), {cell(result.shift_max_change)});
    if (result.lengths.empty()) table.add(joined(front, Cells(9)));
    for (const auto& length : result.lengths) {
      table.add(joined(front, {cell(length.seq_len), cell(length.tokens), cell(length.val_loss), cell(length.stderr_loss),
                               cell(length.val_bpb), cell(length.last_bucket_loss), cell(length.rope_table_bytes),
                               cell(length.rope_table_bytes_computed), cell(length.kv_cache_bytes)}));
    }
  }
  return table;
}

Table timing_table(const Summary& summary) {
  Table table(joined(kRunColumns, {"timed_steps", "step_ms_median", "step_ms_p10", "step_ms_p90", "tokens_per_second",
                                   "peak_allocated_bytes", "peak_reserved_bytes"}));
  for (const auto& run : summary.runs) {
    const RunFacts& facts = run.facts;
    std::optional<double> speed;
    if (facts.step_ms_median)
      speed = 1000.0 * static_cast<double>(run.result.command.config.data.train_batch_tokens) / *facts.step_ms_median;
    table.add(joined(run_cells(summary, run),
                     {cell(facts.timed_steps), cell(facts.step_ms_median), cell(facts.step_ms_p10), cell(facts.step_ms_p90),
                      cell(speed), cell(run.result.end.peak_allocated_bytes), cell(run.result.end.peak_reserved_bytes)}));
  }
  return table;
}

Table arms_table(const Summary& summary) {
  Table table({"arm",           "rotation",       "family",       "mean_rope_dims",  "head_dim",
               "full",          "plain",          "seeds",        "diverged",        "unfinished",
               "val_loss_mean", "val_loss_sd",    "val_loss_min", "val_loss_max",    "val_bpb_mean",
               "val_bpb_sd",    "baseline",       "pairs",        "loss_difference", "loss_low",
               "loss_high",     "bpb_difference", "bpb_low",      "bpb_high",        "verdict"});
  for (const Arm& arm : summary.arms) {
    const auto loss = summary.values(arm, &RunFacts::final_val_loss), bpb = summary.values(arm, &RunFacts::final_val_bpb);
    const bool compared = arm.loss_difference.pairs > 0;
    const auto known = [&](double value) { return compared ? cell(value) : std::string(); };
    table.add({arm.label,
               arm.rotation,
               arm.family,
               cell(arm.mean_rope_dims),
               cell(int64_t{arm.head_dim}),
               arm.full ? "1" : "0",
               arm.plain ? "1" : "0",
               cell(static_cast<int64_t>(arm.counted.size())),
               cell(int64_t{arm.diverged}),
               cell(int64_t{arm.unfinished}),
               cell(mean_of(loss)),
               cell(sample_deviation(loss)),
               cell(min_of(loss)),
               cell(max_of(loss)),
               cell(mean_of(bpb)),
               cell(sample_deviation(bpb)),
               arm.baseline ? summary.arms[*arm.baseline].label : "",
               cell(int64_t{arm.loss_difference.pairs}),
               known(arm.loss_difference.mean),
               cell(arm.loss_difference.low),
               cell(arm.loss_difference.high),
               known(arm.bpb_difference.mean),
               cell(arm.bpb_difference.low),
               cell(arm.bpb_difference.high),
               arm.is_baseline ? "baseline" : verdict_text(arm.verdict)});
  }
  return table;
}

Table lengths_table(const Summary& summary) {
  Table table({"arm", "rotation", "family", "arm_number", "train_seq_len", "eval_seq_len", "length_number", "seeds",
               "val_loss_mean", "val_loss_sd", "val_bpb_mean", "last_bucket_mean", "last_bucket_sd"});
  std::set<int64_t> lengths;
  for (const auto& run : summary.runs) {
    for (const auto& length : run.result.lengths) lengths.insert(length.seq_len);
  }
  for (size_t i = 0; i < summary.arms.size(); ++i) {
    const Arm& arm = summary.arms[i];
    int64_t number = 0;
    for (const int64_t seq_len : lengths) {
      std::vector<double> loss, bpb, last;
      for (const size_t r : arm.counted) {
        for (const auto& length : summary.runs[r].result.lengths) {
          if (length.seq_len != seq_len) continue;
          if (length.val_loss) loss.push_back(*length.val_loss);
          if (length.val_bpb) bpb.push_back(*length.val_bpb);
          if (length.last_bucket_loss) last.push_back(*length.last_bucket_loss);
        }
      }
      if (!loss.empty()) {
        table.add({arm.label, arm.rotation, arm.family, cell(static_cast<int64_t>(i)),
                   text_of(summary.runs[arm.runs.front()].result, "TRAIN_SEQ_LEN"), cell(seq_len), cell(number),
                   cell(static_cast<int64_t>(loss.size())), cell(mean(loss)), cell(sample_deviation(loss)), cell(mean_of(bpb)),
                   cell(mean_of(last)), cell(sample_deviation(last))});
      }
      ++number;
    }
  }
  return table;
}

Table positions_table(const Summary& summary) {
  Table table(joined(kRunColumns, {"seq_len", "from", "to", "loss", "tokens"}));
  for (const auto& run : summary.runs) {
    for (const auto& m : run.result.positions)
      table.add(joined(run_cells(summary, run), {cell(m.seq_len), cell(m.from), cell(m.to), cell(m.loss), cell(m.tokens)}));
  }
  return table;
}

Table retrieval_table(const Summary& summary) {
  Table table(joined(kRunColumns, {"task", "seq_len", "distance", "items", "accuracy", "stderr", "loss"}));
  for (const auto& run : summary.runs) {
    for (const auto& m : run.result.retrieval) {
      table.add(joined(run_cells(summary, run), {m.task, cell(m.seq_len), cell(m.distance), cell(m.items), cell(m.accuracy),
                                                 cell(m.stderr_accuracy), cell(m.loss)}));
    }
  }
  return table;
}

Table attention_table(const Summary& summary) {
  Table table(joined(kRunColumns, {"layer", "head", "distance", "entropy", "first_token", "previous_token", "rotated_share"}));
  for (const auto& run : summary.runs) {
    for (const auto& m : run.result.attention) {
      table.add(joined(run_cells(summary, run), {cell(m.layer), cell(m.head), cell(m.distance), cell(m.entropy),
                                                 cell(m.first_token), cell(m.previous_token), cell(m.rotated_share)}));
    }
  }
  return table;
}

Table memory_table(const Summary& summary) {
  Table table(
      {"arm", "arm_number", "rotation", "family", "seq_len", "table_bytes_computed", "table_bytes_measured", "kv_cache_bytes"});
  int64_t number = 0;
  for (const Arm& arm : summary.arms) {
    const ModelConfig& model = summary.runs[arm.runs.front()].result.command.config.model;
    std::map<int64_t, std::optional<int64_t>> lengths;  // -> measured
    for (int64_t length = 1024; length <= 1024 * 1024; length *= 2) lengths[length];
    for (const size_t r : arm.runs) {
      for (const auto& length : summary.runs[r].result.lengths) lengths[length.seq_len] = length.rope_table_bytes;
    }
    for (const auto& [length, measured] : lengths) {
      table.add({arm.label, cell(number), arm.rotation, arm.family, cell(length), cell(rope_table_bytes(model, length)),
                 cell(measured), cell(kv_cache_bytes(model, length))});
    }
    ++number;
  }
  return table;
}

Table trajectory_table(const SummaryRun& run) {
  Table table({"step", "tokens", "train_loss", "val_loss", "val_bpb", "grad_norm", "spike"});
  struct Row {
    std::optional<int64_t> tokens;
    std::optional<double> train, val, bpb, norm;
    bool spike = false;
  };
  std::map<int64_t, Row> rows;
  for (size_t i = 0; i < run.result.train.size(); ++i) {
    const TrainRecord& point = run.result.train[i];
    Row& row = rows[point.step];
    row = {point.tokens, point.train_loss, std::nullopt, std::nullopt, point.grad_norm, run.facts.spikes.marked[i]};
  }
  for (const auto& point : run.result.val) {
    Row& row = rows[point.step];
    if (!row.tokens) row.tokens = point.step * run.result.command.config.data.train_batch_tokens;
    row.val = point.val_loss;
    row.bpb = point.val_bpb;
  }
  for (const auto& [step, row] : rows) {
    table.add(
        {cell(step), cell(row.tokens), cell(row.train), cell(row.val), cell(row.bpb), cell(row.norm), row.spike ? "1" : "0"});
  }
  return table;
}

}  // namespace pgolf
