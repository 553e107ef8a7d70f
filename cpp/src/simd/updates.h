// The update rules on a row of parameters, vectorised by the compiler. Included by kernels.cpp only.
#pragma once

#include "simd/vector.h"

namespace fanin {
namespace FANIN_ISA {

// Updates n parameters with scale * gradient. first and second are the moments that the rule keeps.
FANIN_INLINE void update_row(const UpdateRule& rule, float weight_decay, float scale, const float* __restrict gradient,
                             float* __restrict parameter, float* __restrict first, float* __restrict second,
                             std::int64_t n) {
  const float rate = rule.learning_rate;
  if (rule.rule == Rule::adamw) {
    const float beta2 = rule.beta2, eps = rule.eps;
    const float share1 = rule.one_minus_beta1, share2 = rule.one_minus_beta2;
    const float step_size = rule.step_size, root_correction = rule.root_correction;
    const float keep = 1.0f - rate * weight_decay;
    for (std::int64_t i = 0; i < n; ++i) {
      const float g = scale * gradient[i];
      const float mean = first[i] + share1 * (g - first[i]);
      const float variance = beta2 * second[i] + share2 * g * g;
      first[i] = mean;
      second[i] = variance;
      parameter[i] = keep * parameter[i] - step_size * mean / (__builtin_sqrtf(variance) * root_correction + eps);
    }
  } else if (first) {
    const float momentum = rule.momentum;
    for (std::int64_t i = 0; i < n; ++i) {
      const float velocity = momentum * first[i] + (scale * gradient[i] + weight_decay * parameter[i]);
      first[i] = velocity;
      parameter[i] -= rate * velocity;
    }
  } else if (weight_decay != 0.0f) {
    for (std::int64_t i = 0; i < n; ++i) {
      parameter[i] -= rate * (scale * gradient[i] + weight_decay * parameter[i]);
    }
  } else {
    const float factor = rate * scale;
    for (std::int64_t i = 0; i < n; ++i) parameter[i] -= factor * gradient[i];
  }
}

// Updates rows of an [., width] parameter, given from the first of them on, with its whole moments, of which they are the
// rows [first_row, first_row + rows); the gradient has its own stride.
FANIN_INLINE void update_rows(const UpdateRule& rule, float weight_decay, float scale, const float* gradient,
                              std::int64_t gradient_stride, float* parameter, float* const moments[2],
                              std::int64_t first_row, std::int64_t rows, std::int64_t width) {
  std::int64_t at = first_row * width;
  if (gradient_stride == width) {  // one long row: the vector loop's start and end are paid once
    width *= rows;
    rows = 1;
  }
  for (std::int64_t r = 0; r < rows; ++r, at += width) {
    update_row(rule, weight_decay, scale, gradient + r * gradient_stride, parameter + r * width,
               moments[0] ? moments[0] + at : nullptr, moments[1] ? moments[1] + at : nullptr, width);
  }
}

}  // namespace FANIN_ISA
}  // namespace fanin
