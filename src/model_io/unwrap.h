// Finds a model's weights in what trainers, torch.compile and the like wrap around them.
#pragma once

#include <string>
#include <vector>

#include "pgolf/artifact/value.h"
#include "pgolf/model_io/model_file.h"

namespace pgolf {

struct FoundWeights {
  const Value* state_dict;               ///< within the content
  std::string path;                      ///< keys that lead to it, joined by dots; empty if it is the whole content
  std::vector<const Dict*> around = {};  ///< the dicts on the way, from the outside
};

/// The only dict in content with a token embedding, under any prefix. Optimizers' states are not searched. Without one, the
/// largest dict of tensors: for the message that says what is missing. Error(bad_input) if there are several, if further tensors
/// are next to it that could be weights, or if there is no dict of tensors at all. name is the file.
FoundWeights find_weights(const Value& content, const std::string& name);

/// Reduces the names in file->state to the model's own: removes what the token embedding has in front, and the parts that
/// wrappers of modules insert. Error(bad_input) if other names lack that prefix. Sets unwrapped and stored_names. path: of
/// FoundWeights.
void unwrap_names(const std::string& path, const std::string& name, ModelFile* file);

}  // namespace pgolf
