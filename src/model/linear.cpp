#include "pgolf/model/linear.h"

#include <torch/nn/init.h>
#include <torch/types.h>

#include <cmath>

namespace pgolf {

CastedLinearImpl::CastedLinearImpl(int64_t in_features, int64_t out_features, bool zero_init)
    : weight(register_parameter("weight", torch::empty({out_features, in_features}))), zero_init_(zero_init), prepared_(weight) {
  torch::nn::init::kaiming_uniform_(weight, std::sqrt(5.0));
}

at::Tensor CastedLinearImpl::forward(const at::Tensor& x, OpsPath path) {
  return ops::linear(x, prepared_, path);
}

void CastedLinearImpl::finish_init() {
  if (zero_init_) torch::nn::init::zeros_(weight);
}

}  // namespace pgolf
