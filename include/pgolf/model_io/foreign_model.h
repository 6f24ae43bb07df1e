// Our models as models of other programs: an architecture that transformers and llama.cpp know, and its tensors' names.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <string>

#include "pgolf/config/enum_text.h"
#include "pgolf/data/tokenizer.h"
#include "pgolf/model_io/model_file.h"
#include "pgolf/model_io/plain_model.h"

namespace pgolf {

/// phi3: sequential blocks with RMSNorm and SwiGLU. stablelm: SwiGLU with LayerNorm, in parallel blocks or with norms of q and k.
/// gpt_neox: an MLP of two matrices, LayerNorm, as many key heads as query heads.
enum class Architecture { phi3, stablelm, gpt_neox };
const char* architecture_name(Architecture architecture);  ///< transformers' model_type

/// hf: a folder for transformers. gguf: a file for llama.cpp.
enum class ForeignFormat { hf, gguf };

enum class WeightDtype { float32, float16, bfloat16 };
constexpr EnumTexts<WeightDtype, 3> enum_texts(WeightDtype) {
  return {{{"float32", WeightDtype::float32}, {"float16", WeightDtype::float16}, {"bfloat16", WeightDtype::bfloat16}}};
}

struct ForeignModel {
  Architecture architecture;
  PlainModel model;
  int context_length = 0;  ///< sequence length in training
};

/// Error(bad_input), naming the options that stand in the way, for a model that none of the format's architectures computes.
ForeignModel foreign_model(const ModelFile& file, ForeignFormat format);

/// With the format's names, in its order, rounded once; vectors in a gguf stay float32. Error(bad_input) for a weight that
/// becomes infinite.
StateDict foreign_tensors(const ForeignModel& model, ForeignFormat format, WeightDtype dtype);

/// config.json, generation_config.json, model.safetensors, tokenizer.json and tokenizer_config.json, for
/// AutoModelForCausalLM.from_pretrained and AutoTokenizer.from_pretrained. The folder is made; config.json is written last.
void write_hf_folder(const std::filesystem::path& folder, const ForeignModel& model, const Tokenizer& tokenizer,
                     WeightDtype dtype);

/// Tensors, hyperparameters and tokenizer in one file. name: of the model, for people.
void write_gguf(const std::filesystem::path& path, const ForeignModel& model, const Tokenizer& tokenizer, WeightDtype dtype,
                const std::string& name);

}  // namespace pgolf
