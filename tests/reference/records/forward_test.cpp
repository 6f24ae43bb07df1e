// The record programs' logits, loss, block outputs, attention operands and gradients, at a given state, on both paths.
#include "pgolf/base/format.h"
#include "pgolf/data/shard.h"
#include "pgolf/ops/attention.h"
#include "pgolf/ops/exclusive.h"
#include "pgolf/ops/residual.h"
#include "pgolf/ops/rms_norm.h"
#include "record_models.h"

namespace pgolf::reference {
namespace {

/// Relative to each tensor's largest entry; the loss absolute. records/README.md, "How close is close".
struct Tolerance {
  double value, gradient, loss;
  /// Of a gradient that is a single number: a sum over all positions, whose terms have both signs. The largest difference between
  /// a recorded one in bfloat16 and its twin in float32 is 0.16 of it, and another order of sums may err as far to the other side.
  double scalar_gradient;
};
constexpr Tolerance float32{2e-5, 5e-5, 5e-6, 5e-5};
constexpr Tolerance bfloat16{4e-2, 8e-2, 1e-2, 0.35};

struct Case {
  char program;
  std::string name;
};

void PrintTo(const Case& tested, std::ostream* out) {
  *out << tested.program << " " << tested.name;
}

std::string test_name(const ::testing::TestParamInfo<std::tuple<Case, OpsPath>>& info) {
  const auto& [tested, path] = info.param;
  return std::string(1, tested.program) + "_" + tested.name + "_" + enum_text(path);
}

/// The part of a tensor that a recording's name asks for: "every16th" are the positions 15, 31, ... in the second last dimension
/// of the batches that are left.
at::Tensor recorded_part(at::Tensor tensor, const std::string& name) {
  if (const auto at = name.find(".batch"); at != std::string::npos) tensor = tensor.narrow(0, name[at + 6] - '0', 1);
  if (const auto at = name.find(".every"); at != std::string::npos) {
    const int64_t every = std::stoll(name.substr(at + 6));
    tensor = tensor.slice(1, every - 1, std::nullopt, every);
  }
  if (const auto at = name.find(".rows0_"); at != std::string::npos)
    tensor = tensor.narrow(0, 0, std::stoll(name.substr(at + 7)) + 1);
  return tensor;
}

class RecordForward : public ReferenceTest, public ::testing::WithParamInterface<std::tuple<Case, OpsPath>> {
 protected:
  void expect_near(const at::Tensor& actual, const at::Tensor& expected, double tolerance, const std::string& what) {
    ASSERT_EQ(actual.numel(), expected.numel()) << what;
    const double error = relative_error(actual.reshape(expected.sizes()), expected);
    EXPECT_LE(error, tolerance) << what;
    double& worst = worst_[what.starts_with("grad") ? "gradients" : "values"];
    worst = std::max(worst, error);
  }

  void TearDown() override {
    for (const auto& [kind, error] : worst_) std::cout << kind << " off by " << error << " at most\n";
  }

  /// Compares everything whose name starts with `prefix` + `name`.
  void expect_parts(const at::Tensor& actual, const std::map<std::string, at::Tensor>& recorded, const std::string& name,
                    double tolerance) {
    for (auto found = recorded.lower_bound(name); found != recorded.end() && found->first.starts_with(name); ++found) {
      const std::string rest = found->first.substr(name.size());
      if (rest.empty() || rest.starts_with(".batch") || rest.starts_with(".every") || rest.starts_with(".rows"))
        expect_near(recorded_part(actual, rest), found->second, tolerance, found->first);
    }
  }

