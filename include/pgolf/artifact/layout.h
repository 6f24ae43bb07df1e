// The keys of what is stored in files: every name that one part of this program writes for another to find.
#pragma once

namespace pgolf::layout {

/// The model's configuration, a table of option names and texts: an attribute of a state dict, an entry of an artifact, and a
/// JSON object in the metadata of a safetensors file. The Python program passes over all three.
inline constexpr const char* config = "pgolf_config";

/// An artifact's entries. The first makes a dictionary an artifact.
inline constexpr const char* code_format = "__quant_format__";
inline constexpr const char* quantized = "quantized";
inline constexpr const char* scales = "scales";
inline constexpr const char* dtypes = "dtypes";
inline constexpr const char* passthrough = "passthrough";
inline constexpr const char* passthrough_dtypes = "passthrough_orig_dtypes";
inline constexpr const char* schemes = "qmeta";

/// The metadata of a safetensors file.
inline constexpr const char* metadata = "__metadata__";
inline constexpr const char* format = "format";
inline constexpr const char* format_of_model = "pt";  ///< what other programs look for
inline constexpr const char* format_of_checkpoint = "train_gpt checkpoint 1";
inline constexpr const char* any_checkpoint = "train_gpt checkpoint";  ///< how the formats of all versions begin

/// More metadata of a training checkpoint, and what is in its state besides numbers.
inline constexpr const char* checksum = "sha256";
inline constexpr const char* state = "state";
inline constexpr const char* state_model = "model";
inline constexpr const char* state_config = "config";
/// Before a parameter's name among a checkpoint's tensors; the optimizers' state lies beside them.
inline constexpr const char* checkpoint_model = "model.";

}  // namespace pgolf::layout
