// The kernels of src/ops/kernels/cuda, compiled for the host and run by the emulation, against formulas in double.
//
//   build/bin/test_cuda_emulation [--size=quick|small|big] [--seed=N] [--seeds=N] [--report] [GoogleTest's flags]
//
//   --size    number of shapes: quick (default, run by ctest), small (most widths, a minute per seed), or big (also shapes for
//             which threads loop; some minutes per seed)
//   --seed    seed of the order of threads and of the data (1)
//   --seeds   repetitions of each test, each with its own seed (2)
//   --report  print the largest error of each comparison, as a fraction of its tolerance
//
// Ignore the sanitizer's warning about swapcontext: it is told of every switch.
#include <cstdio>
#include <cstdlib>
#include <map>

#include "testing.h"

/// Kernels allocate nothing, and leak detection fails where processes may not be traced.
extern "C" const char* __asan_default_options() {
  return "detect_leaks=0";
}

namespace pgolf::ops::cuda::testing {

Options options;
std::mt19937 generator;

namespace {

int64_t comparisons = 0;
std::map<std::string, double> largest_errors;

void parse(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const auto number = [&](size_t at) { return static_cast<unsigned>(std::strtoul(argv[i] + at, nullptr, 10)); };
    if (argument == "--size=quick") {
      options.size = Size::quick;
    } else if (argument == "--size=small") {
      options.size = Size::small;
    } else if (argument == "--size=big") {
      options.size = Size::big;
    } else if (argument.starts_with("--seed=")) {
      options.seed = number(7);
    } else if (argument.starts_with("--seeds=")) {
      options.seeds = number(8);
    } else if (argument == "--report") {
      options.report = true;
    } else {
      std::fprintf(stderr, "unknown argument %s; see the head of tests/cuda_emulation/main.cpp\n", argv[i]);
      std::exit(2);
    }
  }
}

void report() {
  const auto& counts = cuda_emulation::counts;
  std::printf("%ld comparisons; %ld launches, %ld threads, %ld barriers, %ld shuffles\n", static_cast<long>(comparisons),
              static_cast<long>(counts.launches), static_cast<long>(counts.threads), static_cast<long>(counts.barriers),
              static_cast<long>(counts.shuffles));
  if (!options.report) return;
  for (const auto& [what, error] : largest_errors) std::printf("%8.3f %s\n", error, what.c_str());
}

}  // namespace

void expect_close(const char* what, const std::vector<double>& got, const std::vector<double>& expected, double absolute,
                  double relative) {
  ASSERT_EQ(got.size(), expected.size()) << what;
  ++comparisons;
  double& largest = largest_errors[what];
  size_t wrong = 0, first = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    const bool same = got[i] == expected[i] || (std::isnan(got[i]) && std::isnan(expected[i]));
    const double error = same ? 0 : std::fabs(got[i] - expected[i]) / (relative * std::fabs(expected[i]) + absolute);
    if (!(error <= 1) && wrong++ == 0) first = i;
    if (error > largest) largest = error;
  }
  if (wrong > 0) {
    ADD_FAILURE() << what << ": " << wrong << " of " << got.size() << " wrong; number " << first << " is " << got[first]
                  << ", expected " << expected[first];
  }
}

void expect_equal(const char* what, const std::vector<double>& got, const std::vector<double>& expected) {
  expect_close(what, got, expected, 0, 0);
}

std::vector<double> summed(const Buffer<float>& partials, int64_t count, int64_t width) {
  EXPECT_EQ(partials.size(), count * width);
  return each(width, [&](int64_t i) {
    double sum = 0;
    for (int64_t p = 0; p < count; ++p) sum += partials.at(p * width + i);
    return sum;
  });
}

std::vector<double> reciprocal_rms_of(const std::vector<double>& x, int64_t width) {
  return each(static_cast<int64_t>(x.size()) / width, [&](int64_t row) {
    double squares = 0;
    for (int64_t i = 0; i < width; ++i) squares += x[row * width + i] * x[row * width + i];
    return 1 / std::sqrt(squares / width + kEps);
  });
}

std::vector<double> through_norm(const std::vector<double>& dy, const std::vector<double>& x, const std::vector<double>& r,
                                 int64_t width) {
  std::vector<double> result(x.size());
  for (size_t row = 0; row < r.size(); ++row) {
    const size_t first = row * width, end = first + width;
    double product = 0;
    for (size_t i = first; i < end; ++i) product += dy[i] * x[i];
    for (size_t i = first; i < end; ++i) result[i] = r[row] * dy[i] - x[i] * product * r[row] * r[row] * r[row] / width;
  }
  return result;
}

}  // namespace pgolf::ops::cuda::testing

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  pgolf::ops::cuda::testing::parse(argc, argv);
  const int result = RUN_ALL_TESTS();
  if (!::testing::GTEST_FLAG(list_tests)) pgolf::ops::cuda::testing::report();
  return result;
}