  /// Runs the model's blocks one by one.
  void expect_blocks(Gpt& model, const at::Tensor& ids, const std::map<std::string, at::Tensor>& recorded, double tolerance) {
    torch::NoGradGuard no_grad;
    constexpr auto path = OpsPath::reference;
    const ModelConfig& config = model->config();
    auto embedding = model->tok_emb(ids);
    if (model->bigram) embedding = embedding + model->bigram(bigram_rows(ids, config.bigram_vocab_size), path);
    const auto normed = ops::rms_norm(embedding, path), x0 = model->smear ? model->smear(normed, path) : normed;
    const auto all_values = model->ve_shared ? model->ve_shared(ids, path) : at::Tensor();
    auto x = x0;
    int call = 0;
    const auto run = [&](int layer) {
      auto& block = model->blocks[static_cast<size_t>(layer)];
      at::Tensor attention_input;
      block->attn->observer = [&](const at::Tensor& input) { attention_input = input; };
      BlockPass pass;
      const auto with_values = std::find(config.ve_layers.begin(), config.ve_layers.end(), layer);
      if (with_values != config.ve_layers.end()) {
        const auto scale = model->ve_layer_scales->at(static_cast<size_t>(with_values - config.ve_layers.begin()));
        pass.values = all_values * scale.to(all_values.scalar_type());
      }
      x = block(x, x0, pass);
      block->attn->observer = nullptr;
      const std::string prefix = format("call%d.", call++);
      expect_parts(x, recorded, prefix + "block_output", tolerance);
      const auto [q, k, v] =
          block->attn->heads(attention_input, block->attn->rotary->table(ids.size(1), ids.device()).get(), pass.values);
      const auto y = ops::causal_attention(q, k, v, path).transpose(1, 2), values = v.transpose(1, 2);
      expect_parts(q.transpose(1, 2), recorded, prefix + "attn.q", tolerance);
      expect_parts(k.transpose(1, 2), recorded, prefix + "attn.k", tolerance);
      expect_parts(values, recorded, prefix + "attn.v", tolerance);
      expect_parts(y, recorded, prefix + "attn.sdpa", tolerance);
      if (model->config().exclusive(layer))
        expect_parts(ops::exclude_value(y, values, path).flatten(2), recorded, prefix + "attn.after_xsa", tolerance);
    };
    const BlockOrder order = model->order();
    std::vector<at::Tensor> skips;
    for (const int layer : order.encoder) run(layer), skips.push_back(x);
    for (size_t step = 0; step < order.decoder.size(); ++step) {
      if (!skips.empty()) {
        const auto row = static_cast<int64_t>(step);
        x = model->skip_gates.defined() ? ops::gated_skip(x, skips.back(), model->skip_weights[row], model->skip_gates[row], path)
                                        : ops::scaled_add(x, model->skip_weights[row], skips.back(), path);
        skips.pop_back();
      }
      run(order.decoder[step]);
    }
  }

  void check(Gpt& model, const at::Tensor& ids, const at::Tensor& targets, const std::map<std::string, at::Tensor>& recorded,
             const json& described, const Tolerance& tolerance) {
    const auto loss = model(ids, targets);
    EXPECT_NEAR(loss.item<double>(), described.at("loss").get<double>(), tolerance.loss);
    {
      torch::NoGradGuard no_grad;
      const auto logits = model->logits(ids);
      expect_parts(logits, recorded, "logits_softcapped", tolerance.value);
      expect_near_description(logits, described.at("logits"), tolerance.value, "logits");
    }
    loss.backward();
    std::map<std::string, at::Tensor> gradients;
    for (const auto& item : model->named_parameters()) {
      ASSERT_TRUE(item.value().grad().defined()) << item.key();
      gradients[item.key()] = item.value().grad();
    }
    const json zero_rows = described.value("zero_rows", json::object());
    for (const auto& [name, rows] : zero_rows.items()) {
      for (const int64_t row : rows.get<std::vector<int64_t>>()) {
        EXPECT_EQ(gradients.at(name)[row].abs().max().item<double>(), 0) << name << " row " << row;
      }
    }
    for (const auto& [name, gradient] : gradients) expect_parts(gradient, recorded, "grad." + name, tolerance.gradient);
    if (described.at("grads").contains(banks[0].name)) collect_banks(&gradients, model->config().num_layers);
    EXPECT_EQ(gradients.size(), described.at("grads").size());
    for (const auto& [name, gradient] : gradients) {
      const double allowed = gradient.numel() == 1 ? tolerance.scalar_gradient : tolerance.gradient;
      expect_near_description(gradient, described.at("grads").at(name), allowed, "gradient of " + name);
    }
  }

