#include "pgolf/train/calibrate.h"

#include <ATen/CPUGeneratorImpl.h>
#include <torch/types.h>

#include <algorithm>
#include <set>

#include "pgolf/base/format.h"
#include "pgolf/base/progress.h"
#include "pgolf/config/parameters.h"
#include "pgolf/train/micro_batches.h"

namespace pgolf {
namespace {

constexpr int64_t texts_at_once = 8;
constexpr double temperature = 0.8;
constexpr double damping = 0.01, least_mean = 1e-6;

/// While it lives, the model's layers add their inputs to Hessians.
class Collector {
 public:
  Collector(Gpt& model, bool embedding, int64_t above) : model_(model), above_(above) {
    std::set<const void*> together;
    for (size_t i = 0; i < model_->blocks.size(); ++i) {
      auto& attention = model_->blocks[i]->attn;
      const std::string prefix = format("blocks.%zu.attn.", i);
      attention->observer = observer({{prefix + "c_q.weight", attention->c_q->weight},
                                      {prefix + "c_k.weight", attention->c_k->weight},
                                      {prefix + "c_v.weight", attention->c_v->weight}});
      for (const auto* layer : {attention->c_q.get(), attention->c_k.get(), attention->c_v.get()}) together.insert(layer);
    }
    for (const auto& item : model_->named_modules()) {
      auto* layer = item.value()->as<CastedLinearImpl>();
      if (layer == nullptr || together.count(layer) != 0) continue;
      layer->observer = observer({{item.key() + ".weight", layer->weight}});
      observed_.push_back(layer);
    }
    if (embedding) head_ = observer({{parameter_name::token_embedding, model_->tok_emb->weight}});
  }
  Collector(const Collector&) = delete;
  Collector& operator=(const Collector&) = delete;
  ~Collector() {
    for (auto& block : model_->blocks) block->attn->observer = nullptr;
    for (auto* layer : observed_) layer->observer = nullptr;
  }

  void run(const at::Tensor& ids) {
    const torch::NoGradGuard no_grad;
    const auto features = model_->hidden(ids);
    if (head_) head_(features);
  }

  const Hessians& sums() const { return sums_; }

 private:
  /// Adds to a new Hessian for those of the matrices, which have the same inputs, that are large enough; empty if none is.
  std::function<void(const at::Tensor&)> observer(const StateDict& matrices) {
    Hessian hessian;
    for (const auto& [name, weight] : matrices) {
      if (weight.numel() > above_) hessian.matrices.push_back(name);
    }
    if (hessian.matrices.empty()) return nullptr;
    const auto& weight = matrices.front().second;
    const int64_t columns = weight.size(1);
    hessian.products = at::zeros({columns, columns}, weight.options().dtype(at::kFloat));
    sums_.push_back(hessian);
    return [sum = hessian.products](const at::Tensor& x) mutable {
      const auto rows = x.detach().reshape({-1, x.size(-1)}).to(at::kFloat);
      sum.addmm_(rows.t(), rows);
    };
  }

  Gpt& model_;
  int64_t above_;
  std::vector<CastedLinearImpl*> observed_;
  std::function<void(const at::Tensor&)> head_;
  Hessians sums_;
};

/// The inputs of a loader's next micro-step, [windows, TRAIN_SEQ_LEN].
at::Tensor next_windows(BatchLoader& loader, const RunConfig& config, const Process& process) {
  const auto& data = config.data;
  const auto tokens = loader.next(data.train_batch_tokens, process.grad_accum_steps());
  const auto count = static_cast<int64_t>(tokens.size());
  const int64_t span = loader.span_tokens(data.train_batch_tokens / (int64_t{process.world_size()} * process.grad_accum_steps()));
  const auto spans = at::from_blob(const_cast<int64_t*>(tokens.data()), {count / (span + 1), span + 1}, at::kLong);
  return spans.narrow(1, 0, span).reshape({-1, data.train_seq_len}).clone();
}

}  // namespace

Hessians collect_hessians(Gpt& model, int64_t batches, const std::function<at::Tensor(int64_t)>& batch, bool embedding,
                          int64_t above) {
  Collector collector(model, embedding, above);
  if (collector.sums().empty()) return {};
  Progress bar("calibrating", batches);
  for (int64_t i = 0; i < batches; ++i) {
    collector.run(batch(i));
    bar.update(i + 1);
  }
  Hessians hessians = collector.sums();
  for (Hessian& hessian : hessians) hessian.products = hessian.products.cpu() / batches;
  return hessians;
}

std::vector<at::Tensor> sample_texts(Gpt& model, int64_t texts, int64_t length, int64_t seed) {
  const torch::NoGradGuard no_grad;
  const auto device = model->tok_emb->weight.device();
  auto generator = at::make_generator<at::CPUGeneratorImpl>(static_cast<uint64_t>(seed));
  Progress bar("sampling text", texts * length);
  std::vector<at::Tensor> out;
  while (static_cast<int64_t>(out.size()) < texts) {
    const int64_t count = std::min(texts_at_once, texts - static_cast<int64_t>(out.size()));
    std::vector<at::Tensor> columns{at::randint(model->config().vocab_size, {count, 1}, generator, at::kLong)};
    KvCache cache = model->make_cache(length);
    while (static_cast<int64_t>(columns.size()) < length) {
      const auto logits =
          model->extend(columns.back().to(device), cache, GptImpl::Positions::last).squeeze(1).to(at::kFloat).cpu();
      columns.push_back(at::multinomial(at::softmax(logits / temperature, -1), 1, /*replacement=*/false, generator));
      bar.update(static_cast<int64_t>(out.size()) * length + count * static_cast<int64_t>(columns.size()));
    }
    const auto rows = at::cat(columns, 1).to(device);
    for (int64_t i = 0; i < count; ++i) out.push_back(rows.narrow(0, i, 1));
  }
  return out;
}

Hessians calibrate(Gpt& model, const RunConfig& config, const Runtime& runtime, const Process& process) {
  const GptqConfig& gptq = config.output.gptq;
  const bool embedding = gptq.clip == GptqClip::sigmas;
  if (gptq.calibration == GptqCalibration::train) {
    const auto loader = make_loader(config, process);
    return collect_hessians(
        model, gptq.calibration_batches, [&](int64_t) { return next_windows(*loader, config, process).to(runtime.device); },
        embedding);
  }
  const int64_t length = config.data.train_seq_len;
  const auto texts = sample_texts(model, gptq.calibration_batches, length, config.runtime.seed);
  Hessians hessians = collect_hessians(
      model, gptq.calibration_batches, [&](int64_t i) { return texts[static_cast<size_t>(i)].narrow(1, 0, length - 1); },
      embedding);
  for (Hessian& hessian : hessians) {
    auto diagonal = hessian.products.diagonal();
    diagonal.add_(damping * diagonal.mean().clamp_min(least_mean));
  }
  return hessians;
}

}  // namespace pgolf
