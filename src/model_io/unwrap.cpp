#include "unwrap.h"

#include <algorithm>

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/base/text.h"
#include "pgolf/config/parameters.h"

namespace pgolf {
namespace {

/// Inserted into names by torch.compile, activation checkpointing and FSDP; no module is called so.
constexpr const char* wrapper_parts[] = {"_orig_mod.", "_checkpoint_wrapped_module.", "_fsdp_wrapped_module."};

/// Dicts whose keys start like this hold an optimizer's state, perhaps under the names of the parameters.
constexpr const char* optimizer_key = "optim";

/// It is a part of each tensor's stored name.
constexpr size_t longest_path = 1000;

constexpr const char* save_alone = "save the state_dict() of the model that you mean, and nothing else";

/// What is in front of the token embedding's name, if key is such a name.
bool is_embedding(std::string_view key, std::string_view* prefix) {
  if (!key.ends_with(parameter_name::token_embedding)) return false;
  *prefix = key.substr(0, key.size() - std::string_view(parameter_name::token_embedding).size());
  return prefix->empty() || prefix->ends_with('.');
}

bool could_be_weight(const RawTensor& tensor) {
  const DType floating[] = {DType::float64, DType::float32, DType::float16, DType::bfloat16};
  return std::find(std::begin(floating), std::end(floating), tensor.dtype) != std::end(floating) && tensor.numel() > 1;
}

class Search {
 public:
  void visit(const Value& value) {
    const Dict* dict = value.get_if<Dict>();
    if (dict == nullptr || found.size() > 1) return;
    size_t tensors = 0;
    bool embedding = false;
    std::string_view prefix;
    for (const auto& [key, entry] : dict->entries()) {
      const RawTensor* tensor = entry.get_if<RawTensor>();
      if (tensor == nullptr) continue;
      ++tensors;
      embedding = embedding || (tensor->shape.size() == 2 && could_be_weight(*tensor) && is_embedding(*key, &prefix));
    }
    if (tensors > most_tensors_ && tensors == dict->size()) {
      most_tensors_ = tensors;
      largest = {&value, join(keys_, ".")};
    }
    if (embedding) {
      found.push_back({&value, join(keys_, "."), around_});
      return;
    }
    around_.push_back(dict);
    for (const auto& [key, entry] : dict->entries()) {
      if (entry.get_if<Dict>() == nullptr || key->starts_with(optimizer_key)) continue;
      keys_.push_back(*key);
      visit(entry);
      keys_.pop_back();
    }
    around_.pop_back();
  }

  std::vector<FoundWeights> found;  // at most two
  FoundWeights largest{nullptr, ""};

 private:
  size_t most_tensors_ = 0;
  std::vector<std::string> keys_;  // that lead to the value
  std::vector<const Dict*> around_;
};

std::string in_quotes(const std::string& text) {
  return "\"" + printable(text, 80) + "\"";
}

/// "model, optimizer, args (argparse.Namespace)".
std::string describe_entries(const Dict& dict) {
  constexpr size_t shown = 6;
  std::string out;
  for (size_t i = 0; i < std::min(shown, dict.size()); ++i) {
    const auto& [key, value] = dict.entries()[i];
    out += (i == 0 ? "" : ", ") + printable(*key, 80) + " (" + printable(value.type_name(), 80) + ")";
  }
  return dict.size() > shown ? out + format(" and %zu more", dict.size() - shown) : out;
}

Error without_model(const Value& content, const std::string& name) {
  const Dict* dict = content.get_if<Dict>();
  const std::string found = dict == nullptr     ? printable(content.type_name())
                            : dict->size() == 0 ? "an empty dict"
                                                : describe_entries(*dict);
  return {ExitCode::bad_input,
          format("%s is not a GPT of this family: no tensor %s; found %s", name.c_str(), parameter_name::token_embedding,
                 found.c_str()),
          save_alone};
}

void require_alone(const FoundWeights& weights, const std::string& name) {
  for (const Dict* dict : weights.around) {
    for (const auto& [key, value] : dict->entries()) {
      const RawTensor* tensor = value.get_if<RawTensor>();
      if (tensor == nullptr || !could_be_weight(*tensor)) continue;
      throw Error(ExitCode::bad_input,
                  format("%s holds a model at %s, and next to it the tensor %s, which may be a part of it", name.c_str(),
                         in_quotes(weights.path).c_str(), in_quotes(*key).c_str()),
                  save_alone);
    }
  }
}

/// Removes all wrapper_parts, which may follow a dot.
std::string without_wrappers(std::string name, std::vector<std::string>* removed) {
  for (const std::string part : wrapper_parts) {
    for (size_t at = 0; (at = name.find(part, at)) != name.npos;) {
      if (at > 0 && name[at - 1] != '.') {
        ++at;
        continue;
      }
      name.erase(at, part.size());
      if (std::find(removed->begin(), removed->end(), part) == removed->end()) removed->push_back(part);
    }
  }
  return name;
}

}  // namespace

FoundWeights find_weights(const Value& content, const std::string& name) {
  Search search;
  search.visit(content);
  if (search.found.empty()) {
    if (search.largest.state_dict == nullptr) throw without_model(content, name);
    return search.largest;
  }
  if (search.found.size() > 1) {
    throw Error(ExitCode::bad_input,
                format("%s holds several models: at %s and at %s", name.c_str(), in_quotes(search.found[0].path).c_str(),
                       in_quotes(search.found[1].path).c_str()),
                save_alone);
  }
  const FoundWeights& weights = search.found.front();
  require_alone(weights, name);
  if (weights.path.size() > longest_path)
    throw Error(ExitCode::bad_input, format("%s holds a model under names of %zu bytes", name.c_str(), weights.path.size()),
                save_alone);
  return weights;
}

void unwrap_names(const std::string& path, const std::string& name, ModelFile* file) {
  std::string_view shortest;
  bool found = false;
  for (const auto& [key, tensor] : file->state) {
    std::string_view prefix;
    if (tensor.dim() != 2 || !tensor.is_floating_point() || !is_embedding(key, &prefix)) continue;
    if (found && prefix.size() >= shortest.size()) continue;
    shortest = prefix;
    found = true;
  }
  const std::string prefix(shortest);
  std::vector<std::string> parts;
  for (auto& [key, tensor] : file->state) {
    if (!key.starts_with(prefix)) {
      throw Error(ExitCode::bad_input,
                  format("%s: the model's names start with %s, but %s does not", name.c_str(), in_quotes(prefix).c_str(),
                         in_quotes(key).c_str()),
                  save_alone);
    }
    std::string plain = without_wrappers(key.substr(prefix.size()), &parts);
    const std::string stored = path.empty() ? key : path + "." + key;
    if (plain != stored) file->stored_names[plain] = stored;
    key = std::move(plain);
  }
  std::string& text = file->unwrapped;
  if (!path.empty()) text = "the weights at " + in_quotes(path);
  if (!prefix.empty()) text += (text.empty() ? "the weights" : ",") + std::string(" without the prefix ") + in_quotes(prefix);
  if (!parts.empty())
    text += (text.empty()     ? "the weights without "
             : prefix.empty() ? ", without "
                              : " and without ") +
            join(parts, ", ") + " in names";
}

}  // namespace pgolf
