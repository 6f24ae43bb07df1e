#include "report_measures.h"

#include <array>
#include <functional>
#include <map>
#include <set>

#include "decimals.h"
#include "pgolf/base/table.h"
#include "pgolf/config/cache_size.h"

namespace pgolf {
namespace {

using Cells = std::vector<std::string>;

/// Arms down, columns across; a cell is the mean (± deviation) over the arm's seeds.
template <class Column>
class ArmGrid {
 public:
  void add(size_t arm, const Column& column, const std::optional<double>& value) {
    if (value) values_[arm][column].push_back(*value);
    columns_.insert(column);
  }
  bool empty() const { return values_.empty(); }

  std::string text(const Summary& summary, const std::function<std::string(const Column&)>& title, int places) const {
    std::vector<Table::Column> head{"arm"};
    for (const auto& column : columns_) head.push_back(title(column));
    Table table(std::move(head));
    for (const auto& [arm, row] : values_) {
      Cells cells{summary.arms[arm].label};
      for (const auto& column : columns_) {
        const auto found = row.find(column);
        cells.push_back(found == row.end() ? "" : mean_and_deviation(found->second, places));
      }
      table.add(std::move(cells));
    }
    return table.markdown();
  }

 private:
  std::map<size_t, std::map<Column, std::vector<double>>> values_;
  std::set<Column> columns_;
};

void for_each_counted(const Summary& summary, const std::function<void(size_t arm, const SummaryRun&)>& use) {
  for (size_t arm = 0; arm < summary.arms.size(); ++arm) {
    for (const size_t run : summary.arms[arm].counted) use(arm, summary.runs[run]);
  }
}

std::string number_text(const int64_t& value) {
  return with_commas(value);
}

std::string bytes_text(int64_t bytes) {
  return bytes == 0 ? "0" : human_bytes(static_cast<double>(bytes));
}

}  // namespace

std::string report_lengths(const Summary& summary) {
  ArmGrid<int64_t> whole, last;
  for_each_counted(summary, [&](size_t arm, const SummaryRun& run) {
    for (const auto& length : run.result.lengths) {
      whole.add(arm, length.seq_len, length.val_loss);
      last.add(arm, length.seq_len, length.last_bucket_loss);
    }
  });
  if (whole.empty()) return {};
  return "\n## Other lengths\n\nValidation loss by window length in tokens, without RoPE scaling unless an arm has it. Longer "
         "windows "
         "also give more context, so compare arms within a column.\n\n" +
         whole.text(summary, number_text, 4) +
         "\nOnly the last bucket of positions; training never saw those of the longer windows:\n\n" +
         last.text(summary, number_text, 4);
}

std::string report_positions(const Summary& summary) {
  ArmGrid<std::pair<int64_t, int64_t>> grid;
  for_each_counted(summary, [&](size_t arm, const SummaryRun& run) {
    for (const auto& m : run.result.positions) {
      if (m.seq_len == run.result.command.config.data.train_seq_len) grid.add(arm, {m.from, m.to}, m.loss);
    }
  });
  if (grid.empty()) return {};
  return "\n## By position\n\nMean loss of targets whose position in the window is in [from, to), at the training "
         "length.\n\n" +
         grid.text(
             summary,
             [](const std::pair<int64_t, int64_t>& bucket) {
               return format("[%s, %s)", with_commas(bucket.first).c_str(), with_commas(bucket.second).c_str());
             },
             4);
}

std::string report_retrieval(const Summary& summary) {
  std::map<std::pair<std::string, int64_t>, ArmGrid<int64_t>> grids;
  for_each_counted(summary, [&](size_t arm, const SummaryRun& run) {
    for (const auto& m : run.result.retrieval) grids[{m.task, m.seq_len}].add(arm, m.distance, m.accuracy);
  });
  if (grids.empty()) return {};
  std::string out =
      "\n## Retrieval\n\nAccuracy on the scored tokens of synthetic items, by the distance in tokens to the answer. "
      "Standard errors are in retrieval.csv; differences below two of them mean nothing.\n";
  for (const auto& [key, grid] : grids) {
    out += format("\n%s, in up to %s tokens:\n\n", key.first.c_str(), with_commas(key.second).c_str()) +
           grid.text(summary, number_text, 3);
  }
  return out;
}

std::string report_attention(const Summary& summary) {
  ArmGrid<int> grid;
  for_each_counted(summary, [&](size_t arm, const SummaryRun& run) {
    const std::optional<double> HeadMeasure::*facts[] = {&HeadMeasure::distance, &HeadMeasure::entropy, &HeadMeasure::first_token,
                                                         &HeadMeasure::previous_token, &HeadMeasure::rotated_share};
    for (int i = 0; i < 5; ++i) {
      std::vector<double> values;
      for (const auto& head : run.result.attention) {
        if (head.*facts[i]) values.push_back(*(head.*facts[i]));
      }
      if (!values.empty()) grid.add(arm, i, mean(values));
    }
  });
  if (grid.empty()) return {};
  return "\n## Attention\n\nMeans over heads and layers (per head: attention.csv).\n\n" +
         grid.text(
             summary,
             [](const int& column) {
               return std::string(std::array{"distance, tokens", "entropy, nats", "weight on the first token",
                                             "weight on the previous token",
                                             "rotated share of the logit"}[static_cast<size_t>(column)]);
             },
             3);
}

std::string report_memory(const Summary& summary) {
  constexpr int64_t lengths[] = {1024, 8192, 65'536, 1'048'576};
  std::vector<Table::Column> head{"arm"};
  for (const int64_t length : lengths) head.push_back("table at " + with_commas(length));
  for (const int64_t length : lengths) head.push_back("KV cache at " + with_commas(length));
  head.insert(head.end(), {"measured", "parameters"});
  Table table(std::move(head));
  for (const Arm& arm : summary.arms) {
    const RunResult& run = summary.runs[arm.runs.front()].result;
    const ModelConfig& model = run.command.config.model;
    Cells cells{arm.label};
    for (const int64_t length : lengths) cells.push_back(bytes_text(rope_table_bytes(model, length)));
    for (const int64_t length : lengths) cells.push_back(bytes_text(kv_cache_bytes(model, length)));
    std::string measured;
    if (!run.lengths.empty() && run.lengths.back().rope_table_bytes) {
      const auto& longest = run.lengths.back();
      measured = format("%s at %s", bytes_text(*longest.rope_table_bytes).c_str(), with_commas(longest.seq_len).c_str());
      if (longest.rope_table_bytes_computed && *longest.rope_table_bytes_computed != *longest.rope_table_bytes)
        measured += format(" (eval_gpt computes %s)", bytes_text(*longest.rope_table_bytes_computed).c_str());
    }
    cells.insert(cells.end(), {measured, with_commas(model.parameter_count())});
    table.add(std::move(cells));
  }
  return "\n## Memory\n\nComputed bytes of the cos/sin tables (float32, shared by layers with equal rotation) and of the keys "
         "and values of one sequence in bfloat16; \"measured\" is the size of the tables that eval_gpt held at its longest "
         "window. Rotating fewer dims makes only the tables smaller, proportionally for ROPE_SELECT=prefix; parameters and KV "
         "cache stay the same.\n\n" +
         table.markdown();
}

std::string report_times(const Summary& summary) {
  Table table({"arm", "median", "p10", "p90", "tokens/s", "peak memory"});
  for (const Arm& arm : summary.arms) {
    std::vector<double> median, p10, p90;
    std::optional<double> peak;
    for (const size_t r : arm.counted) {
      const auto& run = summary.runs[r];
      if (run.result.end.peak_allocated_bytes)
        peak = std::max(peak.value_or(0), static_cast<double>(*run.result.end.peak_allocated_bytes));
      if (!run.facts.step_ms_median) continue;
      median.push_back(*run.facts.step_ms_median);
      p10.push_back(*run.facts.step_ms_p10);
      p90.push_back(*run.facts.step_ms_p90);
    }
    if (median.empty()) continue;
    const auto tokens = static_cast<double>(summary.runs[arm.runs.front()].result.command.config.data.train_batch_tokens);
    const double step = quantile(median, 0.5);
    table.add({arm.label, decimals(step, 2), decimals(quantile(p10, 0.5), 2), decimals(quantile(p90, 0.5), 2),
               with_commas(static_cast<int64_t>(1000 * tokens / step)), peak ? human_bytes(*peak) : ""});
  }
  if (table.empty()) return {};
  return "\n## Step time\n\nMilliseconds per training step after the first steps: median, 10th and 90th percentile of each run, "
         "then the median over seeds. Runs that shared a machine slowed each other down, so small differences mean nothing.\n\n" +
         table.markdown();
}

}  // namespace pgolf
