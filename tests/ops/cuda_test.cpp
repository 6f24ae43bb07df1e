// The CUDA form of the fast path: on a device against the reference path there; on any machine the arithmetic of its threads
// (row_math.h) against the CPU kernels.
#include <cstring>
#include <random>
#include <typeinfo>

#include "../../src/ops/kernels/cuda/coverage.h"
#include "../../src/ops/kernels/cuda/row_math.h"
#include "ops/ops_testing.h"
#include "pgolf/ops/cross_entropy.h"
#include "pgolf/ops/mlp.h"
#include "pgolf/ops/residual.h"
#include "pgolf/ops/rms_norm.h"
#include "pgolf/ops/rope.h"
#ifdef PGOLF_WITH_CUDA
#include <ATen/detail/CUDAHooksInterface.h>

#include "../../src/ops/kernels/cuda/kernels.h"
#endif

namespace pgolf::ops::testing {
namespace {

// On any machine. Rows are processed pack by pack, as the threads of a team do in parallel.

template <class T>
std::vector<T> random_row(int64_t width, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<T> row(static_cast<size_t>(width));
  for (auto& value : row) value = cuda::rounded<T>(normal(generator));
  return row;
}

/// row[...] = f(first element of the pack) for all packs of a row.
template <class T, class F>
void fill_packs(std::vector<T>& row, bool aligned, const F& f) {
  const auto width = static_cast<int64_t>(row.size());
  for (int64_t first = 0; first < width; first += cuda::kPack<T>) cuda::store_pack(row.data(), first, width, aligned, f(first));
}

/// The sum of f(first element of the pack) over all packs of a row.
template <class T, class F>
float sum_packs(int64_t width, const F& f) {
  float sum = 0;
  for (int64_t first = 0; first < width; first += cuda::kPack<T>) sum += f(first);
  return sum;
}

/// Equal up to the order of additions and, in bfloat16, its effect on a rounding.
template <class T>
void expect_close(const std::vector<T>& got, const std::vector<T>& expected, const char* what) {
  ASSERT_EQ(got.size(), expected.size());
  const float tolerance = sizeof(T) == 4 ? 1e-5f : 8e-3f;
  for (size_t i = 0; i < got.size(); ++i) {
    const float a = cuda::to_float(got[i]), b = cuda::to_float(expected[i]);
    ASSERT_NEAR(a, b, tolerance * std::max(1.0f, std::abs(b))) << what << " at " << i;
  }
}

template <class T>
void check_normalization(int64_t width, bool aligned) {
  SCOPED_TRACE(c10::str(sizeof(T), " bytes, width ", width, aligned ? ", aligned" : ""));
  const auto x = random_row<T>(width, 1), x0 = random_row<T>(width, 2), dy = random_row<T>(width, 3);
  const auto mix = random_row<float>(2 * width, 4);
  const auto load = [&](const std::vector<T>& row, int64_t first) { return cuda::load_pack(row.data(), first, width, aligned); };
  auto y = x, normed = x, dx = x, expected_y = x, expected_normed = x, expected_dx = x;
  constexpr float kFactor = 0.7f;
  float expected_r = 0;
  const auto& kernels = cpu_kernels<T>();
  kernels.residual_mix(x.data(), x0.data(), mix.data(), expected_y.data(), kFactor, expected_normed.data(), &expected_r, 1,
                       width);
  kernels.rms_norm_backward(dy.data(), expected_y.data(), &expected_r, kFactor, expected_dx.data(), 1, width);

  fill_packs(y, aligned, [&](int64_t first) {
    const auto a = load(x, first), a0 = load(x0, first);
    const auto m = cuda::load_floats<T>(mix.data(), first, width, aligned);
    const auto m0 = cuda::load_floats<T>(mix.data() + width, first, width, aligned);
    const auto sum = cuda::combined(m, a, m0, a0);
    const auto stored = cuda::as_stored(sum);
    for (int i = 0; i < cuda::kPack<T>; ++i) EXPECT_EQ(stored.elements[i], cuda::to_float(cuda::rounded<T>(sum.elements[i])));
    return sum;
  });
  expect_close(y, expected_y, "residual_mix");
  const float squares = sum_packs<T>(width, [&](int64_t first) { return cuda::dot(load(y, first), load(y, first)); });
  const float r = cuda::reciprocal_rms(squares, width);
  EXPECT_NEAR(r, expected_r, 1e-5f * expected_r);
  fill_packs(normed, aligned, [&](int64_t first) { return cuda::scaled(load(y, first), kFactor * r); });
  expect_close(normed, expected_normed, "rms_norm");
  const float product = sum_packs<T>(width, [&](int64_t first) { return cuda::dot(load(dy, first), load(y, first)); });
  const float along = cuda::norm_backward_coefficient(product, r, kFactor, width);
  fill_packs(dx, aligned, [&](int64_t first) { return cuda::combined(kFactor * r, load(dy, first), -along, load(y, first)); });
  expect_close(dx, expected_dx, "rms_norm_backward");
}

TEST(CudaRowMath, NormalizesAsTheCpuDoes) {
  for (const int64_t width : {5, 8, 64, 100, 513}) {
    check_normalization<float>(width, false);
    check_normalization<Bf16>(width, false);
  }
  for (const int64_t width : {8, 64, 512}) {
    check_normalization<float>(width, true);
    check_normalization<Bf16>(width, true);
  }
}

template <class T>
void check_rotation(int64_t dim, int64_t half, bool aligned, bool interleaved) {
  SCOPED_TRACE(c10::str(sizeof(T), " bytes, head_dim ", dim, ", rope_dims ", 2 * half, aligned ? ", aligned" : "",
                        interleaved ? ", interleaved" : ""));
  const auto x = random_row<T>(dim, 1), dy = random_row<T>(dim, 2);
  const auto cos = random_row<float>(half, 3), sin = random_row<float>(half, 4);
  const cuda::Angles angles{cos.data(), sin.data(), half, interleaved};
  const HeadShape shape{1, 1, dim};
  const auto head = [](auto* data) { return Heads<decltype(data)>{data, 0, 0, 0}; };
  const auto rotated_pack = [&](const std::vector<T>& row, int64_t first, float direction) {
    const auto own = cuda::load_pack(row.data(), first, dim, aligned);
    return cuda::rotated(own, row.data(), first, dim, aligned, angles, direction);
  };
  auto y = x, dx = x, expected_y = x, expected_dx = x;
  float r = 0;
  const float gain = 1.5f;
  const RotationTable table{cos.data(), sin.data(), half, interleaved};
  const auto& kernels = cpu_kernels<T>();
  kernels.norm_rotate(head(x.data()), head(expected_y.data()), &r, table, &gain, shape, 0, 1);
  kernels.norm_rotate_backward(head(dy.data()), head(x.data()), &r, table, &gain, head(expected_dx.data()), nullptr, shape, 0, 1);

  fill_packs(y, aligned, [&](int64_t first) { return cuda::scaled(rotated_pack(x, first, 1.0f), r * gain); });
  expect_close(y, expected_y, "rotation");
  const auto own = [&](int64_t first) { return cuda::load_pack(x.data(), first, dim, aligned); };
  const float product =
      r * sum_packs<T>(dim, [&](int64_t first) { return cuda::dot(rotated_pack(dy, first, -1.0f), own(first)); });
  fill_packs(dx, aligned, [&](int64_t first) {
    return cuda::combined(r * gain, rotated_pack(dy, first, -1.0f), -r * gain * product * r / static_cast<float>(dim),
                          own(first));
  });
  expect_close(dx, expected_dx, "rotation back");
}

TEST(CudaRowMath, RotatesAsTheCpuDoes) {
  for (const int64_t dim : {10, 32, 64, 128}) {
    for (const int64_t half : {int64_t{0}, int64_t{1}, int64_t{3}, int64_t{8}, dim / 2}) {
      if (2 * half > dim) continue;
      for (const bool aligned : {false, true}) {
        for (const bool interleaved : {false, true}) {
          check_rotation<float>(dim, half, aligned, interleaved);
          check_rotation<Bf16>(dim, half, aligned, interleaved);
        }
      }
    }
  }
}

TEST(CudaRowMath, SquaresAndSaturatesAsTheCpuDoes) {
  const auto x = random_row<float>(100, 1), dy = random_row<float>(100, 2);
  auto y = x, dx = x, expected_y = x, expected_dx = x;
  constexpr float kSlopeSquared = 0.25f;
  cpu_kernels<float>().leaky_squared(x.data(), kSlopeSquared, expected_y.data(), 100);
  cpu_kernels<float>().leaky_squared_backward(dy.data(), x.data(), kSlopeSquared, expected_dx.data(), 100);
  for (size_t i = 0; i < x.size(); ++i) {
    y[i] = cuda::leaky_squared(x[i], kSlopeSquared);
    dx[i] = cuda::leaky_squared_backward(dy[i], x[i], kSlopeSquared);
  }
  expect_close(y, expected_y, "leaky_squared");
  expect_close(dx, expected_dx, "leaky_squared_backward");
  EXPECT_TRUE(std::isnan(cuda::leaky_squared(NAN, kSlopeSquared)));
  auto dup = x, expected_dup = x;
  cpu_kernels<float>().swiglu(x.data(), dy.data(), expected_y.data(), 100);
  cpu_kernels<float>().swiglu_backward(dx.data(), x.data(), dy.data(), expected_dx.data(), expected_dup.data(), 100);
  for (size_t i = 0; i < x.size(); ++i) {
    y[i] = cuda::swiglu(x[i], dy[i]);
    const auto gradients = cuda::swiglu_backward(dx[i], x[i], dy[i]);
    dx[i] = gradients.gate;
    dup[i] = gradients.up;
  }
  expect_close(y, expected_y, "swiglu");
  expect_close(dx, expected_dx, "swiglu_backward, gate");
  expect_close(dup, expected_dup, "swiglu_backward, up");
  EXPECT_TRUE(std::isnan(cuda::swiglu(NAN, 1)));
  for (const double at : {-50.0, -9.0, -1.0, -1e-3, 0.0, 1e-6, 0.3, 4.0, 9.0, 15.0}) {
    const auto t = cuda::tanh_of(static_cast<float>(at));
    const double exact = std::tanh(static_cast<double>(static_cast<float>(at))), cosh = std::cosh(std::min(std::abs(at), 40.0));
    EXPECT_NEAR(t.value, exact, 4e-7 * std::abs(exact));
    if (std::abs(at) < 20) {
      EXPECT_NEAR(t.derivative, 1 / (cosh * cosh), 2e-6 / (cosh * cosh)) << at;
    }
  }
}

TEST(CudaRowMath, RoundsToNearestEvenAndKeepsNan) {
  for (const auto& [value, nearest] : {std::pair<float, float>{1.00390625f, 1.0f},
                                       {1.01171875f, 1.015625f},
                                       {1.00390637f, 1.0078125f},
                                       {-1.00390625f, -1.0f},
                                       {0.0f, 0.0f}}) {
    EXPECT_EQ(cuda::to_float(cuda::rounded<Bf16>(value)), nearest);
  }
  EXPECT_TRUE(std::isnan(cuda::to_float(cuda::rounded<Bf16>(NAN))));
  const uint32_t pair = cuda::bfloat16_pair(1.0f, -2.0f);
  EXPECT_EQ(pair, 0xc0003f80u);
}

TEST(CudaRowMath, StoresNothingBeyondTheRow) {
  for (const bool aligned : {false, true}) {
    std::vector<float> row(8, -1.0f);
    cuda::store_pack(row.data(), 4, 6, aligned, cuda::pack_of<float>([](int i) { return static_cast<float>(i); }));
    EXPECT_EQ(row, (std::vector<float>{-1, -1, -1, -1, 0, 1, -1, -1}));
    EXPECT_EQ(cuda::load_pack(row.data(), 4, 6, aligned).elements[3], 0.0f);
  }
}

TEST(CudaLimits, NeverMorePartialSumsThanRows) {
  EXPECT_EQ(cuda::partial_sums(0, 512), 0);
  EXPECT_EQ(cuda::partial_sums(3, 512), 3);
  for (const int64_t width : {1, 8, 512, 4096}) {
    EXPECT_LE(cuda::partial_sums(1 << 20, width) * width, int64_t{1} << 22);
    EXPECT_GE(cuda::partial_sums(1 << 20, width), 1024);
  }
}

#ifdef PGOLF_WITH_CUDA
TEST(CudaBuild, CarriesTheKernelsAndLibTorchsCudaLibrary) {
  EXPECT_NE(&cuda::Kernels<float>::rms_norm, nullptr);
  EXPECT_NE(&cuda::Kernels<Bf16>::norm_rotate_backward, nullptr);
  EXPECT_NE(&cuda::Kernels<float>::exclude_value_backward, nullptr);
  EXPECT_NE(&cuda::Kernels<float>::scale, nullptr);
  EXPECT_NE(&cuda::Kernels<Bf16>::softcap_cross_entropy, nullptr);
  // A linker that drops libtorch_cuda as unused leaves the interface's own empty hooks.
  const auto& hooks = at::detail::getCUDAHooks();
  EXPECT_NE(typeid(hooks), typeid(at::CUDAHooksInterface));
}
#endif

// On a device.

class Cuda : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!torch::cuda::is_available()) GTEST_SKIP() << "no CUDA device";
  }
};

