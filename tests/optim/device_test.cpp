// The optimizers on every device against their formulas in float64, and against themselves by definition on the CPU.
#include "support/device.h"

#include <cmath>

#include "pgolf/optim/optimizers.h"
#include "support/models.h"

namespace pgolf::testing::devices {
namespace {

at::Tensor random_numbers(at::IntArrayRef shape, int64_t seed) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(static_cast<uint64_t>(seed));
  return at::randn(shape, generator, at::TensorOptions().dtype(at::kFloat));
}

/// Adam's formula in float64; what is stored between steps is rounded to `stored`.
struct AdamByFormula {
  const OptimConfig& config;
  double base_lr, decay;
  at::ScalarType stored;
  at::Tensor value, m = at::zeros_like(value), v = at::zeros_like(value);
  int t = 0;

  void step(const at::Tensor& gradient, double scale) {
    const auto rounded = [this](const at::Tensor& x) { return x.to(stored).to(at::kDouble); };
    const auto g = gradient.to(at::kDouble);
    const double lr = base_lr * scale;
    ++t;
    const auto exact_m = config.beta1 * m + (1 - config.beta1) * g, exact_v = config.beta2 * v + (1 - config.beta2) * g * g;
    const auto m_hat = exact_m / (1 - std::pow(config.beta1, t)), v_hat = exact_v / (1 - std::pow(config.beta2, t));
    value = rounded(value * (1 - lr * decay) - lr * m_hat / (v_hat.sqrt() + config.adam_eps));
    m = rounded(exact_m);
    v = rounded(exact_v);
  }
};

class DeviceOptim : public DeviceTest {
 protected:
  /// Nine steps whose rate rises, falls and is 0 once; f(step, parameter, formula) after each for each parameter.
  template <class F>
  void step_beside_formula(at::ScalarType stored, double decay, const F& f) {
    OptimConfig config;
    config.beta1 = 0.8;
    config.beta2 = 0.97;
    config.adam_eps = 1e-3;
    constexpr double base_lr = 0.02;
    const std::vector<std::vector<int64_t>> shapes{{5, 3}, {1}, {64}, {33, 70}, {2, 64}};
    StateDict parameters;
    std::vector<AdamByFormula> formulas;
    int64_t seed = 0;
    for (const auto& shape : shapes) {
      const auto start = random_numbers(shape, ++seed).to(stored);
      parameters.emplace_back(c10::str("p", seed),
                              start.to(device(), stored, /*non_blocking=*/false, /*copy=*/true).requires_grad_());
      formulas.push_back({config, base_lr, decay, stored, start.to(at::kDouble)});
    }
    Adam adam(parameters, base_lr, config, decay);
    int step = 0;
    for (const double scale : {0.1, 0.5, 1.0, 1.0, 0.0, 0.8, 0.4, 0.2, 0.05}) {
      adam.schedule(scale);
      ++step;
      for (size_t i = 0; i < parameters.size(); ++i) {
        const auto gradient = (random_numbers(shapes[i], ++seed) * step).to(stored);
        parameters[i].second.mutable_grad() = gradient.to(device());
        formulas[i].step(gradient, scale);
      }
      adam.step();
      for (size_t i = 0; i < parameters.size(); ++i) f(step, parameters[i].second, formulas[i]);
    }
    const StateDict state = adam.state();
    for (size_t i = 0; i < parameters.size(); ++i) {
      SCOPED_TRACE(parameters[i].first);
      for (size_t kind = 0; kind < 3; ++kind) EXPECT_EQ(state[3 * i + kind].second.device().type(), device().type());
      // A moment that is stored in bfloat16 may be rounded to the neighbor, 2^-8 of it, where float32 and float64 differ.
      const double tolerance = stored == at::kFloat ? 1e-5 : 8e-3;
      EXPECT_LE(largest_error(state[3 * i].second, formulas[i].m), tolerance);
      EXPECT_LE(largest_error(state[3 * i + 1].second, formulas[i].v), tolerance);
      EXPECT_EQ(state[3 * i + 2].second.item<float>(), 9);
    }
  }
};

TEST_P(DeviceOptim, AdamFollowsTheFormulaWhileTheRateChanges) {
  for (const double decay : {0.0, 0.3}) {
    step_beside_formula(at::kFloat, decay, [&](int step, const at::Tensor& parameter, const AdamByFormula& formula) {
      // Of numbers up to 4: half of float32's 2^-23 of them, nine times.
      EXPECT_LE(distance(parameter.cpu(), formula.value), 2e-6)
          << "step " << step << " of " << parameter.sizes() << ", decay " << decay;
    });
  }
}

TEST_P(DeviceOptim, AdamInBfloat16RoundsOnceAStep) {
  for (const double decay : {0.0, 0.3}) {
    step_beside_formula(at::kBFloat16, decay, [&](int step, const at::Tensor& parameter, const AdamByFormula& formula) {
      EXPECT_EQ(parameter.scalar_type(), at::kBFloat16);
      const auto got = parameter.detach().cpu().to(at::kDouble);
      const auto off = (got - formula.value).abs();
      // Where float32 and float64 fall on different sides, the neighbor: 2^-7 for numbers between 1 and 2 and 2^-6 up to 4. It
      // happens to few.
      EXPECT_LE(off.max().item<double>(), 0.0157) << "step " << step;
      EXPECT_LE(off.gt(0).sum().item<double>(), 0.01 * static_cast<double>(off.numel()) + 1) << "step " << step;
    });
  }
}

/// The quintic iteration, in float64.
at::Tensor orthogonal(const at::Tensor& gradient) {
  auto x = gradient / (gradient.norm() + 1e-7);
  const bool tall = x.size(0) > x.size(1);
  if (tall) x = x.t();
  for (int i = 0; i < 5; ++i) {
    const auto a = x.mm(x.t());
    x = 3.4445 * x + (-4.7750 * a + 2.0315 * a.mm(a)).mm(x);
  }
  return tall ? x.t() : x;
}

class DeviceMuon : public DeviceOptim {
 protected:
  void step_beside_formula(OptimConfig config);
};

/// Rate and momentum change; the last matrix has no gradient in the third step.
void DeviceMuon::step_beside_formula(OptimConfig config) {
  config.matrix_lr = 0.03;
  const std::vector<std::vector<int64_t>> shapes{{24, 8}, {8, 24}, {16, 16}, {8, 24}, {64, 96}};
  StateDict parameters;
  std::vector<at::Tensor> values, buffers;
  int64_t seed = 0;
  for (const auto& shape : shapes) {
    values.push_back(random_numbers(shape, ++seed).to(at::kDouble));
    buffers.push_back(at::zeros_like(values.back()));
    parameters.emplace_back(c10::str("p", seed), values.back().to(device(), at::kFloat).requires_grad_());
  }
  Muon muon(parameters, config, at::kFloat, Process(), OpsPath::fast);
  for (int step = 0; step < 4; ++step) {
    const double momentum = 0.85 + 0.02 * step, scale = 1.0 - 0.2 * step;
    for (size_t i = 0; i < parameters.size(); ++i) {
      values[i] = values[i] * (1 - 0.03 * scale * config.muon_wd);
      parameters[i].second.mutable_grad() = at::Tensor();
      if (step == 2 && i + 1 == parameters.size()) continue;
      const auto gradient = random_numbers(shapes[i], ++seed);
      parameters[i].second.mutable_grad() = gradient.to(device());
      const auto g = gradient.to(at::kDouble);
      buffers[i] = momentum * buffers[i] + g;
      auto direction = g + momentum * buffers[i];
      if (config.muon_row_normalize) direction = direction / direction.square().sum(1, /*keepdim=*/true).sqrt();
      const double ratio = static_cast<double>(shapes[i][0]) / static_cast<double>(shapes[i][1]);
      values[i] = values[i] - 0.03 * scale * std::sqrt(std::max(1.0, ratio)) * orthogonal(direction);
    }
    muon.schedule(scale, momentum);
    muon.step();
    // Newton-Schulz multiplies errors by up to 485, but the rate is small and so are the numbers.
    for (size_t i = 0; i < parameters.size(); ++i)
      EXPECT_LE(distance(parameters[i].second.cpu(), values[i]), 1e-5) << "step " << step << " matrix " << i;
  }
  const StateDict state = muon.state();
  for (size_t i = 0; i < state.size(); ++i) {
    EXPECT_EQ(state[i].second.device().type(), device().type());
    EXPECT_LE(largest_error(state[i].second, buffers[i]), 1e-6) << i;
  }
}

TEST_P(DeviceMuon, FollowsTheFormula) {
  step_beside_formula({});
}
TEST_P(DeviceMuon, WithDecayFollowsTheFormula) {
  OptimConfig config;
  config.muon_wd = 0.5;
  step_beside_formula(config);
}
TEST_P(DeviceMuon, WithRowNormsFollowsTheFormula) {
  OptimConfig config;
  config.muon_row_normalize = true;
  step_beside_formula(config);
}

PGOLF_ON_EVERY_DEVICE(DeviceMuon);

TEST_P(DeviceOptim, EveryGroupIsSteppedAsByDefinition) {
  for (const auto optimizer : {OptimizerChoice::muon, OptimizerChoice::adamw}) {
    for (const bool tied : {true, false}) {
      SCOPED_TRACE(c10::str(optimizer == OptimizerChoice::muon ? "muon" : "adamw", tied ? ", tied" : ", untied"));
      ModelConfig model_config = tiny_config();
      model_config.tie_embeddings = tied;
      OptimConfig config;
      config.optimizer = optimizer;
      config.weight_decay = 0.1;
      config.muon_wd = config.embed_wd = config.adam_wd = 0.2;
      config.muon_row_normalize = true;
      Gpt expected = make_random_model(model_config), got = make_model(model_config, 6, OpsPath::fast);
      load_state_dict(got, state_dict(expected), "the same weights");
      got->to(device());
      Optimizers reference(expected, config, at::kFloat, Process(), OpsPath::reference);
      Optimizers fast(got, config, at::kFloat, Process(), OpsPath::fast);
      for (int step = 0; step < 3; ++step) {
        auto there = got->parameters();
        int64_t seed = 100 * step;
        for (auto& parameter : expected->parameters()) {
          const auto gradient = random_numbers(parameter.sizes(), ++seed);
          parameter.mutable_grad() = gradient;
          there[static_cast<size_t>(seed - 100 * step - 1)].mutable_grad() = gradient.to(device());
        }
        clip_grad_norm(expected->parameters(), 2.0);
        clip_grad_norm(got->parameters(), 2.0);
        Group group;
        for (auto* optimizers : {&reference, &fast}) {
          optimizers->schedule(1.0 - 0.3 * step, 0.85 + 0.05 * step);
          optimizers->step(group);
        }
        const StateDict wanted = state_dict(expected), stepped = state_dict(got);
        for (size_t i = 0; i < wanted.size(); ++i)
          EXPECT_LE(largest_error(stepped[i].second, wanted[i].second), 3e-5) << wanted[i].first << ", step " << step;
      }
      const StateDict wanted = reference.state(), state = fast.state();
      ASSERT_EQ(names_of(state), names_of(wanted));
      for (size_t i = 0; i < wanted.size(); ++i)
        EXPECT_LE(largest_error(state[i].second, wanted[i].second), 1e-5) << wanted[i].first;
    }
  }
}

TEST_P(DeviceOptim, ClippingLimitsTheGlobalNorm) {
  const auto parameter_with = [&](at::IntArrayRef shape, int64_t seed, double scale) {
    const auto parameter = at::zeros(shape, at::TensorOptions().device(device())).requires_grad_();
    parameter.mutable_grad() = random_numbers(shape, seed).mul(scale).to(device());
    return parameter;
  };
  const std::vector<at::Tensor> parameters{parameter_with({30, 40}, 1, 5), parameter_with({7}, 2, 0.01)};
  std::vector<at::Tensor> before;
  double squares = 0;
  for (const auto& parameter : parameters) {
    before.push_back(on_cpu_in_double(parameter.grad()));
    squares += before.back().square().sum().item<double>();
  }
  const double norm = std::sqrt(squares);
  EXPECT_NEAR(clip_grad_norm(parameters, 2.0).item<double>(), norm, 1e-6 * norm);
  for (size_t i = 0; i < 2; ++i) EXPECT_LE(largest_error(parameters[i].grad(), before[i] * (2.0 / norm)), 1e-5);
  clip_grad_norm(parameters, 1000.0);
  for (size_t i = 0; i < 2; ++i)
    EXPECT_LE(largest_error(parameters[i].grad(), before[i] * (2.0 / norm)), 1e-5) << "below the limit";
}

PGOLF_ON_EVERY_DEVICE(DeviceOptim);

}  // namespace
}  // namespace pgolf::testing::devices
