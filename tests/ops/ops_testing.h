// Running an op with gradients, distances between results, and the fast path against the reference path.
#pragma once

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "pgolf/config/ops_path.h"

namespace pgolf::ops::testing {

using Tensors = std::vector<at::Tensor>;
/// Inputs to outputs; every input gets a gradient.
using Op = std::function<Tensors(const Tensors&)>;

inline at::Tensor random_tensor(at::IntArrayRef shape, int64_t seed) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(static_cast<uint64_t>(seed));
  return at::randn(shape, generator, at::TensorOptions().dtype(at::kDouble)).to(at::kFloat);
}

/// Of a linear layer: outputs are as large as inputs.
inline at::Tensor random_weight(int64_t out, int64_t in, int64_t seed) {
  return random_tensor({out, in}, seed) / std::sqrt(static_cast<double>(in));
}

inline Tensors cast(const Tensors& tensors, at::ScalarType dtype) {
  Tensors result;
  for (const auto& tensor : tensors) result.push_back(tensor.to(dtype));
  return result;
}

/// Random numbers that bfloat16 can hold (0.5 for a scalar), so that they are the same in every type.
inline at::Tensor weights_for(const at::Tensor& output, int64_t seed) {
  if (output.dim() == 0) return at::scalar_tensor(0.5, output.options());
  return random_tensor(output.sizes(), seed).to(at::kBFloat16).to(output.options());
}

struct Results {
  Tensors values, gradients;
};

/// The op's outputs, and the gradients of sum_i <w_i, output_i> with fixed random w_i. The sums are taken over transposed
/// outputs where that is possible, so that the incoming gradients are not contiguous.
inline Results differentiate(const Op& op, const Tensors& inputs) {
  Tensors leaves;
  for (const auto& input : inputs) leaves.push_back(input.detach().clone().requires_grad_());
  Results results;
  at::Tensor sum = at::zeros({}, at::kDouble);
  int64_t seed = 100;
  for (const auto& output : op(leaves)) {
    const auto transposed = output.dim() >= 3 ? output.transpose(1, 2) : output;
    sum = sum + (transposed * weights_for(transposed, ++seed)).to(at::kDouble).sum();
    results.values.push_back(output.detach());
  }
  sum.backward();
  for (const auto& leaf : leaves) results.gradients.push_back(leaf.grad());
  return results;
}

/// max |a - b| / max |b|.
inline double distance(const at::Tensor& a, const at::Tensor& b) {
  if (a.numel() == 0) return 0;
  return ((a.to(at::kDouble) - b.to(at::kDouble)).abs().max() / b.to(at::kDouble).abs().max().clamp_min(1e-30)).item<double>();
}

/// Root mean square of a - b over that of b.
inline double mean_distance(const at::Tensor& a, const at::Tensor& b) {
  return ((a.to(at::kDouble) - b.to(at::kDouble)).norm() / b.to(at::kDouble).norm().clamp_min(1e-30)).item<double>();
}

/// The largest distance between the gradients and central differences with `step`, relative to the largest gradient;
/// `inputs` may be of any floating type, at most `probes` entries per input are tried.
inline double numeric_gradient_distance(const Op& op, const Tensors& inputs, double step, int64_t probes = 12) {
  const auto analytic = differentiate(op, inputs).gradients;
  const auto objective = [&](const Tensors& at_inputs) {
    double sum = 0;
    int64_t seed = 100;
    for (const auto& output : op(at_inputs)) {
      const auto transposed = output.dim() >= 3 ? output.transpose(1, 2) : output;
      sum += (transposed.to(at::kDouble) * weights_for(transposed, ++seed).to(at::kDouble)).sum().item<double>();
    }
    return sum;
  };
  at::NoGradGuard no_grad;
  double worst = 0;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const double scale = analytic[i].abs().max().item<double>();
    const int64_t count = inputs[i].numel(), stride = std::max<int64_t>(1, count / probes);
    for (int64_t entry = 0; entry < count; entry += stride) {
      double difference = 0, width = 0;
      for (const double sign : {1.0, -1.0}) {
        Tensors moved = inputs;
        moved[i] = inputs[i].clone();
        auto element = moved[i].view(-1)[entry];
        element.add_(sign * step);
        width += sign * element.item<double>();  // the step after rounding to the type
        difference += sign * objective(moved);
      }
      worst = std::max(worst, std::abs(difference / width - analytic[i].reshape(-1)[entry].item<double>()) / scale);
    }
  }
  return worst;
}

