#include "pgolf/study/plots.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <set>

#include "pgolf/base/error.h"
#include "pgolf/base/files.h"
#include "pgolf/base/format.h"
#include "pgolf/base/log.h"
#include "pgolf/base/text.h"
#include "pgolf/study/process.h"
#include "pgolf/study/tables.h"

namespace pgolf {
namespace {

namespace fs = std::filesystem;

/// A gnuplot string.
std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) out += (c == '"' || c == '\\') ? std::string("\\") + c : std::string(1, c);
  return out + "\"";
}

/// entries: number of legend entries, shown below the plot in two columns.
std::string preamble(const std::string& name, size_t entries) {
  const size_t height = 520 + 20 * ((entries + 1) / 2);
  return "if (!exists(\"picture\")) picture = \"png\"\n" +
         format(
             "if (picture eq \"svg\") { set terminal svg size 900,%zu noenhanced background \"white\" } else { set terminal "
             "pngcairo size 900,%zu noenhanced }\n",
             height, height) +
         "set output \"" + name +
         ".\" . picture\n"
         "set datafile separator comma\n"
         "set datafile missing NaN\n"
         "set grid\nset key below width 2 height 1.5\n";
}

std::string plot_command(const std::vector<std::string>& parts) {
  std::string out = "plot ";
  for (size_t i = 0; i < parts.size(); ++i) out += (i == 0 ? "" : ", \\\n     ") + parts[i];
  return out + "\n";
}

std::vector<std::string> families(const Summary& summary) {
  std::set<std::string> names;
  for (const auto& arm : summary.arms) names.insert(arm.family);
  return {names.begin(), names.end()};
}

std::string title_of(const std::string& family, const std::string& fallback) {
  return quoted(family.empty() ? fallback : family);
}

std::string loss_script(const Summary& summary) {
  const Table table = arms_table(summary);
  const auto column = [&](const char* name) { return table.column(name); };
  std::string out =
      preamble("loss", families(summary).size()) +
      "set xlabel \"rotated dims per head (mean over layers)\"\nset ylabel \"final validation loss, nats per token\"\n"
      "set offsets graph 0.05, graph 0.05, graph 0.05, graph 0.05\n";
  std::vector<std::string> parts;
  int color = 0;
  for (const auto& family : families(summary)) {
    ++color;
    const std::string here = format("strcol(%d) eq %s", column("family"), quoted(family).c_str());
    const bool full = std::any_of(summary.arms.begin(), summary.arms.end(), [&](const Arm& arm) {
      return arm.family == family && arm.full && arm.plain && !arm.counted.empty();
    });
    if (full) {
      const std::string only = format("%s && $%d == 1 && $%d == 1", here.c_str(), column("full"), column("plain"));
      out += format("stats \"../arms.csv\" skip 1 using ((%s) ? $%d : NaN) name \"low\" nooutput\n", only.c_str(),
                    column("val_loss_min"));
      out += format("stats \"../arms.csv\" skip 1 using ((%s) ? $%d : NaN) name \"high\" nooutput\n", only.c_str(),
                    column("val_loss_max"));
      out += format(
          "set object rectangle from graph 0, first low_min to graph 1, first high_max behind fillcolor linetype %d "
          "fillstyle transparent solid 0.15 noborder\n",
          color);
    }
    const std::string bars = format("%d:%d:%d", column("val_loss_mean"), column("val_loss_min"), column("val_loss_max"));
    parts.push_back(
        format("\"../arms.csv\" skip 1 using ((%s && $%d == 1) ? $%d : NaN):%s with yerrorlines lt %d lw 2 pt 7 title %s",
               here.c_str(), column("plain"), column("mean_rope_dims"), bars.c_str(), color,
               title_of(family, "mean, smallest and largest over seeds").c_str()));
    const bool others = std::any_of(summary.arms.begin(), summary.arms.end(),
                                    [&](const Arm& arm) { return arm.family == family && !arm.plain && !arm.counted.empty(); });
    if (!others) continue;
    const std::string x = format("((%s && $%d == 0) ? $%d : NaN)", here.c_str(), column("plain"), column("mean_rope_dims"));
    parts.push_back(
        format("\"../arms.csv\" skip 1 using %s:%s with yerrorbars lt %d lw 2 pt 4 notitle", x.c_str(), bars.c_str(), color));
    parts.push_back(format("\"../arms.csv\" skip 1 using %s:%d:%d with labels left offset 1,0.7 notitle", x.c_str(),
                           column("val_loss_mean"), column("rotation")));
  }
  return out + "set title \"final loss; band: range of full's seeds\"\n" + plot_command(parts);
}

