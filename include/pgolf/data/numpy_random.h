// NumPy's random numbers in plain integers: the same seed gives the same numbers as numpy.random.Generator(PCG64(seed)).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace pgolf {

/// SeedSequence and PCG64 (XSL-RR 128/64, O'Neill 2014) with the methods of Generator that the shuffled loader needs. Each
/// comment names NumPy's method whose numbers, and whose use of the generator, are meant.
class NumpyRandom {
 public:
  explicit NumpyRandom(uint32_t seed);

  /// random(): 53 bits, in [0, 1).
  double uniform();

  /// integers(count): in 0 .. count-1, count >= 1. Lemire's method on 32 bits (arXiv 1805.10941); count = 1 draws nothing.
  uint32_t below(uint32_t count);

  /// permutation(count): Fisher-Yates from the end, each index by masked rejection, not by below().
  std::vector<uint32_t> permutation(uint32_t count);

  /// choice(weights.size(), p=weights / total): an index. weights: not negative, of sum total > 0.
  size_t choice(std::span<const double> weights, double total);

 private:
  __extension__ typedef unsigned __int128 Word;

  uint64_t next64();
  uint32_t next32();  ///< the low half of a 64-bit number, then its high half

  Word state_, increment_;
  bool has_half_ = false;
  uint32_t half_ = 0;
};

}  // namespace pgolf
