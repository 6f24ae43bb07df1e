#include "pgolf/study/arm.h"

#include <algorithm>
#include <array>

#include "pgolf/base/format.h"

namespace pgolf {
namespace {

template <size_t N>
bool is_one_of(const std::array<const char*, N>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

constexpr std::array kRotationOptions = {"ROPE_DIMS", "ROPE_FRACTION", "ROPE_LAYERS", "ROPE_STYLE", "ROPE_SELECT"};
// May differ between a run and its continuation, but change what is measured.
constexpr std::array kMeasurementOptions = {"DATA_PATH", "TOKENIZER_PATH", "EVAL_TOKENS", "VAL_LOSS_EVERY"};

bool all_rope_dims_are(const ModelConfig& model, int dims) {
  const auto all = layer_rope_dims(model);
  return std::all_of(all.begin(), all.end(), [&](int value) { return value == dims; });
}

const std::string& text_of(const TrainCommand& command, const char* name) {
  return find_option(command.resolved, name).text;
}

}  // namespace

std::vector<int> layer_rope_dims(const ModelConfig& model) {
  std::vector<int> dims;
  for (int layer = 0; layer < model.num_layers; ++layer) dims.push_back(model.rope_of(layer).rope_dims);
  return dims;
}

bool rotates_fully(const ModelConfig& model) {
  return all_rope_dims_are(model, model.head_dim());
}

bool rotates_nowhere(const ModelConfig& model) {
  return all_rope_dims_are(model, 0);
}

std::string layer_rope_dims_text(const ModelConfig& model) {
  const auto dims = layer_rope_dims(model);
  if (all_rope_dims_are(model, dims.front())) return rope_dims_text(dims.front(), model.head_dim());
  return rope_layers_text(dims, model.head_dim());
}

std::string rotation_identity(const ModelConfig& model) {
  std::string out;
  for (int layer = 0; layer < model.num_layers; ++layer) {
    RopeSpec rope = model.rope_of(layer);
    if (rope.none()) rope = {rope.head_dim, 0};
    if (rope.full()) rope.select = RopeSelect::prefix;
    if (rope.scaling == RopeScaling::none) rope.scaling_factor = 1;
    if (rope.scaling != RopeScaling::yarn) rope.original_seq_len = 0;
    out += format("%d/%d base %s style %d select %d scaling %d by %s from %d table %d;", rope.rope_dims, rope.head_dim,
                  python_float(rope.base).c_str(), static_cast<int>(rope.style), static_cast<int>(rope.select),
                  static_cast<int>(rope.scaling), python_float(rope.scaling_factor).c_str(), rope.original_seq_len,
                  static_cast<int>(rope.table_dtype));
  }
  return out;
}

ArmSettings arm_settings(const TrainCommand& command, const std::vector<std::string>& extra) {
  ArmSettings settings;
  for (const auto& option : command.resolved) {
    const bool counts = option.must_match || is_one_of(kMeasurementOptions, option.name) ||
                        std::find(extra.begin(), extra.end(), option.name) != extra.end();
    if (counts && option.name != "SEED" && !is_one_of(kRotationOptions, option.name)) settings[option.name] = option.text;
  }
  const ModelConfig& model = command.config.model;
  std::string rotation = layer_rope_dims_text(model);
  if (!rotates_nowhere(model)) {
    if (model.rope.style != RopeStyle::half) rotation += " " + text_of(command, "ROPE_STYLE");
    if (model.rope.select != RopeSelect::prefix && !rotates_fully(model)) rotation += " " + text_of(command, "ROPE_SELECT");
  }
  settings[kRotation] = rotation;
  return settings;
}

const std::string& default_text(const std::string& option) {
  static const char* argv[] = {"train_gpt"};
  static const TrainCommand defaults = resolve_train_command(1, argv, {});
  return text_of(defaults, option.c_str());
}

std::string run_identity(const TrainCommand& command, const std::vector<std::string>& extra) {
  std::string out = "SEED=" + text_of(command, "SEED") + "\n" + rotation_identity(command.config.model) + "\n";
  for (const auto& [name, text] : arm_settings(command, extra)) {
    const bool in_rotation = name == kRotation || (name.starts_with("ROPE_") && name != "ROPE_DROP_AT");
    if (!in_rotation && text != default_text(name)) out += name + "=" + text + "\n";
  }
  return out;
}

}  // namespace pgolf
