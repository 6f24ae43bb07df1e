// The options of train_gpt: command line, environment and config files -> one RunConfig.
// Every variable that upstream reads has the same name and default here, RUN_ID's default excepted.
#pragma once

#include <string>
#include <vector>

#include "pgolf/config/options.h"
#include "pgolf/config/run_config.h"

namespace pgolf {

struct TrainCommand {
  RunConfig config;
  std::vector<ResolvedOption> resolved;
  std::vector<std::string> warnings;
  bool help = false;  ///< with help, help_markdown or version, config is not resolved
  bool version = false;
  bool help_markdown = false;
  bool print_config = false;
  bool dry_run = false;
  std::string resume;  ///< empty: a new run; "auto": the newest checkpoint of RUN_ID or of OUT_DIR; else a path
  /// Whether it prints or writes something instead of training.
  bool stops() const { return help || version || help_markdown || print_config || dry_run || !write_source.empty(); }
  std::string write_source;  ///< not empty: where to write the embedded source bundle
};

/// Resolves, checks each value and their combinations. Error(usage) names the options at fault with their values and
/// origins. Does not check whether paths exist.
TrainCommand resolve_train_command(int argc, const char* const* argv, const Environment& environment,
                                   const Overrides& overrides = {});

/// A step must consist of this many micro-steps of whole sequences. resolve_train_command() has checked it for kMicroSteps, but
/// not with GRAD_ACCUM_STEPS, where the number depends on the job. Error(usage) as above.
void require_micro_steps(const DataConfig& data, int micro_steps, const std::vector<ResolvedOption>& options);

std::string train_help();
std::string train_options_markdown();

/// UTC time as YYYYmmdd-HHMMSS, a dash, and six hexadecimal digits of a hash over the options, the process and the clock.
/// Every call gives a new one, so that a program whose run folder already exists can retry.
std::string make_run_id(const std::vector<ResolvedOption>& options);

}  // namespace pgolf
