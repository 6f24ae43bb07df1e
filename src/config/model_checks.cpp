// Model options that contradict each other, or have no effect on the model that the others describe.
#include <set>

#include "pgolf/base/format.h"
#include "pgolf/config/model_options.h"

namespace pgolf {

std::optional<Conflict> find_conflict(const ModelConfig& model) {
  if (model.mlp_hidden() < 1) return Conflict{{"MLP_MULT", "MODEL_DIM"}, "the MLP has no hidden unit", "raise MLP_MULT"};
  if (model.parallel_block && model.parallel_residual_start > 0) {
    return Conflict{{"PARALLEL_BLOCK", "PARALLEL_RESIDUAL_START"},
                    "both say which blocks are parallel",
                    "PARALLEL_BLOCK=1 is PARALLEL_RESIDUAL_START=0; set only one of them"};
  }
  if (const auto listed = static_cast<int>(model.attention_window.size()); listed > model.num_layers) {
    return Conflict{{"ATTENTION_WINDOW", "NUM_LAYERS"},
                    format("%d values are more than the %d layers", listed, model.num_layers),
                    "shorten the list; it is repeated to fill all layers"};
  }
  if (model.num_loops > 0) {
    const bool set = model.loop_start >= 0 && model.loop_end >= 0;
    if (!set || model.loop_start > model.loop_end || model.loop_end >= model.num_layers) {
      return Conflict{{"NUM_LOOPS", "LOOP_START", "LOOP_END", "NUM_LAYERS"},
                      "a loop needs a first and a last block of the model",
                      format("set LOOP_START and LOOP_END, from 0 to %d", model.num_layers - 1)};
    }
  }
  if (model.skip_gates && !model.unet_skips)
    return Conflict{{"SKIP_GATES_ENABLED", "UNET_SKIPS"}, "there are no skip connections to gate", "set UNET_SKIPS=1"};
  if (model.bigram_vocab_size == 1)
    return Conflict{{"BIGRAM_VOCAB_SIZE"}, "one row is for the first position, so pairs need another", "use 0, or at least 2"};
  if (model.bigram_vocab_size > 0 && model.vocab_size > kMaxBigramVocabSize) {
    return Conflict{{"BIGRAM_VOCAB_SIZE", "VOCAB_SIZE"},
                    format("the hash of a pair of tokens fits into 32 bits up to a vocabulary of %d", kMaxBigramVocabSize),
                    "set BIGRAM_VOCAB_SIZE=0"};
  }
  std::set<int> seen;
  for (const int layer : model.ve_layers) {
    if (layer < model.num_layers && seen.insert(layer).second) continue;
    return Conflict{{"VE_LAYERS", "NUM_LAYERS"},
                    format("block %d is %s", layer, layer < model.num_layers ? "listed twice" : "not in the model"),
                    format("list blocks from 0 to %d", model.num_layers - 1)};
  }
  return std::nullopt;
}

void check_shape(const ModelConfig& model, const std::vector<ResolvedOption>& options) {
  if (const auto conflict = find_conflict(model)) refuse(options, conflict->options, conflict->reason, conflict->hint);
  const auto given = [&](const char* name) { return find_option(options, name).source != Source::default_value; };
  if (given("PARALLEL_BLOCK") && given("PARALLEL_RESIDUAL_START") &&
      model.parallel_residual_start != (model.parallel_block ? 0 : -1)) {
    refuse(options, {"PARALLEL_BLOCK", "PARALLEL_RESIDUAL_START"}, "both say which blocks are parallel",
           "PARALLEL_BLOCK=1 is PARALLEL_RESIDUAL_START=0; set only one of them");
  }
  if (!leaky(model.mlp_kind) && model.mlp_leaky_slope != ModelConfig().mlp_leaky_slope)
    refuse(options, {"MLP_LEAKY_SLOPE", "MLP_KIND"}, "this MLP_KIND has no slope", "set MLP_KIND=leaky_relu or leaky_relu2");
}

}  // namespace pgolf
