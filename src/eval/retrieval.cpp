#include "pgolf/eval/retrieval.h"

#include <torch/types.h>

#include <limits>
#include <random>

#include "pgolf/base/error.h"
#include "pgolf/ops/cross_entropy.h"
#include "statistics.h"

namespace pgolf {
namespace {

constexpr int64_t kMinDistance = 8;
constexpr int64_t kKey = 4, kMarked = 2 * kKey;  // tokens of a key; of a marker of the same length and a key

/// Portable uniform draws; those of std distributions differ between standard libraries.
class TokenSampler {
 public:
  /// numbers: identify the purpose, so that each one has its own random stream.
  TokenSampler(std::span<const int64_t> tokens, uint64_t seed, std::initializer_list<int64_t> numbers) : tokens_(tokens) {
    std::vector<uint32_t> words;
    const auto add = [&words](uint64_t number) {
      words.push_back(static_cast<uint32_t>(number));
      words.push_back(static_cast<uint32_t>(number >> 32));
    };
    add(seed);
    for (const int64_t number : numbers) add(static_cast<uint64_t>(number));
    std::seed_seq sequence(words.begin(), words.end());
    random_.seed(sequence);
  }

  void fill(int64_t* out, int64_t count) {
    const uint64_t n = tokens_.size(), largest = std::numeric_limits<uint64_t>::max(), limit = largest - largest % n;
    for (int64_t i = 0; i < count; ++i) {
      uint64_t drawn;
      do drawn = random_();
      while (drawn >= limit);
      out[i] = tokens_[drawn % n];
    }
  }

 private:
  std::span<const int64_t> tokens_;
  std::mt19937_64 random_;
};

/// sequences [items, T + 1], of which the last `scored` tokens are targets.
RetrievalItems with_last_as_targets(const at::Tensor& sequences, int64_t scored) {
  const int64_t inputs = sequences.size(1) - 1;
  return {sequences.narrow(1, 0, inputs), sequences.narrow(1, inputs + 1 - scored, scored)};
}

/// [items, 2] float64 on the CPU: accuracy and mean loss of each item's targets.
at::Tensor item_scores(const at::Tensor& logits, const at::Tensor& targets) {
  const auto shares = (logits.argmax(-1) == targets).to(at::kDouble).mean(1);
  const auto losses = ops::softcap_token_losses(logits.flatten(0, 1), targets.flatten(), /*cap=*/0, OpsPath::fast)
                          .view(targets.sizes())
                          .to(at::kDouble)
                          .mean(1);
  return at::stack({shares, losses}, 1).to(at::kCPU);
}

RetrievalScore score_of(const at::Tensor& scores) {
  const auto shares = scores.select(1, 0).contiguous();
  const int64_t items = scores.size(0);
  return {items, shares.mean().item<double>(), standard_error_of_mean({shares.data_ptr<double>(), static_cast<size_t>(items)}),
          scores.select(1, 1).mean().item<double>()};
}

std::vector<int64_t> powers_of_two(int64_t from, int64_t largest) {
  std::vector<int64_t> powers;
  for (; from <= largest; from *= 2) powers.push_back(from);
  return powers;
}

}  // namespace

std::vector<int64_t> induction_distances(int64_t seq_len) {
  return powers_of_two(kMinDistance, seq_len / 2);
}

std::vector<int64_t> passkey_distances(int64_t seq_len) {
  return powers_of_two(kMinDistance, seq_len - kMarked);
}

std::vector<int64_t> ordinary_tokens(const Tokenizer& tokenizer) {
  std::vector<int64_t> ids;
  for (int id = 0; id < tokenizer.vocab_size(); ++id) {
    const bool special = tokenizer.is_control(id) || tokenizer.is_byte(id) || tokenizer.is_unknown(id) || tokenizer.is_unused(id);
    if (!special) ids.push_back(id);
  }
  if (ids.empty())
    throw Error(ExitCode::bad_input, tokenizer.path().string() + " has no pieces that random sequences can be drawn from");
  return ids;
}

RetrievalItems induction_items(std::span<const int64_t> tokens, int bos_id, int64_t distance, int64_t items, uint64_t seed) {
  TokenSampler draw(tokens, seed, {0, distance});
  auto sequences = at::empty({items, 2 * distance + 1}, at::kLong);
  for (int64_t i = 0; i < items; ++i) {
    auto* row = sequences[i].data_ptr<int64_t>();
    row[0] = bos_id;
    draw.fill(row + 1, distance);
    std::copy_n(row + 1, distance, row + 1 + distance);
  }
  return with_last_as_targets(sequences, distance - 1);
}

RetrievalItems passkey_items(std::span<const uint16_t> text, std::span<const int64_t> tokens, int64_t seq_len, int64_t distance,
                             int64_t items, uint64_t seed) {
  TokenSampler draw(tokens, seed, {1, seq_len, distance});
  auto sequences = at::empty({items, seq_len + 1}, at::kLong);
  const int64_t last_start = static_cast<int64_t>(text.size()) - (seq_len + 1);
  for (int64_t i = 0; i < items; ++i) {
    auto* row = sequences[i].data_ptr<int64_t>();
    const auto window = text.subspan(static_cast<size_t>(i * last_start / items), static_cast<size_t>(seq_len + 1));
    std::copy(window.begin(), window.end(), row);
    auto* end = row + seq_len + 1 - kMarked;
    draw.fill(end, kMarked);
    std::copy_n(end, kMarked, end - distance);
  }
  return with_last_as_targets(sequences, kKey);
}

RetrievalScore score_retrieval(const at::Tensor& logits, const at::Tensor& targets) {
  return score_of(item_scores(logits, targets));
}

RetrievalScore run_retrieval(Gpt& model, const RetrievalItems& items, int64_t batch_items, const at::Device& device) {
  const at::NoGradGuard no_grad;
  const int64_t count = items.inputs.size(0), time = items.inputs.size(1), scored = items.targets.size(1);
  std::vector<at::Tensor> scores;
  for (int64_t first = 0; first < count; first += batch_items) {
    const int64_t batch = std::min(batch_items, count - first);
    const auto logits = model->logits(items.inputs.narrow(0, first, batch).to(device));
    scores.push_back(item_scores(logits.narrow(1, time - scored, scored), items.targets.narrow(0, first, batch).to(device)));
  }
  return score_of(at::cat(scores));
}

}  // namespace pgolf