at::Tensor random_cuda(at::IntArrayRef shape, int64_t seed) {
  return random_tensor(shape, seed).to(at::kCUDA);
}

void check_rms_norm(int64_t rows, int64_t width) {
  const PathOp op = [](OpsPath path) { return [path](const Tensors& in) { return Tensors{rms_norm(in[0], path, 0.5)}; }; };
  expect_fast_equals_reference(op, {random_cuda({3, rows, width}, width)});
}

TEST_F(Cuda, RmsNorm) {
  for (const int64_t width : {7, 100, 512, 2048}) check_rms_norm(33, width);
}

void check_leaky_squared(double slope, at::IntArrayRef shape) {
  const PathOp op = [slope](OpsPath path) {
    return [slope, path](const Tensors& in) { return Tensors{leaky_squared(in[0], slope, path)}; };
  };
  expect_fast_equals_reference(op, {random_cuda(shape, 1)});
}

TEST_F(Cuda, LeakySquared) {
  for (const double slope : {0.0, 0.5}) {
    check_leaky_squared(slope, {3, 5, 100});
    check_leaky_squared(slope, {1, 131, 33});
  }
}

void check_swiglu(double scale, at::IntArrayRef shape) {
  const PathOp op = [](OpsPath path) { return [path](const Tensors& in) { return Tensors{swiglu(in[0], in[1], path)}; }; };
  expect_fast_equals_reference(op, {random_cuda(shape, 1) * scale, random_cuda(shape, 2)});
}

