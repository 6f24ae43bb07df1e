// GPTQ (arXiv 2210.17323): quantizes a matrix column by column, and makes up for each column's rounding errors in the columns
// after it, weighted by the inputs that the matrix has seen.
#pragma once

#include <string>

#include "pgolf/config/run_config.h"
#include "pgolf/model_io/quantizer.h"

namespace pgolf {

struct GptqSettings {
  int bits = 6;  ///< 2 to 8: codes from -n to n, n = 2^(bits - 1) - 1
  GptqClip clip = GptqClip::sigmas;
  double clip_sigmas = 12.85;      ///< of GptqClip::sigmas: the largest weight that a row represents, over its standard deviation
  double hessian_clip_lambda = 0;  ///< 0 to 1: how much more a row represents whose inputs matter more; not with the search
  int64_t block = 128;             ///< columns whose errors are passed on together; concerns the rounding of sums only
};

/// X^T X of a matrix's inputs X, [tokens, C], prepared for all the matrices that have these inputs.
struct PreparedHessian {
  at::Tensor dead;      ///< [C] bool: inputs that are always zero
  at::Tensor diagonal;  ///< [C] float32 of the damped Hessian H: 1 for dead inputs, then plus 1 % of the mean
  at::Tensor order;     ///< [C] int64: columns by falling diagonal, the order in which they are quantized
  at::Tensor factor;    ///< [C, C] float32: U, upper triangular, U^T U = H^-1, rows and columns in that order
};

/// hessian: [C, C] float32. name: of a matrix, for messages. Error(non_finite) if the damped Hessian is not positive definite.
PreparedHessian prepare_hessian(const at::Tensor& hessian, const std::string& name);

/// weights: [R, C]. Codes int8 [R, C], scales float16 [R]. With n as above:
///  - sigmas: scale = k * std(row) / n, at least 1e-10, which is 0 in float16: the codes of a row without spread are 0. With
///    lambda: times 1 + lambda * (r - 1), where r is the row's mean of |w_j| * max(diagonal_j, 1e-8), over the mean of all rows;
///  - search: the row's quantiles .999, .9995, .9999, .99999 and 1 of |w|, over n, at least 1/n; the quantile with the smallest
///    mean square error over the whole matrix is used for all of it.
/// Error(non_finite), naming the matrix, if a scale is not finite.
Codes gptq_codes(const at::Tensor& weights, const PreparedHessian& hessian, const GptqSettings& settings,
                 const std::string& name);

}  // namespace pgolf
