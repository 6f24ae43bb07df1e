// What the commands of eval_gpt share: the options about a stored model and the machine.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "pgolf/config/options.h"
#include "pgolf/config/rope_options.h"
#include "pgolf/model_io/model_file.h"
#include "pgolf/train/runtime.h"

namespace pgolf {

/// What a Python file does not say about its model. A file that says it wins; a flag that contradicts it is an error.
struct Unsaid {
  RopeRequest rope;
  StoredModel stored;
};

/// What every command takes.
struct Common {
  std::vector<std::string> positional;
  std::string tokenizer_path;
  RuntimeConfig runtime;
  Unsaid unsaid;
  std::string eval_rope_dims = "stored";
  std::optional<RopeScaling> eval_rope_scaling;  ///< none given: as stored
  double eval_rope_scaling_factor = 1;
  bool help = false;
};

/// Adds all of the above to the table.
void add_common(OptionTable& table, Common& common);

/// Where validation tokens are: a folder's fineweb_val_*.bin, or a shell pattern.
struct ValidationFiles {
  std::string data_path, val_files;

  /// Of the environment's DATA_PATH if neither is given. Error(usage) if there is none, or both are given.
  std::string pattern() const;
};

void add_validation_files(OptionTable& table, ValidationFiles& files);

/// Adds only what a file may not say.
void add_unsaid(OptionTable& table, Unsaid& unsaid);

/// Reads a model for a command whose table gave these options. They fill in what the file does not say; one that contradicts
/// what it says is an Error(usage).
ModelFile read_model(const std::string& path, const Common& common, std::vector<ResolvedOption> options);

}  // namespace pgolf