TEST_F(Cuda, Swiglu) {
  check_swiglu(1, {3, 5, 100});
  check_swiglu(20, {1, 131, 33});
}

void check_residual_stream(int64_t batch, int64_t time, int64_t width) {
  SCOPED_TRACE(c10::str("B=", batch, " T=", time, " C=", width));
  const PathOp mix = [](OpsPath path) {
    return [path](const Tensors& in) { return Tensors{residual_mix(in[0], in[1], in[2], path)}; };
  };
  const PathOp mix_norm = [](OpsPath path) {
    return [path](const Tensors& in) {
      const auto outputs = residual_mix_norm(in[0], in[1], in[2], path, 0.5);
      return Tensors{outputs.x, outputs.normed};
    };
  };
  const PathOp add = [](OpsPath path) {
    return [path](const Tensors& in) { return Tensors{scaled_add(in[0], in[2], in[1], path)}; };
  };
  const PathOp add_norm = [](OpsPath path) {
    return [path](const Tensors& in) {
      const auto outputs = scaled_add_norm(in[0], in[2], in[1], path, 0.5);
      return Tensors{outputs.x, outputs.normed};
    };
  };
  const auto x = random_cuda({batch, time, width}, 1), other = random_cuda({batch, time, width}, 2);
  for (const auto& op : {mix, mix_norm}) expect_fast_equals_reference(op, {x, other, random_cuda({2, width}, 3)}, 2);
  for (const auto& op : {add, add_norm}) expect_fast_equals_reference(op, {x, other, random_cuda({width}, 4)}, 2);
}

