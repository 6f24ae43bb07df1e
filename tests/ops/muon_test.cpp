// muon_update_: the reference against the formula in float64, the fast form against both.
#include "pgolf/ops/muon.h"

#include "../../src/ops/muon_batched.h"
#include "ops/ops_testing.h"

namespace pgolf::ops::testing {
namespace {

struct Shape {
  int64_t rows, columns;
};

/// The same matrices each time.
std::vector<MuonMatrix> make_matrices(const std::vector<Shape>& shapes) {
  std::vector<MuonMatrix> matrices;
  int64_t seed = 0;
  for (const auto& [rows, columns] : shapes) {
    const auto parameter = random_tensor({rows, columns}, ++seed), gradient = random_tensor({rows, columns}, ++seed) * 1e-3;
    matrices.push_back({parameter, gradient, random_tensor({rows, columns}, ++seed) * 2e-3});
  }
  return matrices;
}

using Update = std::function<void(const std::vector<MuonMatrix>&, const MuonStep&)>;

/// The changes of the parameters by two steps, computed in `dtype`.
std::vector<at::Tensor> changes(const std::vector<Shape>& shapes, at::ScalarType dtype, const Update& update) {
  const auto before = make_matrices(shapes), after = make_matrices(shapes);
  for (int i = 0; i < 2; ++i) update(after, {/*momentum=*/0.9, /*lr=*/0.5, /*backend_steps=*/5, dtype});
  std::vector<at::Tensor> result;
  for (size_t i = 0; i < before.size(); ++i) result.push_back(after[i].parameter - before[i].parameter);
  return result;
}

std::vector<at::Tensor> changes(const std::vector<Shape>& shapes, at::ScalarType dtype, OpsPath path) {
  return changes(shapes, dtype,
                 [path](const std::vector<MuonMatrix>& matrices, const MuonStep& step) { muon_update_(matrices, step, path); });
}

TEST(MuonUpdate, FastIsAsCloseToTheFormulaAsTheReference) {
  const std::vector<Shape> shapes{{32, 32}, {64, 160}, {160, 64}, {96, 96}, {256, 512}, {512, 256}, {100, 76}, {50, 130}};
  const auto exact = changes(shapes, at::kDouble, OpsPath::reference);
  const auto reference = changes(shapes, at::kBFloat16, OpsPath::reference);
  const auto fast = changes(shapes, at::kBFloat16, OpsPath::fast);
  const auto batched = changes(shapes, at::kBFloat16, batched_muon_update_);
  for (size_t i = 0; i < shapes.size(); ++i) {
    SCOPED_TRACE(c10::str(shapes[i].rows, " x ", shapes[i].columns));
    EXPECT_LE(mean_distance(fast[i], exact[i]), 1.05 * mean_distance(reference[i], exact[i]));
    EXPECT_LE(mean_distance(batched[i], exact[i]), 1.05 * mean_distance(reference[i], exact[i]));
    EXPECT_LE(mean_distance(reference[i], exact[i]), 0.05) << "the comparison is meaningful";
  }
}

TEST(MuonUpdate, Float32IsTheReference) {
  const std::vector<Shape> shapes{{33, 20}, {20, 33}, {7, 7}, {20, 33}, {1, 5}, {5, 1}, {130, 67}, {96, 256}, {1, 1}};
  const auto expected = changes(shapes, at::kFloat, OpsPath::reference);
  const auto batched = changes(shapes, at::kFloat, batched_muon_update_), fast = changes(shapes, at::kFloat, OpsPath::fast);
  for (size_t i = 0; i < shapes.size(); ++i) {
    EXPECT_LE(distance(batched[i], expected[i]), 3e-5) << i;
    EXPECT_LE(distance(fast[i], expected[i]), 3e-5) << i;
  }
}

TEST(MuonUpdate, MomentumBuffersAreTheReferences) {
  const std::vector<Shape> shapes{{64, 96}, {96, 64}};
  const auto expected = make_matrices(shapes), got = make_matrices(shapes);
  muon_update_(expected, {0.95, 0.1, 5, at::kBFloat16}, OpsPath::reference);
  muon_update_(got, {0.95, 0.1, 5, at::kBFloat16}, OpsPath::fast);
  for (size_t i = 0; i < shapes.size(); ++i) EXPECT_LE(distance(got[i].momentum_buffer, expected[i].momentum_buffer), 1e-6);
}

TEST(MuonUpdate, UncoveredMatricesAreLeftToTheReference) {
  // One of float64 among others, which are covered.
  const auto matrices = [] {
    auto result = make_matrices({{64, 64}, {33, 20}, {96, 32}});
    auto& [parameter, gradient, buffer] = result[1];
    for (auto* const x : {&parameter, &gradient, &buffer}) *x = x->to(at::kDouble);
    return result;
  };
  const auto expected = matrices(), got = matrices();
  const MuonStep step{0.9, 0.5, 5, at::kFloat};
  muon_update_(expected, step, OpsPath::reference);
  muon_update_(got, step, OpsPath::fast);
  EXPECT_TRUE(got[1].parameter.equal(expected[1].parameter));
  for (const size_t i : {0, 2}) EXPECT_LE(distance(got[i].parameter, expected[i].parameter), 3e-5) << i;
}

TEST(MuonUpdate, BumpsVersions) {
  for (const auto path : {OpsPath::reference, OpsPath::fast}) {
    const auto matrices = make_matrices({{64, 64}});
    const auto before = matrices[0].parameter._version();
    muon_update_(matrices, {0.9, 0.1, 5, at::kBFloat16}, path);
    EXPECT_GT(matrices[0].parameter._version(), before);
  }
}

TEST(MuonUpdate, ThreadsDoNotChangeTheResult) {
  const int threads = at::get_num_threads();
  const std::vector<Shape> shapes{{64, 64}, {128, 64}, {64, 256}, {32, 96}, {96, 96}, {45, 70}};
  for (const auto dtype : {at::kBFloat16, at::kFloat}) {
    std::vector<std::vector<at::Tensor>> results;
    for (const int count : {1, 3}) {
      at::set_num_threads(count);
      results.push_back(changes(shapes, dtype, OpsPath::fast));
    }
    for (size_t i = 0; i < shapes.size(); ++i) EXPECT_TRUE(results[0][i].equal(results[1][i])) << i;
  }
  at::set_num_threads(threads);
}

TEST(MuonUpdate, ZeroGradientsStayFinite) {
  const auto matrices = make_matrices({{64, 64}});
  matrices[0].gradient.zero_();
  matrices[0].momentum_buffer.zero_();
  const auto before = matrices[0].parameter.clone();
  muon_update_(matrices, {0.9, 0.1, 5, at::kBFloat16}, OpsPath::fast);
  EXPECT_TRUE(matrices[0].parameter.equal(before));
}

}  // namespace
}  // namespace pgolf::ops::testing
