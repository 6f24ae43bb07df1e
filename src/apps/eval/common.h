// Options that the commands of eval_gpt share: stored model and machine.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "pgolf/config/byte_counting.h"
#include "pgolf/config/options.h"
#include "pgolf/config/rope_options.h"
#include "pgolf/data/tokenizer.h"
#include "pgolf/model_io/model_file.h"
#include "pgolf/train/runtime.h"

namespace pgolf {

/// Settings that upstream's model files do not store. A stored value wins; a flag that contradicts it is an error.
struct FileDefaults {
  RopeRequest rope;
  StoredModel stored;
};

/// Options of every command.
struct Common {
  std::vector<std::string> positional;
  std::string tokenizer_path;  ///< the flag's; see tokenizer()
  RuntimeConfig runtime;
  FileDefaults file_defaults;
  std::string eval_rope_dims = "stored";
  std::optional<RopeScaling> eval_rope_scaling;  ///< nullopt: as stored
  double eval_rope_scaling_factor = 1;
  bool help = false;

  /// The tokenizer's path: the flag's, else the environment's TOKENIZER_PATH, else that of the run which the first checkpoint
  /// belongs to, else FineWeb's. Error(bad_input) if that run's does not exist.
  std::string tokenizer() const;
};

/// Adds the tokenizer; without the flag `path` stays empty.
void add_tokenizer(OptionTable& table, std::string& path);

/// Adds all of the above to the table.
void add_common(OptionTable& table, Common& common);

/// Where the validation tokens are: fineweb_val_*.bin in a folder, or a shell pattern. And how their bytes are counted.
struct ValidationFiles {
  std::string data_path, val_files;
  ByteCounting byte_counting = ByteCounting::rule;

  /// If neither is given, in the environment's DATA_PATH, else in that of the run which `checkpoint` belongs to. Error(usage) if
  /// nothing says where, or if both are given; Error(bad_input) if the run's folder does not exist.
  std::string pattern(const std::string& checkpoint) const;
};

void add_validation_files(OptionTable& table, ValidationFiles& files);

/// Lists BYTE_COUNT among a result's overrides unless it is the default.
void add_override(ByteCounting counting, std::vector<std::string>& overrides);

/// Adds only the options for what a file may not store.
void add_file_defaults(OptionTable& table, FileDefaults& defaults);

/// Reads a model. options, resolved by the command's table, fill in what the file does not store; one that contradicts a
/// stored value is an Error(usage).
ModelFile read_model(const std::string& path, const Common& common, std::vector<ResolvedOption> options);

/// Error(usage) unless the tokenizer is the model's: as many pieces, and the same ones if the file says which.
void require_tokenizer(const Tokenizer& tokenizer, const ModelFile& file);

}  // namespace pgolf
