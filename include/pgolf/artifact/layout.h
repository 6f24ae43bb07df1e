// Keys in stored files: all names that one part of this program writes and another reads.
#pragma once

namespace pgolf::layout {

/// The model's configuration, a table of option names and values: an attribute of a state dict, an entry of an artifact, and a
/// JSON object in the metadata of a safetensors file. Upstream and the record programs ignore all three.
inline constexpr const char* config = "pgolf_config";
/// An entry of that table which is no option: the fingerprint of the tokenizer.
inline constexpr const char* tokenizer = "TOKENIZER";

/// An artifact's entries. The first identifies a dictionary as an artifact.
inline constexpr const char* code_format = "__quant_format__";
inline constexpr const char* quantized = "quantized";
inline constexpr const char* scales = "scales";
inline constexpr const char* dtypes = "dtypes";
inline constexpr const char* passthrough = "passthrough";
inline constexpr const char* passthrough_dtypes = "passthrough_orig_dtypes";
inline constexpr const char* schemes = "qmeta";

/// The entries of an artifact of the record programs: two dictionaries, and what their names are made of.
inline constexpr const char* gptq_weights = "w";
inline constexpr const char* gptq_methods = "m";
inline constexpr const char* gptq_codes_suffix = ".q";
inline constexpr const char* gptq_scale_suffix = ".scale";
inline constexpr const char* gptq_type = "type";

/// The metadata of a safetensors file.
inline constexpr const char* metadata = "__metadata__";
inline constexpr const char* format = "format";
inline constexpr const char* format_of_model = "pt";  ///< expected by other programs
inline constexpr const char* format_of_checkpoint = "train_gpt checkpoint 1";
inline constexpr const char* checkpoint_prefix = "train_gpt checkpoint";  ///< common prefix of all versions

/// Further metadata of a training checkpoint, and the non-numeric entries of its state.
inline constexpr const char* checksum = "sha256";
inline constexpr const char* state = "state";
inline constexpr const char* state_model = "model";
inline constexpr const char* state_config = "config";
/// Prefix of parameter names in a checkpoint's tensors, which also include the optimizers' state.
inline constexpr const char* checkpoint_model = "model.";

}  // namespace pgolf::layout