std::string trajectory_script(const Summary& summary) {
  std::vector<std::string> parts;
  int color = 0;
  for (const auto& arm : summary.arms) {
    ++color;
    const auto run =
        std::find_if(arm.runs.begin(), arm.runs.end(), [&](size_t r) { return !summary.runs[r].result.train.empty(); });
    if (run == arm.runs.end()) continue;
    const auto& shown = summary.runs[*run];
    const Table table = trajectory_table(shown);
    const std::string file = quoted((fs::path("..") / shown.result.name / "trajectory.csv").lexically_normal().string());
    const int step = table.column("step"), loss = table.column("train_loss");
    parts.push_back(
        format("%s skip 1 using %d:%d with lines lt %d title %s", file.c_str(), step, loss, color,
               quoted(format("%s, seed %lld", arm.label.c_str(), static_cast<long long>(shown.result.seed()))).c_str()));
    parts.push_back(format("%s skip 1 using ($%d == 1 ? $%d : NaN):%d with points lt %d pt 6 ps 1.5 notitle", file.c_str(),
                           table.column("spike"), step, loss, color));
  }
  if (parts.empty()) return {};
  return preamble("trajectory", parts.size() / 2) +
         "set xlabel \"step\"\nset ylabel \"training loss, nats per token\"\nset title \"training loss of one seed per arm; "
         "circles: spikes\"\n" +
         plot_command(parts);
}

std::string positions_script(const Summary& summary) {
  const Table table = positions_table(summary);
  if (table.empty()) return {};
  std::vector<std::string> parts;
  // By number: gnuplot cuts quoted texts with commas, such as "full*3,none".
  for (size_t number = 0; number < summary.arms.size(); ++number) {
    const Arm& arm = summary.arms[number];
    if (arm.counted.empty()) continue;
    const auto length = summary.runs[arm.counted.front()].result.command.config.data.train_seq_len;
    parts.push_back(format(
        "\"../positions.csv\" skip 1 using (($%d == %zu && $%d == 1 && $%d == %d) ? ($%d + $%d + 1) / 2.0 : NaN):%d smooth "
        "unique with linespoints title %s",
        table.column("arm_number"), number, table.column("counted"), table.column("seq_len"), length, table.column("from"),
        table.column("to"), table.column("loss"), quoted(arm.label).c_str()));
  }
  if (parts.empty()) return {};
  return preamble("positions", parts.size()) +
         "set logscale x 2\nset xlabel \"position of the target in the window, tokens\"\nset ylabel \"loss, nats per token\"\n"
         "set title \"loss by position at the training length, mean over seeds\"\n" +
         plot_command(parts);
}

std::string lengths_script(const Summary& summary, const std::string& name, const std::string& value, const std::string& title) {
  const Table table = lengths_table(summary);
  if (table.empty()) return {};
  const int x = table.column("length_number"), y = table.column("arm_number"), z = table.column(value);
  return preamble(name, 0) + "unset key\nunset grid\nset xlabel \"evaluation length, tokens\"\nset title " + quoted(title) +
         "\nset style fill solid 1 noborder\nset palette defined (0 \"#f7fbff\", 1 "
         "\"#4292c6\")\n" +
         plot_command({format("\"../lengths.csv\" skip 1 using %d:%d:(0.5):(0.5):%d:xtic(%d):ytic(%d) with boxxyerror palette", x,
                              y, z, table.column("eval_seq_len"), table.column("arm")),
                       format("\"../lengths.csv\" skip 1 using %d:%d:(sprintf(\"%%.3f\", $%d)) with labels", x, y, z)});
}

