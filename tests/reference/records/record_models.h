// The models of the record programs, as their recordings describe them.
#pragma once

#include "pgolf/config/model_options.h"
#include "pgolf/config/parameters.h"
#include "reference/support.h"

namespace pgolf::reference {

/// Folders of records/: A, B and D are the programs of 2026-04-05, 04-06 and 04-09, C is that of 03-25.
inline const char* record_folder(char program) {
  switch (program) {
    case 'A':
      return "records/A_sdclip_loop/";
    case 'B':
      return "records/B_hessian_clip_progressive/";
    case 'D':
      return "records/D_loop3_parallel_ttt/";
    default:
      return "records/C_valcalib_gptq_xsa/";
  }
}

/// In configs/.
inline const char* record_preset(char program) {
  switch (program) {
    case 'A':
      return "record_2026_04_05.env";
    case 'B':
      return "record_2026_04_06.env";
    case 'D':
      return "record_2026_04_09.env";
    default:
      return "record_2026_03_25.env";
  }
}

/// The programs' defaults that are not ours.
inline std::map<std::string, std::string> record_defaults(char program) {
  std::map<std::string, std::string> values{{"NUM_LAYERS", "11"},  {"MODEL_DIM", "512"}, {"NUM_HEADS", "8"},
                                            {"NUM_KV_HEADS", "4"}, {"ROPE_DIMS", "16"},  {"MLP_KIND", "leaky_relu2"},
                                            {"XSA_LAST_N", "11"},  {"LN_SCALE", "1"},    {"ORTHOGONAL_INIT", "1"}};
  const auto add = [&](const std::map<std::string, std::string>& more) { values.insert(more.begin(), more.end()); };
  if (program == 'C') {
    add({{"MLP_MULT", "3.0"}, {"SMEAR_GATE", "1"}, {"BIGRAM_VOCAB_SIZE", "2048"}, {"VE_LAYERS", "9,10"}});
    return values;
  }
  add({{"VOCAB_SIZE", "8192"}, {"MLP_MULT", "4.0"}, {"SKIP_GATES_ENABLED", "1"}, {"NUM_LOOPS", "2"}, {"LOOP_END", "5"}});
  if (program == 'D') {
    add({{"LOOP_START", "3"}, {"PARALLEL_RESIDUAL_START", "7"}, {"QK_GAIN_INIT", "5.0"}});
  } else {
    add({{"LOOP_START", "4"}, {"QK_GAIN_INIT", "4.0"}});
  }
  return values;
}

/// A program's model in an environment; variables that are not of the model are ignored.
inline ModelConfig record_model(char program, const json& environment) {
  auto values = record_defaults(program);
  for (const auto& [name, value] : environment.items()) values[name] = value.get<std::string>();
  if (values["VE_ENABLED"] == "0") values["VE_LAYERS"] = "";
  ModelConfig model;
  RopeRequest rope;
  auto options = shape_options(&model);
  for (auto& option : rotary_options(&model, &rope)) options.push_back(std::move(option));
  for (const auto& option : options) {
    if (const auto found = values.find(option.name); found != values.end()) option.value.assign(found->second);
  }
  std::string warning;
  model.rope_dims = rope_dims_of(rope, model, &warning);
  return model;
}

/// The extra passes of a program's phase: 0, 1, 2 = none, one, all.
inline int extra_passes(const ModelConfig& model, int phase) {
  return phase == 1 ? std::min(1, model.num_loops) : phase == 0 ? 0 : model.num_loops;
}

/// A recorded state as the model's: in float32, with as many skip rows as the model has, without tensors that it has not.
inline StateDict state_for(const ModelConfig& model, const std::map<std::string, at::Tensor>& recorded) {
  StateDict state;
  for (const Parameter& parameter : model_parameters(model)) {
    const auto& tensor = recorded.at(parameter.name);
    const auto rows = parameter.shape.empty() ? tensor.reshape({}) : tensor.narrow(0, 0, parameter.shape[0]);
    state.emplace_back(parameter.name, rows.to(at::kFloat));
  }
  return state;
}

inline std::vector<std::string> names_of(const StateDict& state) {
  std::vector<std::string> names;
  for (const auto& entry : state) names.push_back(entry.first);
  return names;
}

/// The matrices that C keeps in a bank: those of layer i at [i], or [num_layers + i] in the banks of two kinds.
struct Bank {
  const char *name, *first, *second;
};
inline constexpr Bank banks[] = {{"qo_bank", "attn.c_q.weight", "attn.proj.weight"},
                                 {"kv_bank", "attn.c_k.weight", "attn.c_v.weight"},
                                 {"mlp_up_bank", "mlp.fc.weight", nullptr},
                                 {"mlp_down_bank", "mlp.proj.weight", nullptr}};

/// The name of a matrix in a bank.
inline std::string unbanked_name(const Bank& bank, int64_t index, int num_layers) {
  return parameter_name::in_block(static_cast<int>(index % num_layers), index < num_layers ? bank.first : bank.second);
}

/// Banks as the matrices in them.
inline std::map<std::string, at::Tensor> unbanked(std::map<std::string, at::Tensor> tensors, int num_layers) {
  for (const Bank& bank : banks) {
    const auto found = tensors.find(bank.name);
    if (found == tensors.end()) continue;
    for (int64_t i = 0; i < found->second.size(0); ++i) tensors[unbanked_name(bank, i, num_layers)] = found->second[i];
    tensors.erase(found);
  }
  return tensors;
}

/// Compares with a description, relative to the largest entry: {l2, abs_max} and perhaps {shape, first}.
inline void expect_near_description(const at::Tensor& actual, const json& described, double tolerance, const std::string& what) {
  if (described.contains("shape")) {
    ASSERT_EQ(actual.sizes().vec(), described.at("shape").get<std::vector<int64_t>>()) << what;
  }
  const auto values = actual.detach().to(at::kDouble).flatten();
  const double l2 = described.at("l2").get<double>(), largest = described.at("abs_max").get<double>();
  EXPECT_NEAR(values.norm().item<double>(), l2, tolerance * l2) << what;
  EXPECT_NEAR(values.abs().max().item<double>(), largest, tolerance * largest) << what;
  if (!described.contains("first")) return;
  const auto first = described.at("first").get<std::vector<double>>();
  for (size_t i = 0; i < first.size(); ++i)
    EXPECT_NEAR(values[static_cast<int64_t>(i)].item<double>(), first[i], tolerance * largest) << what;
}

}  // namespace pgolf::reference
