// All measurements of one stored model, as rows. Their fields: docs/measurements.md.
#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "pgolf/config/byte_counting.h"
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
  ByteCounting byte_counting = ByteCounting::rule;
  at::Device device = at::kCPU;
  /// Called with what is being measured and how much of it is done; may be empty.
  std::function<void(const std::string& what, int64_t done, int64_t total)> progress;
};

/// model: built from file. checkpoint: its name in the rows. The rows depend only on the arguments and the number of threads.
///
/// All lengths score the same targets as far as their windows allow: the first R tokens of the stream, where R is
/// eval_tokens (or all), rounded down to whole windows of the longest length; each length takes the whole windows that fit.
///
/// The training length is scored first and again at the end: Error(internal) if the bits differ, as they would if a longer
/// window left a stale cos/sin table. Error(bad_input) or (usage) if the stream or eval_tokens is shorter than the longest
/// window, Error(non_finite) if a loss is not finite.
std::vector<nlohmann::ordered_json> measure_model(Gpt& model, const ModelFile& file, const std::string& checkpoint,
                                                  const Tokenizer& tokenizer, const MeasureOptions& options);

}  // namespace pgolf
