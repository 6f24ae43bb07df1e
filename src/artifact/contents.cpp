#include "pgolf/artifact/contents.h"

#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "gptq_file.h"
#include "pgolf/artifact/code_format.h"
#include "pgolf/artifact/layout.h"
#include "pgolf/artifact/torch_file.h"
#include "pgolf/base/format.h"

namespace pgolf {
namespace {

constexpr size_t max_notes = 100;
constexpr size_t longest_path = 2000;  // keys may have 1000 bytes and 64 levels

/// The path of an entry, cut off where it gets too long.
std::string path_of(const std::string& parent, const std::string& key) {
  std::string path = parent.empty() ? key : parent + "." + key;
  if (path.size() > longest_path) path.resize(longest_path);
  return path;
}

class Lister {
 public:
  explicit Lister(FileContents* out) : out_(out) {}

  void artifact(const Dict& object) {
    const Dict* quantized = part(object, layout::quantized);
    const Dict* scales = part(object, layout::scales);
    const Dict* dtypes = part(object, layout::dtypes);
    const Dict* passthrough = part(object, layout::passthrough);
    const Dict* original = part(object, layout::passthrough_dtypes);
    for (const auto& entry : entries(quantized)) {
      const RawTensor* codes = entry.value.get_if<RawTensor>();
      if (codes == nullptr) continue;
      const Value* scale_value = scales == nullptr ? nullptr : scales->find(*entry.key);
      const RawTensor* scale = scale_value == nullptr ? nullptr : scale_value->get_if<RawTensor>();
      out_->tensors.push_back({*entry.key, *codes, scale == nullptr ? std::nullopt : std::optional(*scale),
                               text_of(dtypes, *entry.key, dtype_name(codes->dtype))});
    }
    for (const auto& entry : entries(passthrough)) {
      if (const RawTensor* tensor = entry.value.get_if<RawTensor>()) {
        out_->tensors.push_back({*entry.key, *tensor, {}, text_of(original, *entry.key, dtype_name(tensor->dtype))});
      }
    }
    for (const auto& [key, value] : object.entries()) {
      if (value.get_if<Dict>() == nullptr && *key != layout::code_format) walk(*key, value);
    }
  }

  void gptq_file(const Dict& object) {
    const Dict &weights = *part(object, layout::gptq_weights), &methods = *part(object, layout::gptq_methods);
    std::unordered_set<std::string> listed;
    const auto tensor_in = [&](const std::string& key) -> const RawTensor* {
      const Value* value = weights.find(key);
      const RawTensor* tensor = value == nullptr ? nullptr : value->get_if<RawTensor>();
      if (tensor != nullptr) listed.insert(key);
      return tensor;
    };
    for (const auto& [key, value] : methods.entries()) {
      const std::string method = describe_gptq_method(value);
      if (const RawTensor* kept = tensor_in(*key)) {
        out_->tensors.push_back({*key, *kept, {}, dtype_name(loaded_dtype(*kept)), method});
      } else if (const RawTensor* codes = tensor_in(*key + layout::gptq_codes_suffix)) {
        const RawTensor* scale = tensor_in(*key + layout::gptq_scale_suffix);
        out_->tensors.push_back(
            {*key, *codes, scale == nullptr ? std::nullopt : std::optional(*scale), dtype_name(DType::float32), method});
      }
    }
    for (const auto& [key, value] : weights.entries()) {
      if (listed.count(*key) == 0) walk(*key, value);
    }
    for (const auto& [key, value] : object.entries()) {
      if (value.get_if<Dict>() == nullptr) walk(*key, value);
    }
  }