std::string memory_script(const Summary& summary) {
  const Table table = memory_table(summary);
  const int arm_column = table.column("arm_number"), length = table.column("seq_len");
  std::vector<std::string> parts;
  int color = 0;
  for (const auto& arm : summary.arms) {
    const int number = color++;
    if (rotates_nowhere(summary.runs[arm.runs.front()].result.command.config.model))
      continue;  // 0 bytes cannot be drawn on a logarithmic axis
    const std::string x = format("($%d == %d ? $%d : NaN)", arm_column, number, length);
    parts.push_back(format("\"../memory.csv\" skip 1 using %s:%d with lines lt %d lw 2 title %s", x.c_str(),
                           table.column("table_bytes_computed"), color, quoted("cos/sin tables, " + arm.label).c_str()));
    const bool measured =
        std::any_of(arm.runs.begin(), arm.runs.end(), [&](size_t r) { return !summary.runs[r].result.lengths.empty(); });
    if (measured)
      parts.push_back(format("\"../memory.csv\" skip 1 using %s:%d with points lt %d pt 7 notitle", x.c_str(),
                             table.column("table_bytes_measured"), color));
  }
  parts.push_back(
      format("\"../memory.csv\" skip 1 using ($%d == 0 ? $%d : NaN):%d with lines lc \"black\" dashtype 2 lw 2 title "
             "\"KV cache of one sequence\"",
             arm_column, length, table.column("kv_cache_bytes")));
  return preamble("memory", summary.arms.size() + 1) +
         "set logscale xy 2\nset format x \"%.0b%B\"\nset format y \"%.0b %BB\"\nset xlabel \"tokens\"\nset ylabel \"bytes\"\n"
         "set title \"bytes of tables, computed (points: measured), and of the KV cache\"\n" +
         plot_command(parts);
}

fs::path find_gnuplot() {
  const char* path = std::getenv("PATH");
  for (const auto& folder : split(path == nullptr ? "" : path, ':')) {
    const fs::path program = fs::path(folder) / "gnuplot";
    if (!folder.empty() && ::access(program.c_str(), X_OK) == 0) return fs::absolute(program);
  }
  return {};
}

}  // namespace

std::map<std::string, std::string> plot_scripts(const Summary& summary) {
  std::map<std::string, std::string> scripts;
  const bool losses = std::any_of(summary.arms.begin(), summary.arms.end(), [](const Arm& arm) { return !arm.counted.empty(); });
  if (losses) scripts["loss"] = loss_script(summary);
  scripts["trajectory"] = trajectory_script(summary);
  scripts["positions"] = positions_script(summary);
  scripts["lengths"] = lengths_script(summary, "lengths", "val_loss_mean", "validation loss by evaluation length");
  scripts["lengths_last"] = lengths_script(summary, "lengths_last", "last_bucket_mean",
                                           "validation loss in the last bucket of positions by evaluation length");
  scripts["memory"] = memory_script(summary);
  std::erase_if(scripts, [](const auto& entry) { return entry.second.empty(); });
  return scripts;
}

std::vector<std::string> draw_plots(const Summary& summary, const fs::path& folder) {
  const fs::path plots = fs::absolute(folder / "plots"), log = plots / "gnuplot.log";
  create_folders(plots);
  const auto scripts = plot_scripts(summary);
  for (const auto& [name, script] : scripts) write_atomic(plots / (name + ".gp"), script);
  const fs::path gnuplot = find_gnuplot();
  if (gnuplot.empty()) {
    log::info(format("no plots: gnuplot is not installed (the scripts are in %s)", plots.c_str()));
    return {};
  }
  std::string folder_text;
  for (const char c : plots.string()) folder_text += c == '\'' ? std::string("''") : std::string(1, c);
  std::error_code error;
  fs::remove(log, error);
  for (const auto& [name, script] : scripts) {
    for (const std::string picture : {"png", "svg"}) {
      const pid_t pid = start_process(
          {gnuplot.string(), "-e", "cd '" + folder_text + "'; picture = \"" + picture + "\"", (plots / (name + ".gp")).string()},
          {}, log);
      int status = 0;
      ::waitpid(pid, &status, 0);
      if (status != 0) {
        log::warn(format("gnuplot could not draw %s.gp; see %s", (plots / name).c_str(), log.c_str()));
        return {};
      }
    }
  }
  fs::remove(log, error);
  std::vector<std::string> names;
  for (const auto& entry : scripts) names.push_back(entry.first);
  return names;
}

}  // namespace pgolf
