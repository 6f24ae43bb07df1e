// sweep_gpt: trains every combination of option values, measures the models and reports the differences.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "pgolf/base/cores.h"
#include "pgolf/base/error.h"
#include "pgolf/base/files.h"
#include "pgolf/base/format.h"
#include "pgolf/base/log.h"
#include "pgolf/base/text.h"
#include "pgolf/config/evaluation_lengths.h"
#include "pgolf/config/parse.h"
#include "pgolf/study/collect.h"
#include "pgolf/study/plan.h"
#include "pgolf/study/runner.h"
#include "pgolf/study/values.h"

using namespace pgolf;

namespace {

namespace fs = std::filesystem;

constexpr const char* kOwnFolder = "OUT_DIR";  // --collect without a value

struct Command {
  std::string out_dir = "runs/sweep", train_gpt, eval_gpt, only = "all", collect;
  std::vector<std::string> eval_seq_lens{"0.5x", "1x", "2x", "4x"};
  int jobs = 0;
  std::vector<std::string> devices;
  bool measure = true, list = false, help = false;
};

OptionTable own_table(Command& command) {
  OptionTable table(
      "sweep_gpt [--TRAIN-OPTION VALUES]... [--OPTION VALUE]... [-- TRAIN_GPT_OPTIONS...]",
      "Trains a model for every combination of the given values, each in its own train_gpt process, measures it with\n"
      "eval_gpt, and writes sweep.csv, report.md and plots. Running it again resumes the sweep; new combinations are added.\n"
      "\n"
      "  sweep_gpt --rope-dims none,2,6,16,32,48,full --seed 1..3 -- --config configs/study_sequential.env\n"
      "\n"
      "Before --: any option of train_gpt with a list a,b,c (a;b;c if values may contain commas, as in --rope-layers) or a\n"
      "range 1..5 or 0.1..0.5:0.2. After --: options of every run. train_gpt --help lists the options.");
  table.add_action(
      {.name = "list", .field = &command.list, .help = "Print the commands, numbered from 0 as for --only, and exit."});
  table.add_action({.name = "collect",
                    .field = &command.collect,
                    .help =
                        "Train nothing; read all runs in or below a folder (default: OUT_DIR), however they were started, and "
                        "write tables, report and plots there.",
                    .label = "DIR",
                    .implied = kOwnFolder});
  table.add_action({.name = "help", .field = &command.help, .help = "Print this help and exit.", .stops = true});
  table.group("Sweep");
  table.add("OUT_DIR", bind::text(&command.out_dir), "", "Folder for runs, tables, report and plots.");
  table.add("JOBS", bind::integer(&command.jobs, 0, 1024), "runs",
            "Concurrent runs; 0: one per device of --devices, else 1. On the CPU they share the cores equally unless NUM_THREADS "
            "is set.");
  table.add("DEVICES", bind::list(&command.devices), "", "CUDA_VISIBLE_DEVICES of the jobs, assigned in turn, such as 0,1.");
  table.add("ONLY", bind::text(&command.only), "", "Run only the command with this number in --list, as in a Slurm array task.");
  table.add("MEASURE", bind::boolean(&command.measure), "", "Measure every model with eval_gpt after training.");
  table.add("EVAL_SEQ_LENS", bind::list(&command.eval_seq_lens), "tokens",
            "Window lengths of eval_gpt measure; 2x is twice the training length.");
  Binding train = bind::text(&command.train_gpt), eval = bind::text(&command.eval_gpt);
  train.default_text = eval.default_text = "next to sweep_gpt";
  table.add("TRAIN_GPT", train, "", "Path of train_gpt.");
  table.add("EVAL_GPT", eval, "", "Path of eval_gpt.");
  return table;
}

/// own_table and every option of train_gpt as text.
OptionTable full_table(Command& command, std::map<std::string, std::string>& values) {
  OptionTable table = own_table(command);
  const char* argv[] = {"train_gpt"};
  for (const auto& option : resolve_train_command(1, argv, {}).resolved) {
    if (option.name == "OUT_DIR") continue;
    Binding binding = bind::text(&values[option.name]);
    binding.default_text.clear();
    table.add(option.name, binding, "", "");
  }
  return table;
}

fs::path program(const std::string& given, const char* name) {
  const fs::path path = given.empty() ? program_folder() / name : fs::absolute(given);
  if (!fs::is_regular_file(path) || ::access(path.c_str(), X_OK) != 0) {
    throw Error(ExitCode::unavailable, format("no executable %s", path.c_str()),
                format("give its path: --%s-gpt PATH", std::string(name, 0, 5) == "train" ? "train" : "eval"));
  }
  return path;
}

/// NUM_THREADS to set for every run; 0 if the sweep need not set it.
int thread_share(const Command& command, const SweepRequest& request, const Environment& environment) {
  const auto sets_threads = [](const std::string& word) { return word == "--num-threads" || word.starts_with("--num-threads="); };
  const bool varied =
      std::any_of(request.varied.begin(), request.varied.end(), [](const auto& axis) { return axis.first == "NUM_THREADS"; });
  if (command.jobs <= 1 || !command.devices.empty() || varied || environment.contains("NUM_THREADS") ||
      std::any_of(request.fixed.begin(), request.fixed.end(), sets_threads)) {
    return 0;
  }
  // A config file may set it too. Some fixed options are valid only with the varied ones.
  std::vector<std::string> words{"train_gpt"};
  words.insert(words.end(), request.fixed.begin(), request.fixed.end());
  for (const auto& [name, values] : request.varied) words.insert(words.end(), {flag_of(name), values.front()});
  std::vector<const char*> argv;
  for (const auto& word : words) argv.push_back(word.c_str());
  const auto probe = resolve_train_command(static_cast<int>(argv.size()), argv.data(), environment);
  if (!probe.resolved.empty() && probe.config.runtime.num_threads > 0) return 0;
  return std::max(1, usable_physical_cores() / command.jobs);
}

/// Environment variables that affect the runs, as the prefix of a command line.
std::string environment_words(const SweepPlan& plan) {
  std::string words;
  if (plan.runs.empty()) return words;
  for (const auto& option : plan.runs.front().command.resolved) {
    if (option.source == Source::environment) words += option.name + "=" + shell_quoted(option.text) + " ";
  }
  return words;
}

/// Refuses options of sweep_gpt after --.
void check_sides(const std::vector<std::string>& fixed) {
  Command unused;
  const char* argv[] = {"sweep_gpt"};
  std::vector<std::string> flags{"--list", "--collect"};
  for (const auto& option : own_table(unused).resolve(1, argv, {}).options) {
    if (option.name != "OUT_DIR") flags.push_back(flag_of(option.name));
  }
  for (const auto& word : fixed) {
    const std::string flag = word.substr(0, word.find('='));
    if (std::find(flags.begin(), flags.end(), flag) != flags.end())
      throw Error(ExitCode::usage, flag + " is an option of sweep_gpt, but was given after --",
                  "options of sweep_gpt go before --");
  }
}

ExitCode run(int argc, char** argv) {
  const int own = static_cast<int>(std::find(argv, argv + argc, std::string_view("--")) - argv);
  Command command;
  std::map<std::string, std::string> values;
  const Environment environment = read_environment(environ);
  if (std::any_of(argv, argv + own, [](std::string_view word) { return word == "--config" || word.starts_with("--config="); }))
    throw Error(ExitCode::usage, "unknown flag --config before --", "options of every run go after --: ... -- --config FILE");
  const Resolution given = full_table(command, values).resolve(own, argv, {});
  if (command.help) {
    std::fputs(own_table(command).help().c_str(), stdout);
    return ExitCode::ok;
  }
  SweepRequest request;
  for (int i = own + 1; i < argc; ++i) request.fixed.emplace_back(argv[i]);
  check_sides(request.fixed);
  for (const auto& option : given.options) {
    const auto value = values.find(option.name);
    if (value != values.end() && option.source == Source::flag) {
      if (option.name == "RUN_ID") throw Error(ExitCode::usage, "--run-id: sweep_gpt names the runs");
      request.varied.emplace_back(option.name, expand_values(option.name, value->second));
    }
  }
  if (!command.collect.empty()) {
    if (!request.varied.empty() || !request.fixed.empty())
      throw Error(ExitCode::usage, "--collect trains nothing and takes no options of train_gpt", "remove them");
    collect(command.collect == kOwnFolder ? command.out_dir : command.collect);
    return ExitCode::ok;
  }
  if (request.varied.empty()) {
    throw Error(ExitCode::usage, "nothing to sweep: no option of train_gpt before --",
                "for example: sweep_gpt --rope-dims none,16,full --seed 1..3 -- --config configs/tiny.env");
  }
  if (command.jobs == 0) command.jobs = std::max<int>(1, static_cast<int>(command.devices.size()));
  request.out_dir = command.out_dir;
  request.threads = thread_share(command, request, environment);
  SweepPlan plan = plan_sweep(request, environment);
  if (command.measure) {
    for (const auto& run : plan.runs)  // an error now rather than after the first training
      evaluation_lengths(command.eval_seq_lens, run.command.config.data.train_seq_len);
  }
  for (const auto& warning : plan.warnings) log::warn(warning);
  RunnerOptions options{.train_gpt = program(command.train_gpt, "train_gpt"),
                        .eval_gpt = command.measure ? program(command.eval_gpt, "eval_gpt") : fs::path(),
                        .jobs = command.jobs,
                        .devices = command.devices,
                        .measure = command.measure,
                        .eval_seq_lens = command.eval_seq_lens};
  if (command.list) {
    for (size_t i = 0; i < plan.runs.size(); ++i)
      std::printf("%zu\t%s\n", i, shell_line(train_command(options, plan.runs[i])).c_str());
    return ExitCode::ok;
  }
  const SweepFolder folder{command.out_dir};
  const bool whole = command.only == "all";
  if (!whole) {
    const auto number = parse_integer(command.only);
    if (!number || *number < 0 || *number >= static_cast<int64_t>(plan.runs.size()))
      throw Error(ExitCode::usage,
                  format("--only %s: runs are numbered 0 to %zu", printable(command.only).c_str(), plan.runs.size() - 1),
                  "--list shows them");
    plan.runs = {plan.runs[static_cast<size_t>(*number)]};
    options.jobs = 1;
  }
  folder.create();
  if (whole) folder.lock();
  for (const auto& note : plan.notes) log::info(note);
  log::info(format("%zu runs in %s, %d at a time%s", plan.runs.size(), command.out_dir.c_str(), options.jobs,
                   request.threads > 0 ? format(", %d threads each", request.threads).c_str() : ""));
  if (whole) note_call(folder, environment_words(plan) + "sweep_gpt " + shell_line({argv + 1, argv + argc}));
  for (const auto& planned : plan.runs) note_plan(folder, plan, planned);
  const auto [code, failed] = run_sweep(plan.runs, folder, options);
  if (whole && code != ExitCode::interrupted) {
    try {
      collect(folder.path);
    } catch (const Error& e) {
      if (code == ExitCode::ok) throw;
      log::warn(e.what());  // the exit code is that of the first failed run
    }
  }
  if (failed > 0 && code != ExitCode::interrupted)
    throw Error(code, format("%zu of %zu runs failed", failed, plan.runs.size()), "the same command runs them again");
  return code;
}

}  // namespace

int main(int argc, char** argv) {
  return end_program(run_main([&] { return run(argc, argv); }));
}
