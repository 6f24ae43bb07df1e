#include "pgolf/train/estimate.h"

#include "pgolf/config/parameters.h"
#include "pgolf/model_io/quantizer.h"

namespace pgolf {
namespace {

// Compressed over payload bytes in upstream's published log: 15,815,847 / 17,178,912.
constexpr double compression_ratio = 0.92;

int64_t payload_of(const Parameter& parameter) {
  const int64_t numel = parameter.numel();
  if (parameter.role == ParameterRole::control) return 4 * numel;
  return numel <= keep_float_max_numel ? 2 * numel : numel + 2 * parameter.shape[0];
}

}  // namespace

RunEstimate estimate_run(const RunConfig& config, bool bfloat16, int world_size, const MicroBatchPlan& plan) {
  const auto& m = config.model;
  const int64_t dim = m.model_dim, kv = int64_t{m.num_kv_heads} * m.head_dim(), hidden = m.mlp_hidden(), vocab = m.vocab_size;
  RunEstimate out;
  int64_t matrices = 0, embedding = 0, controls = 0;  // embedding includes the head
  for (const Parameter& parameter : model_parameters(m)) {
    const bool matrix = parameter.role == ParameterRole::matrix, control = parameter.role == ParameterRole::control;
    (matrix ? matrices : control ? controls : embedding) += parameter.numel();
    out.int8_payload_bytes += payload_of(parameter);
  }
  out.parameters = matrices + embedding + controls;
  const int64_t embedding_size = bfloat16 ? 2 : 4;
  out.weight_bytes = 4 * (matrices + controls) + embedding_size * embedding;
  // Gradients of all parameters for each parallel micro-batch; Muon keeps one more copy of a matrix, Adam two.
  const int64_t copies = config.optim.optimizer == OptimizerChoice::muon ? 1 : 2;
  out.optimizer_bytes =
      plan.parallel * out.weight_bytes + copies * 4 * matrices + 2 * (4 * controls + embedding_size * embedding);
  if (config.optim.ema_decay > 0) out.optimizer_bytes += 4 * out.parameters;
  const int64_t tokens = config.data.train_batch_tokens / (int64_t{world_size} * plan.micro_batches);
  const int64_t element = bfloat16 ? 2 : 4;
  // Kept per pass of a block and token: residual twice, two norms' inputs, q, k, v before and after their norms, attention's
  // output, the MLP's hidden layer once per matrix, two branch outputs; once per token: logits, their soft cap, and in float32.
  const int64_t per_block = 7 * dim + 2 * (dim + 2 * kv) + m.mlp_matrices() * hidden;
  out.activation_bytes = plan.parallel * tokens * (m.full_order().passes() * per_block * element + vocab * (2 * element + 4));
  out.artifact_bytes = static_cast<int64_t>(compression_ratio * static_cast<double>(out.int8_payload_bytes));
  return out;
}

}  // namespace pgolf
