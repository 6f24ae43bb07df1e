#include "pgolf/artifact/torch_file.h"

#include "pgolf/artifact/layout.h"
#include "pgolf/artifact/pickle.h"
#include "pgolf/artifact/zip.h"
#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/base/text.h"

namespace pgolf {
namespace {

constexpr std::string_view pickle_suffix = "/data.pkl";
constexpr const char* metadata_attribute = "_metadata";

/// The folder of all records, with its slash.
std::string top_folder_of(const ZipReader& zip, const std::string& name) {
  for (const ZipRecord& record : zip.records()) {
    const size_t slash = record.name.find('/');
    if (slash != std::string::npos && std::string_view(record.name).substr(slash) == pickle_suffix) {
      return record.name.substr(0, slash + 1);
    }
  }
  throw Error(ExitCode::bad_input, name + ": the zip archive has no data.pkl; it was not written by torch.save");
}

}  // namespace

Value load_torch(BytesView archive, const std::string& name) {
  const ZipReader zip(archive, name);
  const std::string top = top_folder_of(zip, name);
  if (const ZipRecord* order = zip.find(top + "byteorder")) {
    const std::string_view text(reinterpret_cast<const char*>(order->bytes.data()), order->bytes.size());
    if (text != "little")
      throw Error(ExitCode::bad_input, name + ": saved on a big-endian machine; only little-endian files are supported");
  }
  return unpickle(zip.find(top + "data.pkl")->bytes, name, [&](const std::string& key) {
    const ZipRecord* record = zip.find(top + "data/" + key);
    if (record == nullptr) {
      throw Error(ExitCode::bad_input, format("%s: storage \"%s\" is not in the archive", name.c_str(), printable(key).c_str()));
    }
    return std::make_shared<const Bytes>(record->bytes.begin(), record->bytes.end());
  });
}

Value load_torch_file(const std::filesystem::path& path) {
  const MappedFile file(path);
  return load_torch(file.bytes(), path.string());
}

Bytes save_torch(const Value& value, std::string_view top_folder) {
  const Pickled pickled = pickle(value);
  TorchZipWriter zip(top_folder);
  zip.add("data.pkl", pickled.pickle);
  zip.add(".format_version", as_bytes("1"));
  zip.add(".storage_alignment", as_bytes("64"));
  zip.add("byteorder", as_bytes("little"));
  for (size_t i = 0; i < pickled.storages.size(); ++i) zip.add("data/" + std::to_string(i), *pickled.storages[i]);
  return zip.finish();
}

NamedTensors as_named_tensors(const Value& state_dict, const std::string& name) {
  NamedTensors tensors;
  for (const DictEntry& entry : state_dict.as_dict(name + ": the top level").entries()) {
    tensors.emplace_back(*entry.key, entry.value.as_tensor(name + ": entry \"" + *entry.key + "\""));
  }
  return tensors;
}

Value state_dict_value(const NamedTensors& tensors, const std::vector<std::string>& module_paths,
                       const std::map<std::string, std::string>& config) {
  Dict state(/*ordered=*/true);
  for (const auto& [tensor_name, tensor] : tensors) state.set(text(tensor_name), tensor);
  Dict metadata(/*ordered=*/true);
  const Text version = text("version");
  for (const std::string& path : module_paths) {
    Dict module;
    module.set(version, 1);
    metadata.set(text(path), std::move(module));
  }
  state.add_attribute(text(metadata_attribute), std::move(metadata));
  if (!config.empty()) {
    Dict entries;
    for (const auto& [key, value] : config) entries.set(text(key), text(value));
    state.add_attribute(text(layout::config), std::move(entries));
  }
  return state;
}

std::map<std::string, std::string> state_dict_config(const Value& state_dict, const std::string& name) {
  std::map<std::string, std::string> config;
  const std::string where = name + ": " + layout::config;
  const Value* stored = state_dict.as_dict(name + ": the top level").find_attribute(layout::config);
  if (stored == nullptr) return config;
  for (const DictEntry& entry : stored->as_dict(where).entries()) {
    config.emplace(*entry.key, entry.value.as_text(where + " entry \"" + *entry.key + "\""));
  }
  return config;
}

}  // namespace pgolf