TEST_F(Cuda, ResidualStream) {
  for (const auto& [batch, time, width] :
       {std::tuple<int, int, int>{1, 1, 1000}, {3, 33, 100}, {3, 33, 128}, {1, 5000, 64}, {3, 411, 512}, {3, 33, 2048}}) {
    check_residual_stream(batch, time, width);
  }
}

TEST_F(Cuda, RowsThatAreNotOn16ByteBoundaries) {
  const auto x = random_cuda({1, 33 * 64 + 1}, 1).to(at::kBFloat16).view(-1).narrow(0, 1, 33 * 64).view({33, 64});
  EXPECT_LE(distance(rms_norm(x, OpsPath::fast), rms_norm(x, OpsPath::reference)), 8e-3);
  const auto y = leaky_squared(x, 0, OpsPath::fast);
  EXPECT_LE(distance(y, leaky_squared(x, 0, OpsPath::reference)), 8e-3);
}

void check_qk(const RopeSpec& spec, int64_t time, bool qk_norm) {
  SCOPED_TRACE(c10::str("T=", time, " D=", spec.head_dim, " R=", spec.rope_dims, " style ", static_cast<int>(spec.style),
                        " select ", static_cast<int>(spec.select), " norm ", qk_norm));
  RopeTable table;
  if (!spec.none()) table = make_rope_table(spec, time, at::kCUDA, 3);
  const RopeTable* const used = spec.none() ? nullptr : &table;
  const PathOp op = [&](OpsPath path) {
    return [&, path](const Tensors& in) {
      const auto heads = in[0].unflatten(-1, {6, spec.head_dim});  // four query heads and two key heads of one projection
      const auto [q, k] = qk_norm_rope_gain(heads.narrow(2, 0, 4), heads.narrow(2, 4, 2), in[1], used, path, qk_norm);
      return Tensors{q, k};
    };
  };
  expect_fast_equals_reference(op, {random_cuda({3, time, 6 * spec.head_dim}, 1), random_cuda({4}, 2) + 1.5}, 1);
}

