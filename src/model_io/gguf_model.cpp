// write_gguf(): llama.cpp's names of hyperparameters and of a SentencePiece tokenizer.
#include <algorithm>

#include "pgolf/artifact/gguf.h"
#include "pgolf/model_io/foreign_model.h"
#include "pgolf/model_io/tensors.h"

namespace pgolf {
namespace {

/// llama.cpp's name.
std::string gguf_architecture(Architecture architecture) {
  return architecture == Architecture::gpt_neox ? "gptneox" : architecture_name(architecture);
}

uint32_t file_type(WeightDtype dtype) {
  switch (dtype) {
    case WeightDtype::float32:
      return 0;
    case WeightDtype::float16:
      return 1;
    case WeightDtype::bfloat16:
      break;
  }
  return 32;
}

void add_model(Gguf& gguf, const ForeignModel& foreign) {
  const PlainModel& model = foreign.model;
  const std::string prefix = gguf_architecture(foreign.architecture);
  const auto number = [&](const char* key, int64_t value) {
    gguf.metadata.emplace_back(prefix + "." + key, static_cast<uint32_t>(value));
  };
  const auto real = [&](const char* key, double value) {
    gguf.metadata.emplace_back(prefix + "." + key, static_cast<float>(value));
  };
  number("vocab_size", model.vocab_size);
  number("context_length", foreign.context_length);
  number("embedding_length", model.width);
  number("block_count", static_cast<int64_t>(model.layers.size()));
  number("feed_forward_length", model.hidden);
  number("attention.head_count", model.heads);
  number("attention.head_count_kv", model.kv_heads);
  real(model.layer_norms ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon", model.norm_eps);
  // llama.cpp computes NaN when it rotates 0 dimensions. With this factor the angle of a pair is too small to change any float32.
  constexpr double no_angle = 1e30;
  number("rope.dimension_count", std::max(model.rope_dims, 2));
  real("rope.freq_base", model.rope_base);
  if (model.rope_dims == 0) {
    gguf.metadata.emplace_back(prefix + ".rope.scaling.type", std::string("linear"));
    real("rope.scaling.factor", no_angle);
  }
  gguf.metadata.emplace_back(prefix + ".use_parallel_residual", model.parallel);
}

void add_tokenizer(Gguf& gguf, const Tokenizer& tokenizer) {
  const SentencePieceModel model = tokenizer.contents();
  std::vector<std::string> texts;
  std::vector<float> scores;
  std::vector<int32_t> types;  // numbered as in SentencePiece's files
  for (const auto& piece : model.pieces) {
    texts.push_back(piece.text);
    scores.push_back(piece.score);
    types.push_back(static_cast<int32_t>(piece.type));
  }
  const auto add = [&](const char* key, GgufValue value) {
    gguf.metadata.emplace_back(std::string("tokenizer.ggml.") + key, std::move(value));
  };
  const auto add_id = [&](const char* key, int id) {
    if (id >= 0) add(key, static_cast<uint32_t>(id));
  };
  // llama.cpp's names of SentencePiece's two algorithms.
  add("model", std::string(model.kind == SentencePieceModel::Kind::bpe ? "llama" : "t5"));
  add("tokens", std::move(texts));
  add("scores", std::move(scores));
  add("token_type", std::move(types));
  add_id("bos_token_id", tokenizer.bos_id());
  add_id("eos_token_id", tokenizer.eos_id());
  add_id("unknown_token_id", tokenizer.unknown_id());
  add_id("padding_token_id", tokenizer.pad_id());
  add("add_bos_token", tokenizer.bos_id() >= 0);
  add("add_eos_token", false);
  add("add_space_prefix", model.dummy_blank);
  add("remove_extra_whitespaces", model.remove_extra_spaces);
  if (!model.charsmap.empty()) add("precompiled_charsmap", std::vector<uint8_t>(model.charsmap.begin(), model.charsmap.end()));
}

}  // namespace

void write_gguf(const std::filesystem::path& path, const ForeignModel& model, const Tokenizer& tokenizer, WeightDtype dtype,
                const std::string& name) {
  Gguf gguf;
  gguf.metadata = {{"general.architecture", gguf_architecture(model.architecture)},
                   {"general.name", name},
                   {"general.file_type", file_type(dtype)}};
  add_model(gguf, model);
  add_tokenizer(gguf, tokenizer);
  for (const auto& [tensor_name, tensor] : foreign_tensors(model, ForeignFormat::gguf, dtype))
    gguf.tensors.emplace_back(tensor_name, to_raw(tensor));
  save_gguf(path, gguf);
}

}  // namespace pgolf
