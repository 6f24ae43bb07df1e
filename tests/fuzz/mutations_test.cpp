// What libFuzzer does for hours (run.py), for a moment and without it: seeds and changed seeds, the same ones every time. With
// PGOLF_FUZZ_SECONDS for so long, all targets together.
#include <gtest/gtest.h>

#include <chrono>
#include <random>

#include "targets.h"

namespace pgolf::fuzz {
namespace {

class Mutations {
 public:
  explicit Mutations(std::vector<Bytes> seeds) : pool_(std::move(seeds)) {}

  Bytes next() {
    Bytes input = pool_[below(pool_.size())];
    for (size_t changes = 1 + below(4); changes > 0; --changes) change(input);
    // Some changed inputs become starting points.
    if (below(64) == 0 && pool_.size() < 256) pool_.push_back(input);
    return input;
  }

 private:
  size_t below(size_t limit) { return limit == 0 ? 0 : random_() % limit; }

  void change(Bytes& input) {
    const size_t at = below(input.size() + 1);
    const auto from = input.begin() + static_cast<std::ptrdiff_t>(at);
    const size_t length = std::min(1 + below(8), input.size() - at);
    switch (below(6)) {
      case 0:
        if (at < input.size()) input[at] ^= static_cast<std::byte>(1u << below(8));
        return;
      case 1:
        if (at < input.size()) input[at] = interesting();
        return;
      case 2:
        input.insert(from, interesting());
        return;
      case 3:
        input.erase(from, from + static_cast<std::ptrdiff_t>(length));
        return;
      case 4: {
        const Bytes part(from, from + static_cast<std::ptrdiff_t>(length));
        const auto to = input.begin() + static_cast<std::ptrdiff_t>(below(input.size() + 1));
        input.insert(to, part.begin(), part.end());
        return;
      }
      default: {
        const Bytes& other = pool_[below(pool_.size())];
        if (!other.empty())
          input.insert(from, other.begin(), other.begin() + static_cast<std::ptrdiff_t>(1 + below(other.size())));
      }
    }
  }

  std::byte interesting() {
    constexpr uint8_t values[] = {0, 1, 0x7f, 0x80, 0xff, '"', '{', '}', '[', ']', '\n', '-', '0', '9', 'e', '\\', '='};
    return static_cast<std::byte>(below(2) == 0 ? values[below(std::size(values))] : below(256));
  }

  std::vector<Bytes> pool_;
  std::mt19937 random_{1};
};

class Fuzz : public ::testing::TestWithParam<const char*> {};

TEST_P(Fuzz, AnyInputIsReadOrRefused) {
  const Target& target = *find_target(GetParam());
  const auto seeds = target.seeds();
  for (const auto& seed : seeds) target.read(seed);
  const char* const seconds = std::getenv("PGOLF_FUZZ_SECONDS");
  const double limit = (seconds != nullptr ? std::atof(seconds) : 1.0) / static_cast<double>(targets().size());
  Mutations mutations(seeds);
  const auto start = std::chrono::steady_clock::now();
  int64_t inputs = 0;
  while (std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() < limit) {
    target.read(mutations.next());
    ++inputs;
  }
  std::printf("%s: %lld inputs\n", target.name, static_cast<long long>(inputs));
  EXPECT_GT(inputs, 0);
}

std::vector<const char*> names() {
  std::vector<const char*> all;
  for (const Target& target : targets()) all.push_back(target.name);
  return all;
}

INSTANTIATE_TEST_SUITE_P(Targets, Fuzz, ::testing::ValuesIn(names()), [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace pgolf::fuzz
