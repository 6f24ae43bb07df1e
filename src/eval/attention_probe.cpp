#include "pgolf/eval/attention_probe.h"

#include <torch/types.h>

#include <cmath>
#include <limits>

namespace pgolf {
namespace {

/// While it lives, products of float32 on a GPU keep all bits of their operands.
class WithoutTf32 {
 public:
  WithoutTf32() : before_(at::globalContext().allowTF32CuBLAS()) { at::globalContext().setAllowTF32CuBLAS(false); }
  WithoutTf32(const WithoutTf32&) = delete;
  WithoutTf32& operator=(const WithoutTf32&) = delete;
  ~WithoutTf32() { at::globalContext().setAllowTF32CuBLAS(before_); }

 private:
  bool before_;
};

/// Calls body(first, count, keys) for blocks of queries; keys is the number visible to the block's last query. A block has at
/// most 2^20 scores, or one query.
template <class Body>
void for_query_blocks(int64_t time, const Body& body) {
  const int64_t rows = std::max<int64_t>(1, (int64_t{1} << 20) / time);
  for (int64_t first = 0; first < time; first += rows) {
    const int64_t count = std::min(rows, time - first);
    body(first, count, first + count);
  }
}

/// [count, keys] bool: which keys the query does not see. window: 0 = all up to the query's own.
at::Tensor hidden_keys(int64_t first, int64_t count, int64_t keys, int64_t window, const at::Device& device) {
  const auto options = at::TensorOptions().dtype(at::kLong).device(device);
  const auto distance = at::arange(first, first + count, options).unsqueeze(1) - at::arange(keys, options).unsqueeze(0);
  return window == 0 ? distance < 0 : (distance < 0).logical_or_(distance >= window);
}

double double_sum(const at::Tensor& values) {
  return values.sum(at::kDouble).item<double>();
}

/// q and k [T, D] of one head.
HeadAttention attention_of_head(const at::Tensor& q, const at::Tensor& k, const at::Tensor& mask, int64_t window) {
  const int64_t time = q.size(0);
  const double scale = 1 / std::sqrt(static_cast<double>(q.size(1)));
  const auto q_rotated = q * mask, q_passed = q * (1 - mask);
  const auto positions = at::arange(time, q.options());
  HeadAttention sums;
  double pairs = 0;
  for_query_blocks(time, [&](int64_t first, int64_t count, int64_t keys) {
    const auto seen_keys = k.narrow(0, 0, keys).t();
    const auto rotated = at::mm(q_rotated.narrow(0, first, count), seen_keys);
    const auto passed = at::mm(q_passed.narrow(0, first, count), seen_keys);
    const auto hidden = hidden_keys(first, count, keys, window, q.device());
    const auto logits = ((rotated + passed) * scale).masked_fill(hidden, -std::numeric_limits<float>::infinity());
    const auto attention = at::softmax(logits, -1);
    const auto mean_position = at::mv(attention, positions.narrow(0, 0, keys));
    sums.distance += double_sum(positions.narrow(0, first, count) - mean_position);
    sums.entropy -= double_sum(at::xlogy(attention, attention));
    sums.first_token += double_sum(attention.select(1, 0));
    // The predecessor of query first + r is in column first + r - 1; query 0 has none.
    const int64_t skipped = first == 0 ? 1 : 0;
    sums.previous_token += double_sum(attention.slice(0, skipped, count).diagonal(first + skipped - 1));
    const auto magnitude = rotated.abs() + passed.abs();
    const auto counted = hidden.logical_not().logical_and_(magnitude > 0);
    sums.rotated_share += double_sum(at::where(counted, rotated.abs() / magnitude, 0.0));
    pairs += double_sum(counted);
  });
  const auto queries = static_cast<double>(time);
  return {sums.distance / queries, sums.entropy / queries, sums.first_token / queries,
          sums.previous_token / std::max(queries - 1, 1.0), sums.rotated_share / std::max(pairs, 1.0)};
}

/// The same, by pair.
std::vector<double> pair_shares_of_head(const at::Tensor& q, const at::Tensor& k, const RopeSpec& spec, int64_t window) {
  const auto passes = 1 - rotated_dims(spec).to(q.device(), q.scalar_type());
  const int span = spec.span(), stride = spec.style == RopeStyle::half ? span / 2 : 1;
  std::vector<at::Tensor> left, right;  // the pairs' two dims
  for (int pair = 0; pair < span / 2; ++pair) {
    if (!spec.rotates(pair)) continue;
    const int64_t first = spec.style == RopeStyle::half ? pair : 2 * pair;
    left.push_back(q.slice(1, first, first + stride + 1, stride));
    right.push_back(k.slice(1, first, first + stride + 1, stride).t());
  }
  std::vector<double> shares(left.size(), 0);
  double pairs = 0;
  for_query_blocks(q.size(0), [&](int64_t first, int64_t count, int64_t keys) {
    const auto part = [&](size_t i) { return at::mm(left[i].narrow(0, first, count), right[i].narrow(1, 0, keys)).abs(); };
    auto magnitude = at::mm((q * passes).narrow(0, first, count), k.narrow(0, 0, keys).t()).abs();
    for (size_t i = 0; i < left.size(); ++i) magnitude += part(i);
    const auto counted = hidden_keys(first, count, keys, window, q.device()).logical_not().logical_and_(magnitude > 0);
    for (size_t i = 0; i < left.size(); ++i) shares[i] += double_sum(at::where(counted, part(i) / magnitude, 0.0));
    pairs += double_sum(counted);
  });
  for (double& share : shares) share /= std::max(pairs, 1.0);
  return shares;
}

void add_head(HeadAttention& sum, const HeadAttention& one) {
  sum.distance += one.distance;
  sum.entropy += one.entropy;
  sum.first_token += one.first_token;
  sum.previous_token += one.previous_token;
  sum.rotated_share += one.rotated_share;
}

/// While alive, calls body with the input of every layer's attention.
class Observation {
 public:
  Observation(Gpt& model, const std::function<void(size_t layer, const at::Tensor& x)>& body) : model_(model) {
    for (size_t layer = 0; layer < model->blocks.size(); ++layer) {
      model->blocks[layer]->attn->observer = [&body, layer](const at::Tensor& x) { body(layer, x); };
    }
  }
  Observation(const Observation&) = delete;
  Observation& operator=(const Observation&) = delete;
  ~Observation() {
    for (auto& block : model_->blocks) block->attn->observer = nullptr;
  }

