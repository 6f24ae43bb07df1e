// Everything that is measured on one stored model, as rows. The rows' fields: docs/measurements.md.
#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "pgolf/data/tokenizer.h"
#include "pgolf/model_io/model_file.h"

namespace pgolf {

struct MeasureOptions {
  std::vector<int> seq_lens;  ///< as evaluation_lengths() gives them
  std::string val_files;
  int64_t eval_tokens = 0;        ///< targets scored at every length; 0 = all
  int64_t batch_tokens = 16'384;  ///< per forward pass, or one window
  int retrieval_items = 32;       ///< per task, length and distance; 0 = none
  int probe_windows = 4;          ///< for attention; 0 = none
  int64_t seed = 1337;            ///< of the retrieval tasks
  at::Device device = at::kCPU;
  /// Called with what is being measured and how much of it is done; may be empty.
  std::function<void(const std::string& what, int64_t done, int64_t total)> progress;
};

/// model: built from file. checkpoint: the name under which the rows know it. The rows depend on these and on the number of
/// threads, not on the time or the place.
///
/// All lengths score the same targets as far as their windows allow: the first R tokens of the stream, where R is what
/// eval_tokens permits, rounded down to whole windows of the longest length; each length takes the whole windows that fit.
///
/// The training length is scored first, and again when all else is done: Error(internal) if the bits differ, as they would
/// after a longer window if a table outlived its length. Error(bad_input) or (usage) if the stream or eval_tokens is shorter
/// than the longest window, Error(non_finite) for a loss that is no number.
std::vector<nlohmann::ordered_json> measure_model(Gpt& model, const ModelFile& file, const std::string& checkpoint,
                                                  const Tokenizer& tokenizer, const MeasureOptions& options);

}  // namespace pgolf
