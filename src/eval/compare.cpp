#include "pgolf/eval/compare.h"

#include <torch/types.h>

#include <algorithm>
#include <limits>
#include <unordered_map>

#include "pgolf/base/format.h"
#include "pgolf/base/text.h"
#include "pgolf/validation/windows.h"
#include "statistics.h"

namespace pgolf {
namespace {

/// Per token, [N] each.
struct TokenComparison {
  at::Tensor loss_a, loss_b, kl;  ///< float32
  at::Tensor agree;               ///< bool
};

/// KL(A || B) of log probabilities [N, V] -> [N]. Both sum to one, so sum p_A d with d = log p_A - log p_B equals the sum of
/// p_A (e^-d - 1 + d), whose terms are never negative: no cancellation between nearly equal models.
at::Tensor divergence(const at::Tensor& log_a, const at::Tensor& log_b) {
  const auto p_a = log_a.exp(), d = log_a - log_b;
  const auto near = p_a * (at::expm1(-d) + d);
  const auto far = log_b.exp() - p_a + p_a * d;  // where e^-d may overflow
  return at::where(d.abs() < 1, near, far).sum(-1);
}

/// logits [N, V], targets [N] int64. In blocks, to limit the memory of float32 copies of the logits.
TokenComparison compare_tokens(const at::Tensor& logits_a, const at::Tensor& logits_b, const at::Tensor& targets) {
  const int64_t rows = std::max<int64_t>(1, (int64_t{1} << 21) / logits_a.size(1));
  std::vector<at::Tensor> loss_a, loss_b, kl, agree;
  for (int64_t first = 0; first < targets.size(0); first += rows) {
    const int64_t count = std::min(rows, targets.size(0) - first);
    const auto chosen = targets.narrow(0, first, count).unsqueeze(1);
    const auto log_a = at::log_softmax(logits_a.narrow(0, first, count).to(at::kFloat), -1);
    const auto log_b = at::log_softmax(logits_b.narrow(0, first, count).to(at::kFloat), -1);
    loss_a.push_back(-log_a.gather(1, chosen).squeeze(1));
    loss_b.push_back(-log_b.gather(1, chosen).squeeze(1));
    kl.push_back(divergence(log_a, log_b));
    agree.push_back(log_a.argmax(-1) == log_b.argmax(-1));
  }
  return {at::cat(loss_a), at::cat(loss_b), at::cat(kl), at::cat(agree)};
}

std::unordered_map<std::string, const StoredTensor*> stored_by_name(const FileContents& contents) {
  std::unordered_map<std::string, const StoredTensor*> out;
  for (const auto& tensor : contents.tensors) {
    out.emplace(tensor.name, &tensor);
  }
  return out;
}

void fill_stored(const std::unordered_map<std::string, const StoredTensor*>& stored, const ModelFile& file,
                 const std::string& name, int64_t* bytes, double* bits) {
  const auto other_name = file.stored_names.find(name);
  const auto found = stored.find(other_name == file.stored_names.end() ? name : other_name->second);
  if (found == stored.end()) return;
  *bytes = found->second->bytes();
  if (found->second->scale && found->second->data.dtype == DType::int8) *bits = code_entropy(found->second->data);
}

}  // namespace

Comparison compare_models(Gpt& a, Gpt& b, const ValidationSet& validation, const ByteCounts& byte_counts,
                          const EvalOptions& options) {
  const at::NoGradGuard no_grad;
  Comparison result;
  result.windows = validation.sequences();
  std::vector<double> differences, divergences;
  double sum_a = 0, sum_b = 0, sum_kl = 0, agreeing = 0;
  for (int64_t first = 0; first < result.windows; first += options.batch_sequences) {
    const int64_t count = std::min(options.batch_sequences, result.windows - first);
    const Windows windows = read_windows(validation.tokens(), options.seq_len, first, count, options.device);
    const auto tokens = compare_tokens(a->logits(windows.inputs).flatten(0, 1), b->logits(windows.inputs).flatten(0, 1),
                                       windows.targets.flatten());
    const auto window_means = [&](const at::Tensor& values) {
      return values.view({count, options.seq_len}).to(at::kCPU, at::kDouble).mean(1);
    };
    const auto mean_a = window_means(tokens.loss_a), mean_b = window_means(tokens.loss_b), mean_kl = window_means(tokens.kl);
    for (int64_t i = 0; i < count; ++i) {
      const double loss_a = mean_a[i].item<double>(), loss_b = mean_b[i].item<double>();
      sum_a += loss_a;
      sum_b += loss_b;
      sum_kl += mean_kl[i].item<double>();
      differences.push_back(loss_b - loss_a);
      divergences.push_back(mean_kl[i].item<double>());
    }
    agreeing += static_cast<double>(tokens.agree.sum().item<int64_t>());
    result.a.bytes += byte_counts.count(validation.tokens(), first * options.seq_len, count * options.seq_len);
    if (options.progress) options.progress(first + count, result.windows);
  }
  const auto windows = static_cast<double>(result.windows);
  result.b.bytes = result.a.bytes;
  result.a.tokens = result.b.tokens = result.windows * options.seq_len;
  result.a.val_loss = sum_a / windows;
  result.b.val_loss = sum_b / windows;
  for (EvalResult* one : {&result.a, &result.b}) one->val_bpb = bits_per_byte(one->val_loss, one->tokens, one->bytes);
  result.stderr_difference = standard_error_of_mean(differences);
  result.kl = sum_kl / windows;
  result.stderr_kl = standard_error_of_mean(divergences);
  result.top1_agreement = agreeing / static_cast<double>(result.a.tokens);
  return result;
}

std::vector<TensorDifference> compare_tensors(const ModelFile& a, const ModelFile& b, const FileContents& contents_a,
                                              const FileContents& contents_b, std::string* why) {
  why->clear();
  std::unordered_map<std::string, at::Tensor> of_b(b.state.begin(), b.state.end());
  for (const auto& [name, tensor] : a.state) {
    const auto found = of_b.find(name);
    if (found == of_b.end()) {
      *why = "only A has " + printable(name);
    } else if (found->second.sizes() != tensor.sizes()) {
      *why = printable(name) + " is " + c10::str(tensor.sizes()) + " in A and " + c10::str(found->second.sizes()) + " in B";
    }
    if (!why->empty()) return {};
  }
  if (a.state.size() != b.state.size()) {
    *why = format("A has %zu tensors, B %zu", a.state.size(), b.state.size());
    return {};
  }
  const auto stored_a = stored_by_name(contents_a), stored_b = stored_by_name(contents_b);
  std::vector<TensorDifference> rows;
  for (const auto& [name, tensor] : a.state) {
    TensorDifference row{name, tensor.sizes().vec()};
    const auto values = tensor.to(at::kDouble), change = of_b.at(name).to(at::kDouble) - values;
    const double norm = values.norm().item<double>(), error = change.norm().item<double>();
    row.relative_rms = error == 0 ? 0 : norm == 0 ? std::numeric_limits<double>::infinity() : error / norm;
    row.max_abs = change.numel() == 0 ? 0 : change.abs().max().item<double>();
    fill_stored(stored_a, a, name, &row.bytes_a, &row.bits_a);
    fill_stored(stored_b, b, name, &row.bytes_b, &row.bits_b);
    rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace pgolf