 private:
  static void collect_banks(std::map<std::string, at::Tensor>* tensors, int num_layers) {
    for (const Bank& bank : banks) {
      std::vector<at::Tensor> matrices;
      for (int64_t i = 0; i < (bank.second == nullptr ? 1 : 2) * num_layers; ++i) {
        const auto found = tensors->find(unbanked_name(bank, i, num_layers));
        matrices.push_back(found->second);
        tensors->erase(found);
      }
      (*tensors)[bank.name] = at::stack(matrices);
    }
  }

  std::map<std::string, double> worst_;
};

/// The first tokens of the training data and those after them, in this shape.
struct Inputs {
  explicit Inputs(const std::vector<int64_t>& shape) {
    const Shard shard(shared_folder() / "fineweb/sp1024/fineweb_train_head.bin");
    const int64_t count = shape[0] * shape[1];
    const auto tokens = at::empty({count + 1}, at::kLong);
    std::copy_n(shard.tokens().begin(), count + 1, tokens.mutable_data_ptr<int64_t>());
    ids = tokens.narrow(0, 0, count).view(shape);
    targets = tokens.narrow(0, 1, count).view(shape);
  }
  at::Tensor ids, targets;
};

/// C's names of blocks and banks as those of the others.
std::map<std::string, at::Tensor> as_calls_and_matrices(const std::map<std::string, at::Tensor>& recorded, int num_layers) {
  std::map<std::string, at::Tensor> renamed;
  for (const auto& [name, tensor] : recorded) {
    std::string other = name;
    const auto replace = [&](const std::string& prefix, const std::string& with) {
      if (name.starts_with(prefix)) other = with + name.substr(prefix.size());
    };
    for (int layer = 0; layer < num_layers; ++layer) {
      replace(format("blocks.%d.output", layer), format("call%d.block_output", layer));
      replace(format("blocks.%d.attn.", layer), format("call%d.attn.", layer));
    }
    for (const Bank& bank : banks) {
      for (int64_t i = 0; i < 2 * num_layers && (bank.second != nullptr || i < num_layers); ++i) {
        const std::string banked = "grad." + std::string(bank.name) + "." + std::to_string(i);
        if (name == banked || name.starts_with(banked + ".")) replace(banked, "grad." + unbanked_name(bank, i, num_layers));
      }
    }
    renamed[other] = tensor;
  }
  return renamed;
}

TEST_P(RecordForward, LossLogitsBlocksAndGradients) {
  const auto& [tested, path] = GetParam();
  const std::string folder = record_folder(tested.program);
  const auto described = load_json(folder + "forward.json").at("cases").at(tested.name);
  ModelConfig config = record_model(tested.program, described.at("env"));
  const auto shape = described.at("input_shape").get<std::vector<int64_t>>();
  // The programs scale the base for windows that are longer than in training; C takes 1024 for that length.
  const bool c = tested.program == 'C';
  if (const auto factor = static_cast<double>(shape[1]) / (c ? 1024 : 128); factor > 1)
    config.rope.scaling = RopeScaling::ntk, config.rope.scaling_factor = factor;
  const bool rounded = described.at("mode") == "bf16", initial = tested.name == "init_unlooped";
  if (rounded) config.rope.table_dtype = RopeTableDtype::bfloat16;
  torch::manual_seed(1337);
  Gpt model(config, path);
  if (!initial) {
    if (rounded) set_parameter_precision(model, at::kBFloat16, control_patterns());
    const auto state = load_tensors(c ? folder + "perturbed_state.safetensors" : "records/common/perturbed_state.safetensors");
    load_state_dict(model, state_for(config, unbanked(state, config.num_layers)), "recording");
  }
  model->set_extra_passes(extra_passes(config, described.value("phase", 2)));
  const Inputs inputs(shape);
  // D's unlooped case has B's bits, and no tensors of its own.
  const bool has_tensors = tested.program != 'D' || tested.name != "unlooped";
  auto recorded = load_tensors(has_tensors ? folder + "forward_" + tested.name + ".safetensors"
                                           : std::string(record_folder('B')) + "forward_phase0.safetensors");
  if (!has_tensors) {
    // Fewer rows than D has.
    recorded.erase("grad.skip_weights");
    recorded.erase("grad.skip_gates");
  }
  if (c) recorded = as_calls_and_matrices(recorded, config.num_layers);
  const Tolerance& tolerance = rounded ? bfloat16 : float32;
  check(model, inputs.ids, inputs.targets, recorded, described, tolerance);
  if (path == OpsPath::reference) expect_blocks(model, inputs.ids, recorded, tolerance.value);
}

const std::vector<Case> cases{{'A', "unlooped"},
                              {'A', "looped"},
                              {'A', "looped_xsa_last2"},
                              {'A', "looped_no_xsa"},
                              {'A', "looped_rope8"},
                              {'A', "looped_rope_full"},
                              {'A', "looped_no_skip_gates"},
                              {'A', "looped_no_ln_scale"},
                              {'A', "looped_seq256_ntk"},
                              {'A', "looped_bf16"},
                              {'A', "init_unlooped"},
                              {'B', "phase0"},
                              {'B', "phase1"},
                              {'B', "phase2"},
                              {'B', "phase2_no_parallel"},
                              {'D', "unlooped"},
                              {'D', "looped"},
                              {'D', "looped_bf16"},
                              {'C', "main"},
                              {'C', "no_bigram"},
                              {'C', "no_ve"},
                              {'C', "xsa_last2"},
                              {'C', "seq1280_ntk"},
                              {'C', "bf16"}};
INSTANTIATE_TEST_SUITE_P(Programs, RecordForward,
                         ::testing::Combine(::testing::ValuesIn(cases), ::testing::Values(OpsPath::reference, OpsPath::fast)),
                         test_name);

TEST_F(ReferenceTest, RecordForwardRowsOfPairs) {
  const auto recorded = load_tensors("records/C_valcalib_gptq_xsa/forward_main.safetensors");
  const auto rows = [](const at::Tensor& ids, int64_t count) { return bigram_rows(ids.to(at::kLong), count).to(at::kInt); };
  EXPECT_TRUE(at::equal(rows(Inputs({2, 128}).ids, 768), recorded.at("bigram_hash")));
  EXPECT_TRUE(at::equal(rows(recorded.at("hash3072.tokens"), 3072), recorded.at("hash3072.bigram")));
}

class RecordVariants : public RecordForward {};

TEST_P(RecordVariants, LossLogitsAndGradients) {
  const auto& [tested, path] = GetParam();
  const auto described = load_json("records/variants/variants.json").at("cases").at(tested.name);
  const ModelConfig config = record_model(tested.program, described.at("env"));
  Gpt model(config, path);
  load_state_dict(model, state_for(config, load_tensors("records/common/perturbed_state.safetensors")), "recording");
  model->set_extra_passes(extra_passes(config, tested.name.ends_with("phase1") ? 1 : 2));
  EXPECT_EQ(model->order().encoder, described.at("encoder").get<std::vector<int>>());
  EXPECT_EQ(model->order().decoder, described.at("decoder").get<std::vector<int>>());
  EXPECT_EQ(config.skip_count(), described.at("skip_rows").get<int64_t>());
  std::map<std::string, at::Tensor> recorded;
  for (auto& [name, tensor] : load_tensors("records/variants/variants.safetensors")) {
    if (name.starts_with(tested.name + ".")) recorded[name.substr(tested.name.size() + 1)] = tensor;
  }
  ASSERT_FALSE(recorded.empty());
  const Inputs inputs({2, 128});
  check(model, inputs.ids, inputs.targets, recorded, described, float32);
}

const std::vector<Case> variants{{'A', "num_loops0"},
                                 {'A', "num_loops1"},
                                 {'A', "num_loops3"},
                                 {'A', "loop_everything"},
                                 {'A', "loop_one_layer"},
                                 {'B', "parallel_all"},
                                 {'B', "phases_num_loops3_phase1"},
                                 {'B', "phases_num_loops3_phase2"}};
INSTANTIATE_TEST_SUITE_P(Programs, RecordVariants,
                         ::testing::Combine(::testing::ValuesIn(variants), ::testing::Values(OpsPath::reference, OpsPath::fast)),
                         test_name);

}  // namespace
}  // namespace pgolf::reference
