// The list of a model's parameters, shared by counting, estimation, storage, loading and optimization.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "pgolf/config/run_config.h"

namespace pgolf {

/// What a parameter is for. control: scales, gains, mixes and norm weights, i.e. everything that is not a weight matrix.
enum class ParameterRole { embedding, head, matrix, control };

/// Initialization of a parameter after all modules are constructed. as_constructed: it keeps the values from its module.
/// orthogonal: arXiv 1312.6120.
enum class Initialization { as_constructed, normal, orthogonal, zeros };

struct Parameter {
  std::string name;
  std::vector<int64_t> shape;
  ParameterRole role = ParameterRole::control;
  Initialization initialization = Initialization::as_constructed;
  double init_std = 0;  ///< of Initialization::normal

  int64_t numel() const;
  bool in_block() const;
};

/// With upstream's names, in the order of its state dict.
std::vector<Parameter> model_parameters(const ModelConfig& model);

/// Names from which the configuration of a model can be inferred.
namespace parameter_name {
inline constexpr const char* token_embedding = "tok_emb.weight";
inline constexpr const char* head = "lm_head.weight";
inline constexpr const char* skip_weights = "skip_weights";
inline constexpr const char* skip_gates = "skip_gates";
inline constexpr const char* final_norm = "final_norm.weight";
inline constexpr const char* blocks = "blocks.";  ///< prefix of the parameters of all blocks
inline constexpr const char* resid_mix = "resid_mix";
inline constexpr const char* attn_norm = "attn_norm.weight";
inline constexpr const char* mlp_norm = "mlp_norm.weight";
inline constexpr const char* q_gain = "attn.q_gain";
inline constexpr const char* key = "attn.c_k.weight";
inline constexpr const char* mlp_up = "mlp.fc.weight";
inline constexpr const char* mlp_gate = "mlp.gate.weight";
inline constexpr const char* smear_gate = "smear.gate";
inline constexpr const char* bigram_table = "bigram.embed.weight";
inline constexpr const char* bigram_projection = "bigram.proj.weight";
inline constexpr const char* value_table = "ve_shared.embed.weight";
inline constexpr const char* value_scales = "ve_layer_scales.";  ///< prefix of one for each of VE_LAYERS
/// "blocks.3.attn.q_gain".
std::string in_block(int layer, const char* name);
}  // namespace parameter_name

}  // namespace pgolf
