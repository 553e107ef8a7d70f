// Value and gradient of the losses over the logits of one label and one tile. Included by kernels.cpp only.
//
// The loss of a relevant label at z is that of an irrelevant one at -z, for both losses. So the few relevant logits
// change their sign before, and their gradients after, and the rest treats all labels alike: no relevant label's loss
// or gradient is a difference of larger numbers. A pair's margin and weight come in at the same two places.
#pragma once

#include <cmath>

#include "fanin/layer.h"
#include "simd/vector.h"

namespace fanin {
namespace FANIN_ISA {

// exp(a) for a <= 0, relative error below 4e-7 for a > -20; arguments under -87 count as -87; NaN stays NaN.
FANIN_INLINE Vec exp_negative(Vec a) {
  a = at_least(-87.0f, a);
  // 1.5 * 2^23 rounds to an integer; the 127 makes its low bits the exponent field of 2^n.
  const float shift = 12582912.0f + 127.0f;
  Vec shifted = a * 1.44269504f + shift;
  Vec n = shifted - shift;
  Vec r = a - n * 0.693147181f;
  Vec p = r * 0.00831241999f + 0.0418909788f;  // minimax of (e^r - 1 - r) / r^2 on [-ln 2 / 2, ln 2 / 2]
  p = p * r + 0.166671187f;
  p = p * r + 0.499992251f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  Vec power = reinterpret_cast<Vec>(reinterpret_cast<VecI>(shifted) << 23);
  return p * power;  // a product and not an addition to the exponent bits: NaN stays NaN
}

// log(1 + q) for 0 <= q < 2^100, relative error below 1e-6 also for tiny q; NaN stays NaN.
FANIN_INLINE Vec log1p_positive(Vec q) {
  Vec u = q + 1.0f;
  // k: exponent of u once its mantissa lies in [sqrt(1/2), sqrt(2)).
  VecI k = (reinterpret_cast<VecI>(u) - 0x3f3504f3) >> 23;
  Vec power = reinterpret_cast<Vec>((127 - k) << 23);  // 2^-k
  Vec f = q * power + (power - 1.0f);                  // (1 + q) 2^-k - 1 without rounding 1 + q; q itself for k = 0
  f = k == 0 ? q : f;
  Vec p = f * 0.0899339914f - 0.144457877f;  // minimax of (log1p(f) - f) / f^2
  p = p * f + 0.148868352f;
  p = p * f - 0.165494695f;
  p = p * f + 0.199630097f;
  p = p * f - 0.250026643f;
  p = p * f + 0.333339453f;
  p = p * f - 0.499999821f;
  Vec fk = __builtin_convertvector(k, Vec);
  return fk * 0.693147181f + (p * f * f + f);
}

// Sums a loss over many labels: vectors of float for a few labels at a time, a double over all of them.
struct LossSum {
  Vec linear{};       // BCE: sum of max(z, 0); squared hinge: sum of the squares
  Vec product{};      // BCE: prod(1 + e^-|z|) - 1, kept in this form so that tiny e^-|z| are not rounded away
  int vectors = 0;    // added since the last flush
  double total = 0.0;

  // Factors of `product` are at most 2, so that 64 of them stay far from overflow.
  static constexpr int kFlushAfter = 64;

