#include "pgolf/model_io/expected_tensors.h"

#include <torch/types.h>

#include <algorithm>
#include <set>
#include <unordered_map>

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/base/text.h"
#include "pgolf/config/parameters.h"

namespace pgolf {
namespace {

/// "a, b and 5 more".
std::string listed(const std::vector<std::string>& names, size_t shown) {
  std::string out;
  for (size_t i = 0; i < std::min(shown, names.size()); ++i) out += (i == 0 ? "" : ", ") + printable(names[i], 80);
  if (names.size() > shown) out += format(" and %zu more", names.size() - shown);
  return out;
}

}  // namespace

StateDict in_model_order(StateDict state, const ModelConfig& model, const std::string& where) {
  std::unordered_map<std::string, at::Tensor> by_name;
  for (auto& [name, tensor] : state) {
    if (!by_name.emplace(name, std::move(tensor)).second)
      throw Error(ExitCode::bad_input, where + " contains " + printable(name) + " twice");
  }
  StateDict ordered;
  std::vector<std::string> missing, reshaped, unknown;
  for (const auto& [name, shape, role, initialization, init_std] : model_parameters(model)) {
    const auto found = by_name.find(name);
    if (found == by_name.end()) {
      missing.push_back(name);
      continue;
    }
    if (found->second.sizes() != at::IntArrayRef(shape)) {
      reshaped.push_back(name + " " + c10::str(found->second.sizes()) + " instead of " + c10::str(at::IntArrayRef(shape)));
    }
    ordered.emplace_back(name, std::move(found->second));
    by_name.erase(found);
  }
  for (const auto& entry : state) {
    if (by_name.count(entry.first) != 0) unknown.push_back(entry.first);
  }
  if (missing.empty() && reshaped.empty() && unknown.empty()) return ordered;
  std::string what;
  const auto add = [&](const char* verb, const std::vector<std::string>& names) {
    if (!names.empty()) what += (what.empty() ? "" : "; ") + std::string(verb) + listed(names, 3);
  };
  add("missing: ", missing);
  add("wrong shape: ", reshaped);
  add("unknown: ", unknown);
  throw Error(ExitCode::bad_input, format("%s is not a GPT of this family (%d layers, width %d): %s", where.c_str(),
                                          model.num_layers, model.model_dim, what.c_str()));
}

std::string describe_found_names(const StateDict& state, const std::string& missing) {
  std::string shared = missing;
  const auto is_shared = [&](const auto& entry) { return entry.first.starts_with(shared); };
  do {
    shared.pop_back();
    const size_t dot = shared.rfind('.');
    shared.resize(dot == std::string::npos ? 0 : dot + 1);
  } while (!shared.empty() && std::none_of(state.begin(), state.end(), is_shared));
  std::vector<std::string> parts;
  std::set<std::string> seen;
  for (const auto& [name, tensor] : state) {
    if (!name.starts_with(shared)) continue;
    const std::string part = name.substr(shared.size(), name.find('.', shared.size()) - shared.size());
    if (seen.insert(part).second) parts.push_back(part);
  }
  return (shared.empty() ? "" : shared + ": ") + (parts.empty() ? "nothing" : listed(parts, 6));
}

}  // namespace pgolf
