// Three steps of Muon with row norms and decay over five matrices, and its Newton-Schulz iteration.
#include "../support.h"
#include "pgolf/base/format.h"
#include "pgolf/ops/newton_schulz.h"
#include "pgolf/optim/optimizers.h"

namespace pgolf::reference {
namespace {

class RecordMuon : public ReferenceTest {
 protected:
  /// after: the largest difference of a parameter; Newton-Schulz in bfloat16 differs by processor.
  void expect_steps(at::ScalarType dtype, OpsPath path, double after) {
    const auto recorded = load_tensors("records/common/muon_eqr.safetensors");
    const auto described = load_json("records/common/muon_eqr.json");
    const std::string prefix = dtype == at::kFloat ? "ns32." : "";
    StateDict parameters;
    for (int i = 0; i < 5; ++i)
      parameters.emplace_back(format("p%d", i), recorded.at(format("param%d.before", i)).clone().requires_grad_());
    OptimConfig config;
    config.matrix_lr = 1.0;  // so that lr_scale below is the learning rate itself
    config.muon_row_normalize = described.at("row_normalize");
    config.muon_wd = described.at("steps").at(0).at("weight_decay");
    Muon muon(parameters, config, dtype, Process(), path);
    double worst = 0;
    for (size_t step = 0; step < 3; ++step) {
      const auto& settings = described.at("steps").at(step);
      const auto missing = settings.at("missing_grads").get<std::set<int>>();
      for (int i = 0; i < 5; ++i) {
        parameters[static_cast<size_t>(i)].second.mutable_grad() =
            missing.count(i) != 0 ? at::Tensor() : recorded.at(format("step%zu.grad%d", step, i)).clone();
      }
      muon.schedule(settings.at("lr").get<double>(), settings.at("momentum").get<double>());
      muon.step();
      for (int i = 0; i < 5; ++i) {
        const auto name = prefix + format("step%zu.param%d.after", step, i);
        const double error = relative_error(parameters[static_cast<size_t>(i)].second, recorded.at(name));
        EXPECT_LE(error, after) << name;
        worst = std::max(worst, error);
      }
    }
    for (int i = 0; i < 5; ++i) {
      const auto name = prefix + format("momentum%d.end", i);
      EXPECT_LE(relative_error(muon.state()[static_cast<size_t>(i)].second, recorded.at(name)), 1e-6) << name;
    }
    std::cout << "largest difference of a parameter " << worst << "\n";
  }
};

TEST_F(RecordMuon, ThreeSteps) {
  expect_steps(at::kFloat, OpsPath::reference, 2e-6);
}
TEST_F(RecordMuon, ThreeStepsFast) {
  expect_steps(at::kFloat, OpsPath::fast, 2e-6);
}
TEST_F(RecordMuon, ThreeStepsInBfloat16) {
  expect_steps(at::kBFloat16, OpsPath::reference, 1e-3);
}

TEST_F(RecordMuon, NewtonSchulz) {
  const auto recorded = load_tensors("records/common/newton_schulz.safetensors");
  int compared = 0;
  for (const auto& [name, input] : recorded) {
    if (!name.ends_with(".input")) continue;
    const std::string shape = name.substr(0, name.size() - 6);
    for (const int steps : {5, 7}) {
      const auto fixed = [&](const char* dtype) { return recorded.at(format("%s.fixed.%d.%s", shape.c_str(), steps, dtype)); };
      EXPECT_LE(relative_error(ops::newton_schulz(input, steps, at::kFloat), fixed("fp32")), 2e-6) << shape;
      EXPECT_LE(relative_error(ops::newton_schulz(input, steps, at::kBFloat16), fixed("bf16")), 5e-2) << shape;
      ++compared;
    }
  }
  EXPECT_GT(compared, 0);
}

}  // namespace
}  // namespace pgolf::reference
