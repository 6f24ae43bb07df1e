#include "pgolf/model_io/expected_tensors.h"

#include <torch/types.h>

#include <algorithm>
#include <set>
#include <unordered_map>

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/base/text.h"

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

std::vector<std::pair<std::string, std::vector<int64_t>>> expected_tensors(const ModelConfig& model) {
  std::vector<std::pair<std::string, std::vector<int64_t>>> tensors;
  const auto add = [&](std::string name, std::vector<int64_t> shape) { tensors.emplace_back(std::move(name), std::move(shape)); };
  const int64_t dim = model.model_dim, kv_dim = int64_t{model.num_kv_heads} * model.head_dim();
  const int64_t hidden = dim * model.mlp_mult;
  if (model.unet_skips) add("skip_weights", {model.skip_count(), dim});
  add("tok_emb.weight", {model.vocab_size, dim});
  for (int i = 0; i < model.num_layers; ++i) {
    const std::string block = format("blocks.%d.", i);
    add(block + "attn_scale", {dim});
    add(block + "mlp_scale", {dim});
    if (model.resid_mix) add(block + "resid_mix", {2, dim});
    if (model.norm_weights) {
      add(block + "attn_norm.weight", {dim});
      if (!model.parallel_block) add(block + "mlp_norm.weight", {dim});
    }
    add(block + "attn.q_gain", {model.num_heads});
    add(block + "attn.c_q.weight", {dim, dim});
    add(block + "attn.c_k.weight", {kv_dim, dim});
    add(block + "attn.c_v.weight", {kv_dim, dim});
    add(block + "attn.proj.weight", {dim, dim});
    add(block + "mlp.fc.weight", {hidden, dim});
    if (model.mlp_kind == MlpKind::swiglu) add(block + "mlp.gate.weight", {hidden, dim});
    add(block + "mlp.proj.weight", {dim, hidden});
  }
  if (model.norm_weights) add("final_norm.weight", {dim});
  if (!model.tie_embeddings) add("lm_head.weight", {model.vocab_size, dim});
  return tensors;
}

StateDict in_model_order(StateDict state, const ModelConfig& model, const std::string& where) {
  std::unordered_map<std::string, at::Tensor> by_name;
  for (auto& [name, tensor] : state) {
    if (!by_name.emplace(name, std::move(tensor)).second)
      throw Error(ExitCode::bad_input, where + " has " + printable(name) + " twice");
  }
  StateDict ordered;
  std::vector<std::string> missing, reshaped, unknown;
  for (auto& [name, shape] : expected_tensors(model)) {
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
  add("it lacks ", missing);
  add("it has ", reshaped);
  add("not known here: ", unknown);
  throw Error(ExitCode::bad_input, format("%s is no GPT of this family (%d layers of %d lanes): %s", where.c_str(),
                                          model.num_layers, model.model_dim, what.c_str()));
}

std::string names_instead(const StateDict& state, const std::string& missing) {
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