  FANIN_INLINE void flush() {
    Vec value = linear + log1p_positive(product);
    for (int i = 0; i < kLanes; ++i) total += static_cast<double>(value[i]);
    linear = Vec{};
    product = Vec{};
    vectors = 0;
  }
};

// What one tile's rows have in common: which lanes of its vectors are rows of the batch.
struct TileRows {
  std::int64_t first;  // number of the tile's first row
  std::int64_t count;  // rows of the batch in this tile
};

FANIN_INLINE VecI valid_lanes(const TileRows& rows, int vector) {
  return lane_numbers() < static_cast<std::int32_t>(rows.count) - vector * kLanes;
}

// Replaces logits z [T] by gradients for irrelevant labels; returns their sum. kFull: every lane is a row.
template <int NV, bool kFull>
FANIN_INLINE float bce_gradient(float* z, const TileRows& rows, LossSum& sum) {
  Vec gradient_sum{};
  Vec linear = sum.linear;
  Vec product = sum.product;
  for (int j = 0; j < NV; ++j) {
    const Vec logit = load(z + j * kLanes);
    Vec positive_part = at_least(0.0f, logit);
    Vec e = exp_negative(negative_magnitude(logit));
    Vec g = (logit < 0.0f ? e : splat(1.0f)) * reciprocal(1.0f + e);
    if constexpr (!kFull) {
      const VecI valid = valid_lanes(rows, j);
      positive_part = valid ? positive_part : Vec{};
      e = valid ? e : Vec{};
      g = valid ? g : Vec{};
    }
    linear += positive_part;
    product = e * (1.0f + product) + product;
    store(z + j * kLanes, g);
    gradient_sum += g;
  }
  sum.linear = linear;
  sum.product = product;
  return sum_lanes(gradient_sum);
}

// The same; `all_zero` is set where every gradient is zero and every logit finite, so that backward adds nothing.
template <int NV, bool kFull>
FANIN_INLINE float squared_hinge_gradient(float* z, const TileRows& rows, LossSum& sum, bool& all_zero) {
  Vec gradient_sum{};
  VecI active{};
  for (int j = 0; j < NV; ++j) {
    const Vec logit = load(z + j * kLanes);
    Vec margin = logit + 1.0f;
    // Short of the margin, or not finite: 0 * inf has to reach dx as NaN.
    VecI counts = ~((margin <= 0.0f) & (logit >= -3.4028234e38f));
    margin = at_least(0.0f, margin);
    if constexpr (!kFull) {
      const VecI valid = valid_lanes(rows, j);
      margin = valid ? margin : Vec{};
      counts &= valid;
    }
    active |= counts;
    sum.linear += margin * margin;
    const Vec g = margin + margin;
    store(z + j * kLanes, g);
    gradient_sum += g;
  }
  all_zero = !any(active);
  return sum_lanes(gradient_sum);
}

// The loss of an irrelevant label at one logit; only weighted pairs ask for it.
inline double loss_at(Loss loss, double logit) {
  if (loss == Loss::bce) return (logit > 0.0 ? logit : 0.0) + std::log1p(std::exp(logit > 0.0 ? -logit : logit));
  return logit > -1.0 ? (1.0 + logit) * (1.0 + logit) : 0.0;
}

// Turns one label's logits [T] at the rows of this tile that it is relevant to, the pairs [positive, end), into those
// at which an irrelevant label has the same loss; adds to `sum` what their weights add to the loss.
FANIN_INLINE void turn_logits(const LabelRow* positive, const LabelRow* end, const TileRows& rows, Loss loss,
                              float* logits, LossSum& sum) {
  for (; positive != end; ++positive) {
    const std::int64_t place = positive->row - rows.first;
    if (place < 0 || place >= rows.count) continue;
    logits[place] = positive->margin - logits[place];
    if (positive->weight != 1.0f) {
      const double extra = static_cast<double>(positive->weight) - 1.0;
      sum.total += extra * loss_at(loss, static_cast<double>(logits[place]));
    }
  }
}

// Turns the gradients at the same places into those of the relevant label. Returns the change of their sum.
FANIN_INLINE float turn_gradients(const LabelRow* positive, const LabelRow* end, const TileRows& rows,
                                  float* gradients) {
  float change = 0.0f;
  for (; positive != end; ++positive) {
    const std::int64_t place = positive->row - rows.first;
    if (place < 0 || place >= rows.count) continue;
    const float turned = -positive->weight * gradients[place];
    change += turned - gradients[place];
    gradients[place] = turned;
  }
  return change;
}

}  // namespace FANIN_ISA
}  // namespace fanin
