// Tensors by name, in order.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <utility>
#include <vector>

namespace pgolf {

using StateDict = std::vector<std::pair<std::string, at::Tensor>>;

}  // namespace pgolf