 private:
  Gpt& model_;
};

}  // namespace

at::Tensor rotated_dims(const RopeSpec& spec) {
  auto rotated = at::zeros({spec.head_dim}, at::kBool);
  for (int dim = 0; dim < spec.head_dim; ++dim) rotated[dim] = spec.rotates_dim(dim);
  return rotated;
}

std::vector<HeadAttention> attention_of_heads(const at::Tensor& q, const at::Tensor& k, const at::Tensor& rotated,
                                              int64_t window) {
  const int64_t heads = q.size(1), queries_per_key = heads / k.size(1);
  const auto mask = rotated.to(q.device(), q.scalar_type());
  std::vector<HeadAttention> result;
  for (int64_t head = 0; head < heads; ++head) {
    result.push_back(attention_of_head(q[0][head], k[0][head / queries_per_key], mask, window));
  }
  return result;
}

std::vector<std::vector<double>> pair_shares_of_heads(const at::Tensor& q, const at::Tensor& k, const RopeSpec& spec,
                                                      int64_t window) {
  const int64_t heads = q.size(1), queries_per_key = heads / k.size(1);
  std::vector<std::vector<double>> shares;
  for (int64_t head = 0; head < heads; ++head)
    shares.push_back(pair_shares_of_head(q[0][head], k[0][head / queries_per_key], spec, window));
  return shares;
}

ShiftChange shift_change(const at::Tensor& q, const at::Tensor& k, const at::Tensor& shifted_q, const at::Tensor& shifted_k) {
  const int64_t heads = q.size(1), queries_per_key = heads / k.size(1), time = q.size(2);
  const double scale = 1 / std::sqrt(static_cast<double>(q.size(3)));
  ShiftChange change;
  for (int64_t head = 0; head < heads; ++head) {
    for_query_blocks(time, [&](int64_t first, int64_t count, int64_t keys) {
      const auto logits = [&](const at::Tensor& queries, const at::Tensor& all_keys) {
        const auto left = queries[0][head].narrow(0, first, count).to(at::kDouble);
        const auto right = all_keys[0][head / queries_per_key].narrow(0, 0, keys).to(at::kDouble);
        return at::mm(left, right.t()).mul_(scale).masked_fill_(hidden_keys(first, count, keys, /*window=*/0, q.device()), 0.0);
      };
      const auto before = logits(q, k);
      change.max_logit = std::max(change.max_logit, before.abs().max().item<double>());
      change.max_change = std::max(change.max_change, (logits(shifted_q, shifted_k) - before).abs().max().item<double>());
    });
  }
  return change;
}

AttentionMeasures measure_attention(Gpt& model, const at::Tensor& windows, const std::vector<int64_t>& shifts) {
  const at::NoGradGuard no_grad;
  const WithoutTf32 exact;
  const int64_t count = windows.size(0);
  AttentionMeasures measures;
  measures.heads.resize(model->blocks.size());
  measures.pair_shares.resize(model->blocks.size());
  measures.shifts.resize(shifts.size());
  int64_t window = 0;
  const std::function<void(size_t, const at::Tensor&)> look = [&](size_t layer, const at::Tensor& given) {
    auto& attention = model->blocks[layer]->attn;
    const RopeSpec& spec = attention->rotary->spec();
    const auto x = given.to(at::kFloat);
    const auto heads_at = [&](int64_t position) {
      const auto table = spec.none() ? ops::RopeTable() : ops::make_rope_table(spec, x.size(1), x.device(), position);
      auto heads = attention->heads(x, spec.none() ? nullptr : &table);
      heads.k = attention->offset_keys(heads.k);
      return heads;
    };
    const auto here = heads_at(0);
    const auto heads = attention_of_heads(here.q, here.k, rotated_dims(spec), attention->window());
    auto& sums = measures.heads[layer];
    sums.resize(heads.size());
    for (size_t head = 0; head < heads.size(); ++head) add_head(sums[head], heads[head]);
    const auto shares = pair_shares_of_heads(here.q, here.k, spec, attention->window());
    auto& share_sums = measures.pair_shares[layer];
    share_sums.resize(shares.size());
    for (size_t head = 0; head < shares.size(); ++head) {
      share_sums[head].resize(shares[head].size());
      for (size_t pair = 0; pair < shares[head].size(); ++pair) share_sums[head][pair] += shares[head][pair];
    }
    for (size_t i = 0; window == 0 && i < shifts.size(); ++i) {
      const auto shifted = heads_at(shifts[i]);
      const auto change = shift_change(here.q, here.k, shifted.q, shifted.k);
      measures.shifts[i].max_change = std::max(measures.shifts[i].max_change, change.max_change);
      measures.shifts[i].max_logit = std::max(measures.shifts[i].max_logit, change.max_logit);
    }
  };
  const Observation observation(model, look);
  for (; window < count; ++window) model->logits(windows.narrow(0, window, 1));
  for (size_t layer = 0; layer < measures.heads.size(); ++layer) {
    const auto n = static_cast<double>(count * model->order().passes_of(static_cast<int>(layer)));
    for (auto& head : measures.heads[layer]) {
      head = {head.distance / n, head.entropy / n, head.first_token / n, head.previous_token / n, head.rotated_share / n};
    }
    for (auto& head : measures.pair_shares[layer]) {
      for (double& share : head) share /= n;
    }
  }
  return measures;
}

}  // namespace pgolf
