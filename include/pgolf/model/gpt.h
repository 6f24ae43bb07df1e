// The whole language model: embedding, U-Net of blocks with skip connections, soft-capped head.
#pragma once

#include <torch/nn/modules/container/modulelist.h>
#include <torch/nn/modules/container/parameterlist.h>
#include <torch/nn/modules/embedding.h>

#include <optional>
#include <string>
#include <vector>

#include "pgolf/model/block.h"
#include "pgolf/model/state_dict.h"
#include "pgolf/model/token_extras.h"

namespace pgolf {

/// Mirrors upstream's class GPT: same parameter names, same order, and for the same generator state
/// the same initial bits. Blocks run in the order of config/block_order.h. The encoder pushes its outputs; step i of the decoder
/// first adds skip_weights[i] * (the output popped last), or with skip_gates[i] interpolates (ops::gated_skip), unless unet_skips
/// is off.
class GptImpl : public torch::nn::Module {
 public:
  explicit GptImpl(const ModelConfig& config, OpsPath path = OpsPath::fast);

  /// Mean cross-entropy in nats, scalar float32. input_ids, target_ids [B, T] int64. gradient: as for softcap_cross_entropy.
  at::Tensor forward(const at::Tensor& input_ids, const at::Tensor& target_ids, double gradient = 1);

  /// Cross-entropy of each target: input_ids [B, T], target_ids [B, n] of the last n <= T positions -> [B, n] float32. With
  /// n = T, forward() is their mean. No gradient.
  at::Tensor token_losses(const at::Tensor& input_ids, const at::Tensor& target_ids);

  /// Logits after the soft cap: [B, T, vocab_size], float32; with OpsPath::reference in the compute dtype.
  at::Tensor logits(const at::Tensor& input_ids);

  /// What the output head multiplies by its weight: [B, T] -> [B, T, C], after the final norm.
  at::Tensor hidden(const at::Tensor& input_ids, KvCache* cache = nullptr);

  enum class Positions { all, last };
  /// Logits of tokens that continue the cached ones, which it appends to the cache: input_ids [B, t] -> [B, t, vocab_size], or
  /// [B, 1, vocab_size] for the last position only. Equal to logits() of the whole text up to rounding. No gradient.
  at::Tensor extend(const at::Tensor& input_ids, KvCache& cache, Positions positions = Positions::all);
  /// An empty cache for this model, with as many extra passes as it makes now.
  KvCache make_cache(int64_t capacity) const { return {order_.passes(), capacity}; }

  /// Extra passes over the looped blocks, from 0 to config().num_loops, which a new model makes. Rows of skip_weights and
  /// skip_gates that fewer passes leave unused get a zero gradient.
  void set_extra_passes(int passes);
  int extra_passes() const { return extra_passes_; }
  /// From now on this is the model with rope_dims 0.
  void drop_rotation();
  const BlockOrder& order() const { return order_; }

  const ModelConfig& config() const { return config_; }
  int64_t rope_table_bytes() const { return tables_->bytes(); }

  at::Tensor skip_weights;  ///< [skip_count, model_dim] float32; undefined without unet_skips
  at::Tensor skip_gates;    ///< the same; undefined without ModelConfig::skip_gates
  torch::nn::Embedding tok_emb{nullptr};
  ScaledEmbedding bigram{nullptr};  ///< null without bigram_vocab_size
  SmearGate smear{nullptr};         ///< null without smear_gate
  std::vector<Block> blocks;
  ScaledEmbedding ve_shared{nullptr};                 ///< null without ve_layers
  torch::nn::ParameterList ve_layer_scales{nullptr};  ///< [1] float32, ones, for each of ve_layers
  NormWeight final_norm{nullptr};                     ///< null without norm_weights
  CastedLinear lm_head{nullptr};                      ///< null when tied

 private:
  at::Tensor raw_logits(const at::Tensor& features);     ///< [N, C] -> [N, V], before the soft cap
  at::Tensor capped_logits(const at::Tensor& features);  ///< [B, T, C] -> [B, T, V]

  at::Tensor embedded(const at::Tensor& input_ids, KvCache* cache);  ///< [B, T] -> [B, T, C], normalized
  /// What is added to a layer's values, from the output of ve_shared; undefined: nothing.
  at::Tensor values_of(int layer, const at::Tensor& values);
  at::Tensor with_skip(const at::Tensor& x, const at::Tensor& skip, int64_t row);

  ModelConfig config_;
  OpsPath path_;
  int extra_passes_ = 0;
  BlockOrder order_;
  std::shared_ptr<ops::RopeTableCache> tables_;
  std::optional<ops::LinearWeight> tied_head_;  ///< tok_emb as the head's weight
};
TORCH_MODULE(Gpt);

/// Whether a parameter is a control tensor: its name contains one of the patterns.
bool is_control_tensor(const std::string& name, const std::vector<std::string>& patterns);

/// Gives the parameters the dtypes of upstream's main(). compute = bfloat16: every parameter goes through
/// bfloat16 (the rounding stays), then linear weights, control tensors and vectors become float32 again; embeddings
/// alone stay bfloat16. compute = float32: nothing changes.
void set_parameter_precision(Gpt& model, at::ScalarType compute, const std::vector<std::string>& control_patterns);

/// All parameters, detached, in upstream's order. The tensors share the model's memory.
StateDict state_dict(Gpt& model);

/// Copies values into the model; dtypes are converted to the model's. Names and shapes must match exactly, otherwise
/// Error(bad_input) that names where (a file) and the first tensor that is missing, unknown or of another shape.
void load_state_dict(Gpt& model, const StateDict& state, const std::string& where);

/// Paths of all modules of upstream's model, in the order of its state dict's _metadata ("" first).
std::vector<std::string> upstream_module_paths(const ModelConfig& config);

}  // namespace pgolf