  void walk(const std::string& path, const Value& value) {
    if (const RawTensor* tensor = value.get_if<RawTensor>()) {
      out_->tensors.push_back({path, *tensor, {}, dtype_name(tensor->dtype)});
    } else if (const Dict* dict = value.get_if<Dict>()) {
      for (const auto& entry : dict->entries()) walk(path_of(path, *entry.key), entry.value);
    } else if (const List* list = value.get_if<List>()) {
      walk_items(path, list->items);
    } else if (const Tuple* tuple = value.get_if<Tuple>()) {
      walk_items(path, tuple->items);
    } else if (const Text* text = value.get_if<Text>()) {
      note(path, **text);
    } else if (const int64_t* integer = value.get_if<int64_t>()) {
      note(path, std::to_string(*integer));
    } else if (const double* number = value.get_if<double>()) {
      note(path, python_float(*number));
    } else if (const bool* truth = value.get_if<bool>()) {
      note(path, *truth ? "True" : "False");
    } else if (const Opaque* opaque = value.get_if<Opaque>()) {
      note(path, "<" + *opaque->what + ">");
    } else {
      note(path, "None");
    }
  }

  void note(const std::string& key, const std::string& value) {
    if (out_->notes.size() < max_notes) out_->notes.emplace_back(key, value);
  }

 private:
  static const Dict* part(const Dict& object, const char* key) {
    const Value* value = object.find(key);
    return value == nullptr ? nullptr : value->get_if<Dict>();
  }
  static const std::vector<DictEntry>& entries(const Dict* dict) {
    static const std::vector<DictEntry> none;
    return dict == nullptr ? none : dict->entries();
  }
  static std::string text_of(const Dict* dict, const std::string& key, const char* fallback) {
    const Value* value = dict == nullptr ? nullptr : dict->find(key);
    const Text* text = value == nullptr ? nullptr : value->get_if<Text>();
    return text == nullptr ? fallback : **text;
  }
  void walk_items(const std::string& path, const std::vector<Value>& items) {
    for (size_t i = 0; i < items.size(); ++i) walk(path_of(path, std::to_string(i)), items[i]);
  }

  FileContents* out_;
};

/// The readable part of a training checkpoint's state.
void list_state(const std::string& text, FileContents* out, Lister& lister) {
  const auto state = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!state.is_object()) return;
  for (const auto& [key, value] : state.items()) {
    if (value.is_primitive()) {
      lister.note(key, value.dump());
    } else if (key == layout::state_model && value.is_object()) {
      for (const auto& [option, setting] : value.items()) {
        if (setting.is_string()) out->config[option] = setting.get<std::string>();
      }
    }
  }
}

}  // namespace

int64_t StoredTensor::bytes() const {
  return static_cast<int64_t>(data.bytes->size() + (scale ? scale->bytes->size() : 0));
}

FileContents list_contents(const ModelContainer& container, const std::string& name) {
  FileContents out;
  Lister lister(&out);
  if (const auto* safetensors = std::get_if<Safetensors>(&container.content)) {
    for (const auto& [key, tensor] : safetensors->tensors) out.tensors.push_back({key, tensor, {}, dtype_name(tensor.dtype)});
    out.config = safetensors_config(safetensors->metadata, name);
    for (const auto& [key, value] : safetensors->metadata) {
      if (key == layout::state && container.is_checkpoint()) {
        list_state(value, &out, lister);
      } else if (key != layout::config) {
        lister.note(key, value);
      }
    }
    return out;
  }
  const Value& value = std::get<Value>(container.content);
  const Dict* dict = value.get_if<Dict>();
  switch (code_format_in(value)) {
    case CodeFormat::none:
      lister.walk("", value);
      if (dict != nullptr) out.config = state_dict_config(value, name);
      return out;
    case CodeFormat::gptq:
    case CodeFormat::gptq_types:
      lister.gptq_file(*dict);
      break;
    default:
      if (const Text* text = dict->find(layout::code_format)->get_if<Text>()) out.quant_format = **text;
      lister.artifact(*dict);
  }
  out.config = artifact_config(*dict, name);
  return out;
}

double code_entropy(const RawTensor& codes) {
  std::array<int64_t, 256> counts{};
  for (const std::byte code : *codes.bytes) ++counts[static_cast<size_t>(code)];
  const auto total = static_cast<double>(codes.bytes->size());
  double bits = 0;
  for (const int64_t count : counts) {
    if (count == 0) continue;
    const double share = static_cast<double>(count) / total;
    bits -= share * std::log2(share);
  }
  return bits;
}

}  // namespace pgolf
