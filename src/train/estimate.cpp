#include "pgolf/train/estimate.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "pgolf/config/parameters.h"
#include "pgolf/model_io/quantizer.h"

namespace pgolf {
namespace {

// Compressed over payload bytes in upstream's published log: 15,815,847 / 17,178,912.
constexpr double compression_ratio = 0.92;
// Of the codes that GPTQ makes: an artifact over their entropy, from the record of 2026-04-05 (15,970,000 bytes with Brotli), and
// with the clip search bits after compression over bits, from that of 2026-03-25 (15,761,428 bytes with xz).
constexpr double over_entropy = 1.0115, search_ratio = 0.75;

/// Bits per code after compression.
double compressed_bits(const Parameter& parameter, const GptqConfig& gptq) {
  const bool embedding = parameter.name == parameter_name::token_embedding;
  const bool search = gptq.clip == GptqClip::search;
  if ((embedding && search) || (!embedding && parameter.role != ParameterRole::matrix)) return 8 * compression_ratio;
  const double bits = embedding ? gptq.embed_bits : gptq.matrix_bits;
  if (search) return bits * search_ratio;
  // Codes are about normal; their standard deviation is the largest code over the clip.
  const double deviation = (std::exp2(bits - 1) - 1) / (embedding ? gptq.embed_clip_sigmas : gptq.matrix_clip_sigmas);
  const double entropy = std::log2(deviation) + 0.5 * std::log2(2 * std::numbers::pi * std::numbers::e);
  return std::clamp(entropy * over_entropy, 0.0, bits);
}

}  // namespace

ArtifactEstimate estimate_artifact(const RunConfig& config) {
  const bool gptq = config.output.artifact.quantizer == Quantizer::gptq;
  ArtifactEstimate out;
  double information = 0;  // of an artifact by GPTQ
  for (const Parameter& parameter : model_parameters(config.model)) {
    const int64_t numel = parameter.numel(), scales = 2 * (parameter.shape.empty() ? 1 : parameter.shape[0]);
    const bool float32 = parameter.role == ParameterRole::control && !gptq;
    if (numel > keep_float_max_numel && !float32) {
      out.payload_bytes += numel + scales;
      information +=
          static_cast<double>(numel) * compressed_bits(parameter, config.output.gptq) / 8 + static_cast<double>(scales);
    } else {
      out.payload_bytes += (float32 ? 4 : 2) * numel;
      information += static_cast<double>(2 * numel);
    }
  }
  out.bytes = static_cast<int64_t>(gptq ? information : compression_ratio * static_cast<double>(out.payload_bytes));
  return out;
}

RunEstimate estimate_run(const RunConfig& config, bool bfloat16, int world_size, const MicroBatchPlan& plan) {
  const auto& m = config.model;
  const int64_t dim = m.model_dim, kv = int64_t{m.num_kv_heads} * m.head_dim(), hidden = m.mlp_hidden(), vocab = m.vocab_size;
  RunEstimate out;
  int64_t matrices = 0, embedding = 0, controls = 0;  // embedding includes the head
  for (const Parameter& parameter : model_parameters(m)) {
    const bool matrix = parameter.role == ParameterRole::matrix, control = parameter.role == ParameterRole::control;
    (matrix ? matrices : control ? controls : embedding) += parameter.numel();
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
  out.artifact = estimate_artifact(config);
  return out;
}

}  // namespace pgolf
