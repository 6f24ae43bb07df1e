// Queries and keys as other programs' models rotate them (rotations.safetensors, from make_rotations.py).
#include <gtest/gtest.h>
#include <torch/types.h>

#include <map>
#include <nlohmann/json.hpp>

#include "pgolf/artifact/safetensors.h"
#include "pgolf/model_io/tensors.h"
#include "pgolf/ops/rope.h"

namespace pgolf {
namespace {

const Safetensors& recorded() {
  static const Safetensors content = load_safetensors(PGOLF_SOURCE_DIR "/tests/ops/rotations.safetensors");
  return content;
}

at::Tensor tensor(const std::string& name) {
  for (const auto& [key, raw] : recorded().tensors) {
    if (key == name) return to_tensor(raw);
  }
  throw std::out_of_range(name);
}

template <typename Enum>
Enum enum_option(const nlohmann::json& options, const char* name, Enum fallback) {
  if (!options.contains(name)) return fallback;
  for (const auto& [text, value] : enum_texts(Enum{})) {
    if (options[name] == text) return value;
  }
  throw std::out_of_range(name);
}

RopeSpec spec_of(const nlohmann::json& options, int head_dim) {
  RopeSettings settings;
  settings.base = options.value("ROPE_BASE", settings.base);
  settings.style = enum_option(options, "ROPE_STYLE", settings.style);
  settings.select = enum_option(options, "ROPE_SELECT", settings.select);
  settings.scaling = enum_option(options, "ROPE_SCALING", settings.scaling);
  settings.scaling_factor = options.value("ROPE_SCALING_FACTOR", settings.scaling_factor);
  settings.original_seq_len = options.value("ROPE_ORIGINAL_SEQ_LEN", settings.original_seq_len);
  return {head_dim, options["ROPE_DIMS"].get<int>(), settings};
}

/// Where each of our dimensions is in the other program's head: they turn a pair by plus the angle, we by minus, so the two
/// change places. The order is its own inverse.
at::Tensor exchanged_pairs(const RopeSpec& spec) {
  std::vector<int64_t> order(static_cast<size_t>(spec.head_dim));
  for (int64_t dim = 0; dim < spec.head_dim; ++dim) order[static_cast<size_t>(dim)] = dim;
  for (int pair = 0; pair < spec.span() / 2; ++pair) {
    const bool half = spec.style == RopeStyle::half;
    const int first = half ? pair : 2 * pair, second = half ? pair + spec.span() / 2 : 2 * pair + 1;
    std::swap(order[static_cast<size_t>(first)], order[static_cast<size_t>(second)]);
  }
  return at::tensor(order);
}

class Rotations : public ::testing::TestWithParam<OpsPath> {};
INSTANTIATE_TEST_SUITE_P(Paths, Rotations, ::testing::Values(OpsPath::reference, OpsPath::fast),
                         [](const auto& info) { return std::string(enum_text(info.param)); });

TEST_P(Rotations, AreThoseOfTransformers) {
  const at::Tensor q = tensor("q"), k = tensor("k"), positions = tensor("positions");
  const auto head_dim = static_cast<int>(q.size(-1));
  std::map<std::string, int> checked;
  for (const auto& [name, text] : recorded().metadata) {
    if (name == "transformers") continue;
    SCOPED_TRACE(name);
    const RopeSpec spec = spec_of(nlohmann::json::parse(text), head_dim);
    const ops::RopeTable all = ops::make_rope_table(spec, positions.max().item<int64_t>() + 1, at::kCPU);
    const ops::RopeTable table{all.cos.index_select(0, positions), all.sin.index_select(0, positions), all.style};
    const at::Tensor order = exchanged_pairs(spec);
    const auto ours = [&](const at::Tensor& heads) { return heads.index_select(-1, order).transpose(1, 2).contiguous(); };
    const auto [q_out, k_out] =
        ops::qk_norm_rope_gain(ours(q), ours(k), at::ones({q.size(1)}), &table, GetParam(), /*qk_norm=*/false);
    // Angles of up to 2047 radians, in float32 on both sides. For "dynamic" theirs come from a base in float32.
    const double tolerance = name.find("dynamic") == std::string::npos ? 2e-6 : 3e-4;
    EXPECT_LT((q_out.index_select(-1, order) - tensor(name + ".q")).abs().max().item<double>(), tolerance);
    EXPECT_LT((k_out.index_select(-1, order) - tensor(name + ".k")).abs().max().item<double>(), tolerance);
    EXPECT_GT((tensor(name + ".q") - q).abs().max().item<double>(), 0.1) << "does not rotate";
    ++checked[name.substr(0, name.find('-'))];
  }
  const std::map<std::string, int> expected{{"gemma4", 4}, {"glm", 4}, {"gpt_neox", 10}, {"gptj", 4}, {"phi3", 4}};
  EXPECT_EQ(checked, expected);
}

}  // namespace
}  // namespace pgolf
