// The model options, one entry each. Command lines, stored configurations, assumptions about files without one, logs and result
// tables are generated from these entries.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "pgolf/config/options.h"
#include "pgolf/config/rope_options.h"
#include "pgolf/config/run_config.h"

namespace pgolf {

/// Whether the configuration stored with a model contains an option.
enum class Stored {
  never,              ///< affects initialization, not the model
  as_another_option,  ///< stored as the value of another option
  if_not_default,     ///< only if it is not default_in_files: files of models without it keep their bytes
  in_newer_files,     ///< files from before this option lack it
  always,
};

/// Position of an option, from 1, in lists whose order is fixed; 0: not in the list.
struct ListPlaces {
  int assumed = 0;  ///< assumptions about a file without a configuration
  int log = 0;      ///< "shape:" in the log of a run
  int sweep = 0;    ///< columns of sweep.csv; changing them needs a new kSweepSchema
};

struct ModelOption {
  std::string name;
  Binding value;
  std::string unit = {}, help = {};
  Stored stored = Stored::in_newer_files;
  std::string default_in_files = {};                   ///< value for model files without this option
  bool inferable = false;                              ///< the value follows from tensor names and shapes
  std::string shown_by = {};                           ///< or, of an option that is 0 or 1, from whether this tensor exists
  bool (*inferable_if)(const ModelConfig&) = nullptr;  ///< or does so for these models
  ListPlaces places = {};
  std::optional<Binding> in_files = {};  ///< binding for files, if it accepts more than value

  /// Whether a model file may neither contain nor imply the value, so that the user has to give it.
  bool may_be_unknown() const { return !follows_from_tensors() && stored != Stored::never; }
  bool follows_from_tensors() const { return inferable || !shown_by.empty(); }

  /// Whether a new file contains the option if it has this value.
  bool goes_into_files(const std::string& text) const {
    return stored >= Stored::in_newer_files || (stored == Stored::if_not_default && text != default_in_files);
  }
};

std::vector<ModelOption> shape_options(ModelConfig* model);
std::vector<ModelOption> rotary_options(ModelConfig* model, RopeRequest* request);

/// Names of the options in a list, in list order.
std::vector<std::string> listed_options(int ListPlaces::*list);

/// "MLP_KIND=relu2 PARALLEL_BLOCK=0 ...": the shape of the blocks, for the log; of the options that files store if they are not
/// the default, those.
std::string shape_summary(const std::vector<ResolvedOption>& options);

/// Values that contradict each other.
struct Conflict {
  std::vector<const char*> options;
  std::string reason, hint;
};

/// The first conflict in a model's shape, whether it comes from options or from a file.
std::optional<Conflict> find_conflict(const ModelConfig& model);

/// Error(usage) for a conflict, or for an option that has no effect on this shape.
void check_shape(const ModelConfig& model, const std::vector<ResolvedOption>& options);

}  // namespace pgolf
