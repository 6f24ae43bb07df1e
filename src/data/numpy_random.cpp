#include "pgolf/data/numpy_random.h"

#include <array>
#include <bit>
#include <numeric>
#include <utility>

namespace pgolf {
namespace {

/// SeedSequence (O'Neill's seed_seq_fe): the hash of successive words, whose constant changes with each.
class WordHash {
 public:
  WordHash(uint32_t constant, uint32_t multiplier) : constant_(constant), multiplier_(multiplier) {}

  uint32_t operator()(uint32_t value) {
    value ^= constant_;
    constant_ *= multiplier_;
    value *= constant_;
    return value ^ (value >> 16);
  }

 private:
  uint32_t constant_, multiplier_;
};

uint32_t mixed(uint32_t x, uint32_t y) {
  const uint32_t value = 0xca01f9ddu * x - 0x4973f715u * y;
  return value ^ (value >> 16);
}

/// SeedSequence(seed).generate_state(4, uint64).
std::array<uint64_t, 4> seed_words(uint32_t seed) {
  std::array<uint32_t, 4> pool;
  WordHash hash(0x43b0d7e5u, 0x931e8875u);
  for (size_t i = 0; i < pool.size(); ++i) pool[i] = hash(i == 0 ? seed : 0);
  for (size_t from = 0; from < pool.size(); ++from) {
    for (size_t to = 0; to < pool.size(); ++to) {
      if (from != to) pool[to] = mixed(pool[to], hash(pool[from]));
    }
  }
  std::array<uint64_t, 4> words;
  WordHash output(0x8b51f9ddu, 0x58f38dedu);
  for (size_t i = 0; i < words.size(); ++i) {
    const uint64_t low = output(pool[2 * i % pool.size()]);
    words[i] = low | uint64_t{output(pool[(2 * i + 1) % pool.size()])} << 32;
  }
  return words;
}

}  // namespace

NumpyRandom::NumpyRandom(uint32_t seed) {
  const auto words = seed_words(seed);
  const auto word = [](uint64_t high, uint64_t low) { return Word{high} << 64 | low; };
  increment_ = word(words[2], words[3]) << 1 | 1;
  // From state 0 a step, the seed added, and another step.
  state_ = increment_ + word(words[0], words[1]);
  next64();
}

uint64_t NumpyRandom::next64() {
  constexpr Word multiplier = Word{0x2360ed051fc65da4u} << 64 | 0x4385df649fccf645u;
  state_ = state_ * multiplier + increment_;
  const auto high = static_cast<uint64_t>(state_ >> 64), low = static_cast<uint64_t>(state_);
  return std::rotr(high ^ low, static_cast<int>(high >> 58));
}

uint32_t NumpyRandom::next32() {
  has_half_ = !has_half_;
  if (!has_half_) return half_;
  const uint64_t both = next64();
  half_ = static_cast<uint32_t>(both >> 32);
  return static_cast<uint32_t>(both);
}

double NumpyRandom::uniform() {
  return static_cast<double>(next64() >> 11) * 0x1p-53;
}

uint32_t NumpyRandom::below(uint32_t count) {
  if (count == 1) return 0;
  const uint32_t threshold = -count % count;  // 2^32 mod count
  uint64_t product = uint64_t{next32()} * count;
  while (static_cast<uint32_t>(product) < threshold) product = uint64_t{next32()} * count;
  return static_cast<uint32_t>(product >> 32);
}

std::vector<uint32_t> NumpyRandom::permutation(uint32_t count) {
  std::vector<uint32_t> order(count);
  std::iota(order.begin(), order.end(), 0);
  for (uint32_t last = count; last-- > 1;) {
    const uint32_t mask = std::bit_ceil(last + 1) - 1;
    uint32_t index = next32() & mask;
    while (index > last) index = next32() & mask;
    std::swap(order[last], order[index]);
  }
  return order;
}

size_t NumpyRandom::choice(std::span<const double> weights, double total) {
  const double drawn = uniform();
  double sum = 0, cumulative = 0;
  for (const double weight : weights) sum += weight / total;
  size_t index = 0;
  for (; index + 1 < weights.size(); ++index) {
    cumulative += weights[index] / total;
    if (cumulative / sum > drawn) break;
  }
  return index;
}

}  // namespace pgolf
