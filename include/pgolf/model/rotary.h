// Rotary position embedding as a module of the attention layer.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include "pgolf/ops/rope.h"

namespace pgolf {

/// Holds a RopeSpec and provides its table. Has no parameters and no buffers: casting or saving the model
/// never touches the tables, which are shared by all layers through the cache.
class RotaryImpl : public torch::nn::Module {
 public:
  RotaryImpl(const RopeSpec& spec, std::shared_ptr<ops::RopeTableCache> tables);

  const RopeSpec& spec() const { return spec_; }
  int rope_dims() const { return spec_.rope_dims; }  ///< effective: 0 = no rotation, head_dim = full

  /// From now on nothing rotates.
  void drop() { spec_.rope_dims = 0; }

  /// Table for positions 0 .. seq_len-1, or null if nothing rotates.
  std::shared_ptr<const ops::RopeTable> table(int64_t seq_len, const at::Device& device) const;

 private:
  RopeSpec spec_;
  std::shared_ptr<ops::RopeTableCache> tables_;
};
TORCH_MODULE(Rotary);

}  // namespace pgolf
