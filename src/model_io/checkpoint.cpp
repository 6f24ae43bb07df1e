#include "pgolf/model_io/checkpoint.h"

#include <algorithm>

#include "pgolf/artifact/layout.h"
#include "pgolf/artifact/model_container.h"
#include "pgolf/base/error.h"
#include "pgolf/base/files.h"
#include "pgolf/base/format.h"
#include "pgolf/base/hash.h"
#include "pgolf/base/log.h"
#include "pgolf/base/text.h"
#include "pgolf/model_io/tensors.h"

namespace pgolf {
namespace fs = std::filesystem;

namespace {

std::string checksum(const NamedTensors& tensors) {
  Sha256 hash;
  for (const auto& [name, tensor] : tensors) {
    hash.update(as_bytes(name));
    hash.update(*tensor.bytes);
  }
  return hash.hex();
}

}  // namespace

void save_checkpoint(const fs::path& folder, const TrainingState& state, const StateDict& tensors) {
  create_folders(folder);
  NamedTensors raw;
  for (const auto& [name, tensor] : tensors) raw.emplace_back(name, to_raw(tensor));
  const std::string sha256 = checksum(raw);
  save_safetensors(folder / format("step_%08lld.safetensors", static_cast<long long>(state.step)),
                   {std::move(raw),
                    {{layout::format, layout::format_of_checkpoint},
                     {layout::checksum, sha256},
                     {layout::state, training_state_text(state)}}});
}

Checkpoint load_checkpoint(const fs::path& path) {
  constexpr const char* hint = "resume from a run folder or from a file in its checkpoints/";
  const ModelContainer container = [&] {
    try {
      return open_model_container(path);
    } catch (const Error& e) {
      throw Error(e.code(), e.what(), hint);
    }
  }();
  if (!container.is_checkpoint()) {
    throw Error(
        ExitCode::bad_input,
        format("%s is a model (%s) without the state of the optimizers", path.c_str(), format_text(container.format).c_str()),
        hint);
  }
  return read_checkpoint(std::get<Safetensors>(container.content), path);
}

Checkpoint read_checkpoint(const Safetensors& file, const fs::path& path) {
  const auto value_of = [&](const char* key) -> const std::string& {
    const auto found = file.metadata.find(key);
    if (found == file.metadata.end())
      throw Error(ExitCode::bad_input, format("%s is not a training checkpoint: it has no \"%s\"", path.c_str(), key));
    return found->second;
  };
  if (value_of(layout::format) != layout::format_of_checkpoint) {
    throw Error(ExitCode::bad_input,
                format("%s: unknown checkpoint format \"%s\"", path.c_str(), printable(value_of(layout::format)).c_str()),
                "resume with the version of train_gpt that wrote it");
  }
  if (value_of(layout::checksum) != checksum(file.tensors))
    throw Error(ExitCode::bad_input, format("%s is damaged: checksum mismatch", path.c_str()),
                "resume from an older one of the run");
  Checkpoint checkpoint{path, {}, {}};
  checkpoint.state = parse_training_state(value_of(layout::state), path.string());
  for (const auto& [name, raw] : file.tensors) checkpoint.tensors.emplace_back(name, to_tensor(raw));
  return checkpoint;
}

std::vector<fs::path> list_checkpoints(const fs::path& folder) {
  return glob_sorted((folder / "step_*.safetensors").string());
}

std::optional<Checkpoint> load_newest_checkpoint(const fs::path& folder) {
  auto paths = list_checkpoints(folder);
  for (auto path = paths.rbegin(); path != paths.rend(); ++path) {
    try {
      return load_checkpoint(*path);
    } catch (const Error& e) {
      log::warn(std::string(e.what()) + "; trying the previous checkpoint");
    }
  }
  if (paths.empty()) return std::nullopt;
  throw Error(ExitCode::bad_input, format("none of the %zu checkpoints in %s can be read", paths.size(), folder.c_str()),
              "start a new run, or resume from another checkpoint with --resume PATH");
}

void prune_checkpoints(const fs::path& folder, int keep_last) {
  const auto paths = list_checkpoints(folder);
  for (size_t i = 0; i + static_cast<size_t>(keep_last) < paths.size(); ++i) {
    std::error_code ignored;  // an extra checkpoint does no harm
    fs::remove(paths[i], ignored);
  }
}

}  // namespace pgolf
