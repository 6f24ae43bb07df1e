// GPTQ on the record programs' matrices and Hessians: codes and scales.
#include "pgolf/model_io/gptq.h"

#include "reference/support.h"

namespace pgolf::reference {
namespace {

using Gptq = ReferenceTest;
using Tensors = std::map<std::string, at::Tensor>;

/// The share of codes that differ. Where w / s is close to a half, another build of LibTorch or MKL may decide otherwise, and
/// then differently in the rest of the row.
void expect_codes(const at::Tensor& actual, const at::Tensor& expected) {
  ASSERT_EQ(actual.sizes(), expected.sizes());
  const double share = actual.ne(expected).to(at::kDouble).mean().item<double>();
  EXPECT_LE(share, same_processor() ? 0 : 0.002);
  if (share > 0) std::cout << 100 * share << " % of the codes differ\n";
}

void expect_scales(const at::Tensor& actual, const at::Tensor& expected) {
  EXPECT_TRUE(at::equal(actual, expected)) << actual.ne(expected).sum().item<int64_t>() << " of " << actual.numel();
}

double weighted_error(const at::Tensor& weights, const Codes& codes, const at::Tensor& hessian) {
  const auto difference = (weights - codes.codes.to(at::kFloat) * codes.scale.to(at::kFloat).unsqueeze(1)).to(at::kDouble);
  return difference.mm(hessian.to(at::kDouble)).mul(difference).sum().item<double>();
}

struct UnitCase {
  std::string name;
  GptqSettings settings;
};

std::vector<UnitCase> unit_cases() {
  std::vector<UnitCase> cases{{"int6_k12.85", {}},
                              {"int8_k20", {.bits = 8, .clip_sigmas = 20}},
                              {"int6_k3", {.clip_sigmas = 3}},
                              {"int6_k12.85_block32", {.block = 32}},
                              {"int6_k12.85_lambda0.175", {.hessian_clip_lambda = 0.175}},
                              {"int6_k12.85_lambda0.6", {.hessian_clip_lambda = 0.6}}};
  return cases;
}

TEST_F(Gptq, UnitCases) {
  const Tensors tensors = load_tensors("records/common/gptq_unit.safetensors");
  const json recorded = load_json("records/common/gptq_unit.json").at("cases");
  for (const std::string shape : {"48x96", "40x150", "24x264", "32x160_dead"}) {
    const auto &weights = tensors.at(shape + ".W"), &hessian = tensors.at(shape + ".H");
    const PreparedHessian prepared = prepare_hessian(hessian, shape);
    EXPECT_TRUE(at::equal(prepared.order.to(at::kInt), tensors.at(shape + ".perm"))) << shape;
    EXPECT_EQ(prepared.dead.sum().item<int64_t>(), static_cast<int64_t>(recorded.at(shape).at("dead").size()));
    if (const auto factor = tensors.find(shape + ".Hinv_upper"); factor != tensors.end()) {
      EXPECT_LE(relative_error(prepared.factor, factor->second), 1e-4) << shape;
    }
    for (const auto& [name, settings] : unit_cases()) {
      const std::string prefix = shape + "." + name;
      SCOPED_TRACE(prefix);
      const Codes codes = gptq_codes(weights, prepared, settings, prefix);
      expect_codes(codes.codes, tensors.at(prefix + ".q"));
      expect_scales(codes.scale, tensors.at(prefix + ".scale"));
      if (const auto& numbers = recorded.at(shape).at(name); numbers.contains("weighted_error")) {
        const double error = numbers.at("weighted_error").get<double>();
        EXPECT_NEAR(weighted_error(weights, codes, hessian), error, 0.01 * error);
      }
    }
  }
}

TEST_F(Gptq, ClipSearch) {
  const Tensors tensors = load_tensors("records/C_valcalib_gptq_xsa/unit.safetensors");
  const Codes codes =
      gptq_codes(tensors.at("gptq.W"), prepare_hessian(tensors.at("gptq.H"), "gptq"), {.clip = GptqClip::search}, "gptq");
  expect_codes(codes.codes, tensors.at("gptq.q"));
  expect_scales(codes.scale, tensors.at("gptq.scale"));
}

/// Matrices of training runs: W, H and the result, or the first rows of W and codes.
TEST_F(Gptq, MatricesOfRuns) {
  struct Run {
    std::string folder;
    double lambda;
    GptqClip clip;
  };
  int compared = 0;
  for (const auto& run : {Run{"A_sdclip_loop", 0, GptqClip::sigmas}, Run{"B_hessian_clip_progressive", 0.175, GptqClip::sigmas},
                          Run{"C_valcalib_gptq_xsa", 0, GptqClip::search}}) {
    const Tensors tensors = load_tensors("records/" + run.folder + "/gptq_fp32.safetensors");
    for (const auto& [key, weights] : tensors) {
      const size_t at = key.find(".W");
      if (at == std::string::npos) continue;
      const std::string name = key.substr(0, at), rows = key.substr(at + 2);
      if (tensors.find(name + ".H") == tensors.end()) continue;
      SCOPED_TRACE(run.folder + " " + key);
      const bool embedding = name == "tok_emb.weight";
      const Codes codes = gptq_codes(
          weights, prepare_hessian(tensors.at(name + ".H"), name),
          {.bits = embedding ? 8 : 6, .clip = run.clip, .clip_sigmas = embedding ? 20 : 12.85, .hessian_clip_lambda = run.lambda},
          name);
      expect_codes(codes.codes, tensors.at(name + ".q" + rows));
      expect_scales(codes.scale, tensors.at(name + ".scale").narrow(0, 0, weights.size(0)));
      ++compared;
    }
  }
  EXPECT_EQ(compared, 4);
}

/// At the state with noise on all weights: attention matrices, which are too small for the runs' own files.
TEST_F(Gptq, AttentionMatrices) {
  Tensors state = load_tensors("records/common/perturbed_state.safetensors");
  const Tensors a = load_tensors("records/A_sdclip_loop/hessian_perturbed.safetensors");
  const Tensors b = load_tensors("records/B_hessian_clip_progressive/hessian_perturbed.safetensors");
  for (const std::string name : {"blocks.2.attn.c_q.weight", "blocks.2.attn.proj.weight"}) {
    SCOPED_TRACE(name);
    const auto weights = state.at(name).to(at::kFloat);
    const PreparedHessian hessian = prepare_hessian(a.at("looped.H." + name), name);
    const Codes codes = gptq_codes(weights, hessian, {}, name);
    expect_codes(codes.codes, a.at("looped.q." + name));
    expect_scales(codes.scale, a.at("looped.scale." + name));
  }
  const std::string name = "blocks.2.attn.proj.weight";
  const Codes codes = gptq_codes(state.at(name).to(at::kFloat), prepare_hessian(a.at("unlooped.H." + name), name), {}, name);
  expect_codes(codes.codes, a.at("unlooped.q." + name));
  expect_scales(codes.scale, a.at("unlooped.scale." + name));
}

}  // namespace
}  // namespace pgolf::reference
