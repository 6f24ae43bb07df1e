#include "pgolf/model_io/model_writer.h"

#include "pgolf/artifact/safetensors.h"
#include "pgolf/artifact/torch_file.h"
#include "pgolf/artifact/zlib.h"
#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/model/gpt.h"
#include "pgolf/model_io/tensors.h"

namespace pgolf {
namespace {

NamedTensors raw_tensors(const StateDict& state) {
  NamedTensors raw;
  for (const auto& [name, tensor] : state) raw.emplace_back(name, to_raw(tensor));
  return raw;
}

}  // namespace

ModelForm model_form(const std::filesystem::path& path) {
  const auto suffix = path.extension();
  if (suffix == ".pt") return ModelForm::torch;
  if (suffix == ".ptz") return ModelForm::int8_zlib;
  if (suffix == ".safetensors") return ModelForm::safetensors;
  throw Error(ExitCode::usage, format("%s: the suffix decides the form, and is none of the known ones", path.c_str()),
              "use .safetensors, .pt or .ptz");
}

Bytes torch_model(const StateDict& state, const ModelConfig& model, const ModelMetadata& metadata,
                  const std::filesystem::path& path) {
  return save_torch(state_dict_value(raw_tensors(state), python_module_paths(model), metadata), path.stem().string());
}

Bytes int8_model(const StateDict& state, const ModelMetadata& metadata, const std::vector<std::string>& keep_float_patterns,
                 QuantStats* stats) {
  Dict object = quantize_int8(state, keep_float_patterns, stats);
  if (!metadata.empty()) set_artifact_config(&object, metadata);
  return zlib_compress(save_torch(std::move(object)), 9);
}

void write_model(const std::filesystem::path& path, const StateDict& state, const ModelConfig& model,
                 const ModelMetadata& metadata) {
  switch (model_form(path)) {
    case ModelForm::torch:
      return write_atomic(path, torch_model(state, model, metadata, path));
    case ModelForm::int8_zlib: {
      QuantStats stats;
      return write_atomic(path, int8_model(state, metadata, OptimConfig().control_patterns, &stats));
    }
    case ModelForm::safetensors:
      return save_safetensors(path, {raw_tensors(state), safetensors_metadata(metadata)});
  }
}

}  // namespace pgolf
