#include "pgolf/model_io/model_writer.h"

#include <algorithm>
#include <map>

#include "pgolf/artifact/safetensors.h"
#include "pgolf/artifact/torch_file.h"
#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/config/parameters.h"
#include "pgolf/model/gpt.h"
#include "pgolf/model_io/tensors.h"

namespace pgolf {
namespace {

NamedTensors raw_tensors(const StateDict& state) {
  NamedTensors raw;
  for (const auto& [name, tensor] : state) raw.emplace_back(name, to_raw(tensor));
  return raw;
}

/// "blocks.*.attn.c_q.weight" for "blocks.3.attn.c_q.weight"; other names as they are.
std::string kind_of(const std::string& name) {
  const std::string prefix = parameter_name::blocks;
  if (!name.starts_with(prefix)) return name;
  return prefix + "*" + name.substr(std::min(name.find('.', prefix.size()), name.size()));
}

/// The same tensors of all blocks together, which xz packs about 1 % smaller. Kinds are in the order of their first tensor.
CodedTensors by_kind(CodedTensors tensors) {
  std::map<std::string, size_t> first;
  for (size_t i = 0; i < tensors.size(); ++i) first.try_emplace(kind_of(tensors[i].name), i);
  std::stable_sort(tensors.begin(), tensors.end(), [&](const CodedTensor& a, const CodedTensor& b) {
    return first.at(kind_of(a.name)) < first.at(kind_of(b.name));
  });
  return tensors;
}

}  // namespace

ModelFormat model_format(const std::filesystem::path& path, Codec codec) {
  const std::string suffix = path.extension().string();
  if (suffix == ".pt") return {};
  if (suffix == ".safetensors") return {.container = Container::safetensors};
  if (suffix == ".ptz") return ArtifactFormat{.codec = codec}.file();
  throw Error(ExitCode::usage, format("%s: the suffix is not that of a known model format", path.c_str()),
              "use .safetensors, .pt or .ptz");
}

Bytes torch_model(const StateDict& state, const ModelConfig& model, const ModelMetadata& metadata,
                  const std::filesystem::path& path) {
  return save_torch(state_dict_value(raw_tensors(state), upstream_module_paths(model), metadata), path.stem().string());
}

Artifact make_artifact(const QuantizedModel& model, const ModelMetadata& metadata, const ArtifactFormat& made) {
  Artifact artifact;
  // Other formats are in the state dict's order, as their programs write them.
  Dict object = write_codes(made.codes, made.codes == CodeFormat::gptq_types ? by_kind(model.tensors) : model.tensors);
  if (!metadata.empty()) set_artifact_config(&object, metadata);
  const Bytes archive = save_torch(std::move(object));
  artifact.unpacked_bytes = archive.size();
  artifact.file = compress(made.codec, archive);
  return artifact;
}

void write_model(const std::filesystem::path& path, const StateDict& state, const ModelConfig& model,
                 const ModelMetadata& metadata, Codec codec) {
  const ModelFormat form = model_format(path, codec);
  if (form.container == Container::safetensors) {
    save_safetensors(path, {raw_tensors(state), safetensors_metadata(metadata)});
  } else if (form.codes == CodeFormat::none) {
    write_atomic(path, torch_model(state, model, metadata, path));
  } else {
    write_atomic(path, make_artifact(quantize_int8(state, OptimConfig().control_patterns), metadata, {.codec = codec}).file);
  }
}

}  // namespace pgolf
