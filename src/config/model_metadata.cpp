#include "pgolf/config/model_metadata.h"

#include <algorithm>

#include "pgolf/artifact/layout.h"
#include "pgolf/base/error.h"
#include "pgolf/base/format.h"

namespace pgolf {
namespace {

std::vector<ModelOption> stored_options(StoredModel* stored, RopeRequest* rope) {
  std::vector<ModelOption> options = shape_options(&stored->model);
  for (auto& option : rotary_options(&stored->model, rope)) options.push_back(std::move(option));
  options.push_back(train_seq_len_option(&stored->train_seq_len));
  std::erase_if(options, [](const ModelOption& option) {
    return option.stored == Stored::never || option.stored == Stored::as_another_option;
  });
  return options;
}

const Binding& binding_in_files(const ModelOption& option) {
  return option.in_files ? *option.in_files : option.value;
}

}  // namespace

ModelOption train_seq_len_option(int* train_seq_len) {
  return {.name = "TRAIN_SEQ_LEN",
          .value = bind::integer(train_seq_len, 1, kMaxSeqLen),
          .unit = "tokens",
          .help = "Sequence length in training.",
          .stored = Stored::always,
          .default_in_files = "1024",
          .places = {.assumed = 1}};
}

ModelMetadata model_metadata(const ModelConfig& model, int train_seq_len) {
  StoredModel stored{model, train_seq_len, /*tokenizer=*/""};
  RopeRequest rope = rope_request(model);
  ModelMetadata metadata;
  // A binding's default text is the value of its field at the time of binding.
  for (const auto& option : stored_options(&stored, &rope)) metadata[option.name] = option.value.default_text;
  return metadata;
}

ModelMetadata metadata_for_file(const StoredModel& model) {
  StoredModel stored = model;
  RopeRequest rope = rope_request(model.model);
  ModelMetadata metadata = model_metadata(model.model, model.train_seq_len);
  for (const auto& option : stored_options(&stored, &rope)) {
    if (!option.goes_into_files(metadata[option.name])) metadata.erase(option.name);
  }
  if (!model.tokenizer.empty()) metadata[layout::tokenizer] = model.tokenizer;
  return metadata;
}

StoredModel read_model_metadata(const ModelMetadata& metadata, const std::string& where) {
  StoredModel stored;
  if (const auto found = metadata.find(layout::tokenizer); found != metadata.end()) stored.tokenizer = found->second;
  RopeRequest rope;
  for (const auto& option : stored_options(&stored, &rope)) {
    const auto found = metadata.find(option.name);
    if (found == metadata.end() && option.stored == Stored::always) {
      throw Error(ExitCode::bad_input, format("%s: the stored configuration has no %s", where.c_str(), option.name.c_str()));
    }
    try {
      binding_in_files(option).assign(found == metadata.end() ? option.default_in_files : found->second);
    } catch (const Error& e) {
      throw Error(ExitCode::bad_input, format("%s: stored %s: %s", where.c_str(), option.name.c_str(), e.what()));
    }
  }
  ModelConfig& model = stored.model;
  if (model.model_dim % model.num_heads != 0 || model.num_heads % model.num_kv_heads != 0 || model.head_dim() % 2 != 0) {
    throw Error(ExitCode::bad_input, where + ": the stored MODEL_DIM, NUM_HEADS and NUM_KV_HEADS do not match");
  }
  if (const auto conflict = find_conflict(model)) {
    const ModelMetadata values = model_metadata(model, stored.train_seq_len);
    std::string what;
    for (const char* name : conflict->options) what += (what.empty() ? "" : ", ") + std::string(name) + "=" + values.at(name);
    throw Error(ExitCode::bad_input, format("%s: %s: %s", where.c_str(), what.c_str(), conflict->reason.c_str()), conflict->hint);
  }
  const auto read = [&](const char* name, const auto& f) {
    try {
      f();
    } catch (const Error& e) {
      throw Error(ExitCode::bad_input, format("%s: stored %s%s", where.c_str(), name, e.what()));
    }
  };
  std::string warning;
  read("ROPE_DIMS: ", [&] { model.rope_dims = parse_rope_dims(rope.dims, model.head_dim(), &warning); });
  read("", [&] { model.rope_dims = rope_dims_of(rope, model, &warning); });
  return stored;
}

std::vector<std::string> assume_defaults(StoredModel* stored) {
  RopeRequest rope;
  std::vector<std::pair<int, std::string>> listed;
  for (const auto& option : stored_options(stored, &rope)) {
    if (option.follows_from_tensors() || (option.inferable_if != nullptr && option.inferable_if(stored->model))) continue;
    const std::string text = option.value.assign(option.default_in_files);
    if (option.places.assumed > 0) listed.emplace_back(option.places.assumed, option.name + "=" + text);
  }
  std::string warning;
  stored->model.rope_dims = rope_dims_of(rope, stored->model, &warning);
  std::sort(listed.begin(), listed.end());
  std::vector<std::string> assumed;
  for (auto& [place, text] : listed) assumed.push_back(std::move(text));
  return assumed;
}

}  // namespace pgolf
