// The options of a model, one entry each. Command lines, stored configurations, what is assumed of files without one, logs and
// tables of results are made from these entries.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "pgolf/config/options.h"
#include "pgolf/config/rope_options.h"
#include "pgolf/config/run_config.h"

namespace pgolf {

/// Whether the configuration stored with a model says an option.
enum class Stored {
  never,           ///< how training begins, not what the model is
  in_other_words,  ///< another option says the same
  in_newer_files,  ///< there are files of before this option
  always,
};

/// Where an option stands, from 1 on, in lists that are known by their order; 0: not in that list.
struct ListPlaces {
  int assumed = 0;  ///< what is assumed of a file without a configuration
  int log = 0;      ///< "shape:" in a run's log
  int sweep = 0;    ///< columns of sweep.csv; a change of them is another kSweepSchema
};

struct ModelOption {
  std::string name;
  Binding value;
  std::string unit = {}, help = {};
  Stored stored = Stored::in_newer_files;
  std::string unsaid = {};                         ///< the value in models whose files do not say it
  bool shown = false;                              ///< names and sizes of a model's tensors show the value
  bool (*shown_by)(const ModelConfig&) = nullptr;  ///< or do so in such models
  ListPlaces places = {};
  std::optional<Binding> in_files = {};  ///< instead of value, if models may be larger than those that can be trained

  /// Whether one must say it of a model whose file does not.
  bool may_be_unsaid() const { return !shown && stored != Stored::never; }
};

std::vector<ModelOption> shape_options(ModelConfig* model);
std::vector<ModelOption> rotary_options(ModelConfig* model, RopeRequest* request);

/// Names of the options in a list, in its order.
std::vector<std::string> listed_options(int ListPlaces::*list);

/// "MLP_KIND=relu2 PARALLEL_BLOCK=0 ...": what makes a block, for a run's log.
std::string shape_summary(const std::vector<ResolvedOption>& options);

/// Error(usage) for an option that has no effect on this shape.
void check_shape(const ModelConfig& model, const std::vector<ResolvedOption>& options);

}  // namespace pgolf