TEST_F(Cuda, QkNormRopeGain) {
  for (const int head_dim : {32, 64, 128}) {
    for (const int rope_dims : {0, 2, 6, 16, head_dim}) {
      for (const int64_t time : {1, 37, 1500}) check_qk({head_dim, rope_dims}, time, true);
      RopeSpec spec{head_dim, rope_dims};
      spec.style = RopeStyle::interleaved;
      check_qk(spec, 37, true);
      spec.select = RopeSelect::low;
      check_qk(spec, 37, false);
    }
  }
}

void check_cross_entropy(int64_t rows, int64_t vocab, double cap, double scale) {
  SCOPED_TRACE(c10::str(rows, " x ", vocab, ", cap ", cap, ", logits of size ", scale));
  const auto targets = at::randint(vocab, {rows}, at::make_generator<at::CPUGeneratorImpl>(7), at::kLong).to(at::kCUDA);
  const PathOp op = [&](OpsPath path) {
    return [&, path](const Tensors& in) { return Tensors{softcap_cross_entropy(in[0], targets, cap, path)}; };
  };
  expect_fast_equals_reference(op, {random_cuda({rows, vocab}, 1) * scale});
}

TEST_F(Cuda, SoftcapCrossEntropy) {
  for (const auto& [rows, vocab] :
       {std::pair<int64_t, int64_t>{1, 1000}, {5, 1024}, {99, 1000}, {131, 17}, {67, 5000}, {9, 16384}}) {
    for (const double cap : {30.0, 2.0, 0.0}) {
      for (const double scale : {0.01, 1.0, 40.0}) check_cross_entropy(rows, vocab, cap, scale);
    }
  }
}

/// What scripts/gpu_check.sh runs under compute-sanitizer, where everything takes long: rows with and without a rest of a pack.
TEST_F(Cuda, EveryKernelOnce) {
  for (const int64_t width : {36, 64}) {
    check_rms_norm(3, width);
    check_leaky_squared(0.5, {3, 5, width});
    check_swiglu(1, {3, 5, width});
    check_residual_stream(2, 5, width);
    check_cross_entropy(5, width, 30.0, 1.0);
  }
  check_qk({32, 6}, 5, true);
  check_qk({36, 36}, 5, true);
}

TEST_F(Cuda, SoftcapCrossEntropyOfATargetOutsideOfTheVocabularyIsNan) {
  for (const int64_t bad : {-100, -1, 50}) {
    const auto targets = at::tensor({int64_t{3}, bad}).to(at::kCUDA);
    EXPECT_TRUE(softcap_cross_entropy(at::zeros({2, 50}, at::kCUDA), targets, 30.0, OpsPath::fast).isnan().item<bool>());
  }
}

TEST_F(Cuda, ResultsAreTheSameEveryTime) {
  const auto run = [] {
    const Op op = [](const Tensors& in) {
      const auto outputs = residual_mix_norm(in[0], in[1], in[2], OpsPath::fast);
      return Tensors{outputs.x, outputs.normed};
    };
    return differentiate(op, {random_cuda({4, 1500, 96}, 1), random_cuda({4, 1500, 96}, 2), random_cuda({2, 96}, 3)}).gradients;
  };
  const auto first = run(), second = run();
  for (size_t i = 0; i < first.size(); ++i) EXPECT_TRUE(first[i].equal(second[i])) << i;
}

TEST_F(Cuda, LongerRowsTakeTheReferencePath) {
  const auto x = random_cuda({2, 3, 5000}, 1);
  EXPECT_TRUE(rms_norm(x, OpsPath::fast).equal(rms_norm(x, OpsPath::reference)));
  const auto wide = random_cuda({1, 2, 1, 300}, 3);
  EXPECT_TRUE(qk_norm_rope_gain(wide, wide, at::ones({1}, at::kCUDA), nullptr, OpsPath::fast)
                  .first.equal(qk_norm_rope_gain(wide, wide, at::ones({1}, at::kCUDA), nullptr, OpsPath::reference).first));
}

}  // namespace
}  // namespace pgolf::ops::testing
