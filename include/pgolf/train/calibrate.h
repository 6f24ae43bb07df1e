// What a model's matrices are multiplied by, for quantizing them.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "pgolf/dist/process.h"
#include "pgolf/model/gpt.h"
#include "pgolf/model_io/quantizer.h"
#include "pgolf/train/runtime.h"

namespace pgolf {

/// X^T X over the inputs of the matrices with more than above elements, divided by the number of batches: one for the queries,
/// keys and values of a layer, one for each other linear layer, and, with embedding, one of the output head for tok_emb.weight. A
/// layer that runs several times adds its inputs each time. batch(i): token ids [B, T] int64 on the model's device. In float32,
/// on the CPU in the end. Leaves the model's training mode as it is.
Hessians collect_hessians(Gpt& model, int64_t batches, const std::function<at::Tensor(int64_t)>& batch, bool embedding,
                          int64_t above = keep_float_max_numel);

/// Texts of the model itself, each [1, length] int64 on its device: eight at a time, a uniform first token, then draws at
/// temperature 0.8, all by a generator with that seed. Every position attends with the model's own rotation.
std::vector<at::Tensor> sample_texts(Gpt& model, int64_t texts, int64_t length, int64_t seed);

/// The Hessians for GPTQ_CALIBRATION.
///  - train: GPTQ_CALIBRATION_BATCHES micro-steps of a new loader, so that they begin with the first windows of training;
///  - self: as many sampled texts of TRAIN_SEQ_LEN; 1 % of the mean of each Hessian's diagonal, or of 1e-6 if that is more, is
///    added to the diagonal.
Hessians calibrate(Gpt& model, const RunConfig& config, const Runtime& runtime, const Process& process);

}  // namespace pgolf