using PathOp = std::function<Op(OpsPath)>;

/// Float32 within the tolerances that the fast path promises; bfloat16 no farther from a float64 computation of the
/// reference than the bfloat16 reference is; and the fast path did run. Inputs from index `parameters` on stay float32.
/// own_bfloat16: whether the fast path has its own form for bfloat16 inputs.
inline void expect_fast_equals_reference(const PathOp& path_op, Tensors inputs, size_t parameters = 99,
                                         bool own_bfloat16 = true) {
  for (auto& input : inputs) input = input.to(at::kBFloat16).to(at::kFloat);  // the same numbers in every type
  const Op fast = path_op(OpsPath::fast), reference = path_op(OpsPath::reference);

  const auto expected = differentiate(reference, inputs), got = differentiate(fast, inputs);
  for (size_t i = 0; i < expected.values.size(); ++i) {
    EXPECT_EQ(got.values[i].sizes(), expected.values[i].sizes());
    EXPECT_LE(distance(got.values[i], expected.values[i]), 1e-5) << "value " << i;
  }
  for (size_t i = 0; i < expected.gradients.size(); ++i) {
    EXPECT_EQ(got.gradients[i].scalar_type(), at::kFloat);
    EXPECT_LE(distance(got.gradients[i], expected.gradients[i]), 3e-5) << "gradient of input " << i;
  }

  Tensors half = inputs;
  for (size_t i = 0; i < std::min(parameters, half.size()); ++i) half[i] = half[i].to(at::kBFloat16);
  const auto exact = differentiate(reference, cast(inputs, at::kDouble));
  const auto plain = differentiate(reference, half), quick = differentiate(fast, half);
  const auto expect_as_good = [](const at::Tensor& fast_one, const at::Tensor& reference_one, const at::Tensor& exact_one) {
    EXPECT_EQ(fast_one.scalar_type(), reference_one.scalar_type());
    // The storage type cannot hold it better than rounded once, and a few entries are no statistic.
    const double rounded_once = mean_distance(exact_one.to(fast_one.scalar_type()), exact_one);
    const double bound = std::max(1.03 * mean_distance(reference_one, exact_one), 1.1 * rounded_once) + 2e-6;
    EXPECT_LE(mean_distance(fast_one, exact_one), bound);
  };
  for (size_t i = 0; i < exact.values.size(); ++i) {
    SCOPED_TRACE(c10::str("bfloat16 value ", i));
    expect_as_good(quick.values[i], plain.values[i], exact.values[i]);
  }
  for (size_t i = 0; i < exact.gradients.size(); ++i) {
    SCOPED_TRACE(c10::str("bfloat16 gradient of input ", i));
    EXPECT_EQ(quick.gradients[i].scalar_type(), half[i].scalar_type());
    expect_as_good(quick.gradients[i], plain.gradients[i], exact.gradients[i]);
  }

  for (const auto& dtype_inputs : {inputs, half}) {
    Tensors leaves;
    const bool own = own_bfloat16 || dtype_inputs[0].scalar_type() == at::kFloat;
    for (const auto& input : dtype_inputs) leaves.push_back(input.clone().requires_grad_());
    const auto output = fast(leaves)[0];
    EXPECT_EQ(output.grad_fn()->name().find("pgolf") != std::string::npos, own) << output.grad_fn()->name();
    at::NoGradGuard no_grad;
    const auto plain_output = fast(leaves)[0];
    EXPECT_FALSE(plain_output.requires_grad());
    EXPECT_TRUE(plain_output.equal(output)) << "without gradients the values must be the same";
  }
}

}  // namespace pgolf::ops::testing
