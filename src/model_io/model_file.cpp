#include "pgolf/model_io/model_file.h"

#include <charconv>
#include <cmath>

#include "pgolf/artifact/layout.h"
#include "pgolf/artifact/model_container.h"
#include "pgolf/artifact/torch_file.h"
#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/base/text.h"
#include "pgolf/config/layer_list.h"
#include "pgolf/config/parameters.h"
#include "pgolf/model_io/checkpoint.h"
#include "pgolf/model_io/expected_tensors.h"
#include "pgolf/model_io/quantizer.h"
#include "pgolf/model_io/tensors.h"
#include "pgolf/run/run_folder.h"
#include "unwrap.h"

namespace pgolf {
namespace fs = std::filesystem;
namespace {

const at::Tensor* find(const StateDict& state, const std::string& name) {
  for (const auto& [key, tensor] : state) {
    if (key == name) return &tensor;
  }
  return nullptr;
}

const at::Tensor& need(const StateDict& state, const std::string& name, int64_t dims, const fs::path& path) {
  const at::Tensor* tensor = find(state, name);
  if (tensor == nullptr)
    throw Error(ExitCode::bad_input, format("%s is not a GPT of this family: no tensor %s; found %s", path.c_str(), name.c_str(),
                                            describe_found_names(state, name).c_str()));
  if (tensor->dim() != dims)
    throw Error(ExitCode::bad_input, format("%s: %s has %lld dimensions, not %lld", path.c_str(), name.c_str(),
                                            static_cast<long long>(tensor->dim()), static_cast<long long>(dims)));
  return *tensor;
}

int count_blocks(const StateDict& state) {
  int layers = 0;
  for (const auto& [name, tensor] : state) {
    int index = 0;
    const std::string prefix = parameter_name::blocks;
    if (name.rfind(prefix, 0) == 0 &&
        std::from_chars(name.data() + prefix.size(), name.data() + name.size(), index).ec == std::errc() && index < kMaxLayers) {
      layers = std::max(layers, index + 1);
    }
  }
  return layers;
}

/// From where on blocks have no norm of their own for the MLP.
void infer_parallel_blocks(const StateDict& state, ModelConfig* model) {
  int start = 0;
  while (start < model->num_layers && find(state, parameter_name::in_block(start, parameter_name::mlp_norm)) != nullptr) ++start;
  model->parallel_block = start == 0;
  if (start > 0 && start < model->num_layers) model->parallel_residual_start = start;
}

/// Of VE_LAYERS only the number shows.
void require_value_scales(const ModelFile& file) {
  const auto scales = std::count_if(file.state.begin(), file.state.end(),
                                    [](const auto& entry) { return entry.first.starts_with(parameter_name::value_scales); });
  const auto layers = static_cast<std::ptrdiff_t>(file.stored.model.ve_layers.size());
  if (scales == layers) return;
  throw Error(ExitCode::bad_input,
              format("%s: %lld blocks have value embeddings, VE_LAYERS lists %lld", file.path.c_str(),
                     static_cast<long long>(scales), static_cast<long long>(layers)),
              "the file does not say which blocks: pass --ve-layers");
}

/// Loops show only in their number.
void require_skip_rows(const ModelFile& file) {
  const ModelConfig& model = file.stored.model;
  const at::Tensor* skips = find(file.state, parameter_name::skip_weights);
  const int64_t rows = skips != nullptr && skips->dim() > 0 ? skips->size(0) : 0;
  if (rows == model.skip_count()) return;
  throw Error(ExitCode::bad_input,
              format("%s: %s has %lld rows, but %d blocks with NUM_LOOPS=%d have %lld skip connections", file.path.c_str(),
                     parameter_name::skip_weights, static_cast<long long>(rows), model.num_layers, model.num_loops,
                     static_cast<long long>(model.skip_count())),
              "the file does not say which blocks run several times: pass --num-loops, --loop-start and --loop-end");
}

StoredModel infer_model(const StateDict& state, const fs::path& path, std::vector<std::string>* assumed) {
  const auto misfit = [&](const char* what) { return Error(ExitCode::bad_input, format("%s: %s", path.c_str(), what)); };
  const auto first = [](const char* name) { return parameter_name::in_block(0, name); };
  StoredModel stored;
  ModelConfig& model = stored.model;
  const auto& embedding = need(state, parameter_name::token_embedding, 2, path);
  model.vocab_size = static_cast<int>(embedding.size(0));
  model.model_dim = static_cast<int>(embedding.size(1));
  model.num_layers = count_blocks(state);
  model.num_heads = static_cast<int>(need(state, first(parameter_name::q_gain), 1, path).size(0));
  if (model.num_heads == 0 || model.model_dim % model.num_heads != 0)
    throw misfit("the number of heads (q_gain) does not divide the model's width");
  const int head_dim = model.head_dim();
  if (head_dim == 0 || head_dim % 2 != 0) throw misfit("head_dim is zero or odd");
  const auto kv_rows = need(state, first(parameter_name::key), 2, path).size(0);
  if (kv_rows == 0 || kv_rows > model.model_dim || kv_rows % head_dim != 0)
    throw misfit("the rows of c_k are not a whole number of heads");
  model.num_kv_heads = static_cast<int>(kv_rows / head_dim);
  if (model.num_heads % model.num_kv_heads != 0)
    throw misfit("the number of key/value heads does not divide the number of query heads");
  const auto hidden = need(state, first(parameter_name::mlp_up), 2, path).size(0);
  if (hidden == 0 || hidden > int64_t{kMaxMlpMult} * model.model_dim)
    throw misfit("the MLP's width is not a valid multiple of the model's");
  model.mlp_mult = static_cast<double>(hidden) / model.model_dim;
  while (model.mlp_hidden() < hidden) model.mlp_mult = std::nextafter(model.mlp_mult, kMaxMlpMult);  // the quotient is rounded
  model.tie_embeddings = find(state, parameter_name::head) == nullptr;
  if (find(state, parameter_name::bigram_table) != nullptr) {
    const auto& table = need(state, parameter_name::bigram_table, 2, path);
    model.bigram_vocab_size = static_cast<int>(table.size(0));
    model.bigram_dim = static_cast<int>(table.size(1));
  }
  if (find(state, parameter_name::value_table) != nullptr)
    model.ve_dim = static_cast<int>(need(state, parameter_name::value_table, 2, path).size(1));
  if (find(state, first(parameter_name::mlp_gate)) != nullptr) model.mlp_kind = MlpKind::swiglu;
  for (const auto& option : shape_options(&model)) {
    if (!option.shown_by.empty()) option.value.assign(find(state, option.shown_by) != nullptr ? "1" : "0");
  }
  if (model.norm_weights) infer_parallel_blocks(state, &model);
  *assumed = assume_defaults(&stored);
  return stored;
}

void read_torch(const Value& value, const std::string& name, ModelFile* file) {
  if (code_format_in(value) != CodeFormat::none) {
    const Dict& dict = value.as_dict(name);
    file->state = dequantize(read_codes(dict, name));
    file->metadata = artifact_config(dict, name);
    unwrap_names("", name, file);
    return;
  }
  const FoundWeights found = find_weights(value, name);
  const std::string where = found.path.empty() ? name : name + " at \"" + found.path + "\"";
  for (const auto& [key, raw] : as_named_tensors(*found.state_dict, where)) file->state.emplace_back(key, to_tensor(raw));
  file->metadata = state_dict_config(*found.state_dict, where);
  for (const Dict* dict : found.around) {  // as an artifact stores it, by those who save its weights again
    if (file->metadata.empty()) file->metadata = artifact_config(*dict, name);
  }
  unwrap_names(found.path, name, file);
}

void read_safetensors(const Safetensors& safetensors, const std::string& name, ModelFile* file) {
  for (const auto& [key, raw] : safetensors.tensors) file->state.emplace_back(key, to_tensor(raw));
  file->metadata = safetensors_config(safetensors.metadata, name);
  unwrap_names("", name, file);
}

void read_weights(Checkpoint checkpoint, ModelFile* file) {
  file->metadata = std::move(checkpoint.state.model);
  file->extra_passes = checkpoint.state.extra_passes;
  const std::string prefix = layout::checkpoint_model;
  for (auto& [key, tensor] : checkpoint.tensors) {
    if (key.rfind(prefix, 0) != 0) continue;
    const std::string plain = key.substr(prefix.size());
    file->stored_names[plain] = key;
    file->state.emplace_back(plain, std::move(tensor));
  }
}

void require_floating_point(const StateDict& state, const std::string& name) {
  for (const auto& [key, tensor] : state) {
    if (!tensor.is_floating_point()) {
      throw Error(ExitCode::bad_input, format("%s: %s holds integers (%s), not weights", name.c_str(), printable(key).c_str(),
                                              dtype_name(to_dtype(tensor.scalar_type()))));
    }
  }
}

}  // namespace

fs::path model_path(const fs::path& given) {
  std::error_code none;  // an unreadable path fails on opening, with the reason
  if (!fs::is_directory(given, none)) return given;
  const RunFolder run{given};
  for (const auto& path : {run.artifact(), run.gptq_artifact(), run.model()}) {
    if (fs::exists(path, none)) return path;
  }
  const auto checkpoints = list_checkpoints(run.checkpoints());
  if (!checkpoints.empty()) return checkpoints.back();
  for (const char* name : {"model.safetensors", "pytorch_model.bin"}) {
    if (fs::exists(given / name, none))
      throw Error(ExitCode::bad_input, format("%s is not a run folder", given.c_str()),
                  format("to read its model, pass %s", (given / name).c_str()));
  }
  throw Error(ExitCode::bad_input, format("the folder %s has no %s, %s or checkpoint", given.c_str(),
                                          run.artifact().filename().c_str(), run.model().filename().c_str()));
}

ModelFile read_model_file(const fs::path& given, const Adjust& adjust) {
  ModelFile file;
  file.path = model_path(given);
  const std::string name = file.path.string();
  {
    const ModelContainer container = open_model_container(file.path);
    file.format = container.format;
    if (const auto* value = std::get_if<Value>(&container.content)) {
      read_torch(*value, name, &file);
    } else if (const auto& safetensors = std::get<Safetensors>(container.content); container.is_checkpoint()) {
      read_weights(read_checkpoint(safetensors, file.path), &file);
    } else {
      read_safetensors(safetensors, name, &file);
    }
  }
  require_floating_point(file.state, name);
  file.stored =
      file.metadata.empty() ? infer_model(file.state, file.path, &file.assumed) : read_model_metadata(file.metadata, name);
  if (adjust) adjust(file);
  if (file.metadata.empty()) {
    require_skip_rows(file);
    require_value_scales(file);
  }
  file.state = in_model_order(std::move(file.state), file.stored.model, name);
  if (const int loops = file.stored.model.num_loops; file.extra_passes < -1 || file.extra_passes > loops) {
    throw Error(ExitCode::bad_input,
                format("%s: a model with NUM_LOOPS=%d cannot make %d extra passes", name.c_str(), loops, file.extra_passes));
  }
  return file;
}

Gpt build_model(const ModelFile& file, at::ScalarType compute, OpsPath path, const at::Device& device) {
  Gpt model(file.stored.model, path);
  set_parameter_precision(model, compute, OptimConfig().control_patterns);
  model->to(device);
  load_state_dict(model, file.state, file.path.string());
  if (file.extra_passes >= 0) model->set_extra_passes(file.extra_passes);
  model->eval();
  return model;
}

}  // namespace pgolf
