#include "pgolf/model/linear.h"

#include <torch/nn/init.h>
#include <torch/types.h>

#include <cmath>

namespace pgolf {

CastedLinearImpl::CastedLinearImpl(int64_t in_features, int64_t out_features)
    : weight(register_parameter("weight", torch::empty({out_features, in_features}))), prepared_(weight) {
  torch::nn::init::kaiming_uniform_(weight, std::sqrt(5.0));
}

at::Tensor CastedLinearImpl::forward(const at::Tensor& x, OpsPath path) {
  if (observer) observer(x);
  return ops::linear(x, prepared_, path);
}

}  // namespace pgolf
