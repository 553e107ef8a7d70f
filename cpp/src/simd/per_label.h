// Forward and backward of one label that has an index set of its own (G = 1), over one tile of NV vectors.
// Included by kernels.cpp only.
#pragma once

#include "simd/vector.h"

namespace fanin {
namespace FANIN_ISA {

// Vectors of a tile that are worked on together, so that their sums stay in registers.
template <int NV>
constexpr int kRegisterVectors = NV < FANIN_LANES / 2 ? NV : FANIN_LANES / 2;

// z [T] = bias + sum_f w[f] * x[index[f], :].
template <int NV, class Index>
FANIN_INLINE void label_forward(const float* x, const Index* index, const float* w, std::int64_t fan_in, float bias,
                                float* z) {
  constexpr int kTile = NV * kLanes;
  constexpr int C = kRegisterVectors<NV>;
  for (int c = 0; c < NV; c += C) {
    Vec even[C], odd[C];
    for (int j = 0; j < C; ++j) {
      even[j] = splat(bias);
      odd[j] = Vec{};
    }
    const float* columns = x + c * kLanes;
    std::int64_t f = 0;
    for (; f + 1 < fan_in; f += 2) {
      const float* row0 = columns + static_cast<std::int64_t>(index[f]) * kTile;
      const float* row1 = columns + static_cast<std::int64_t>(index[f + 1]) * kTile;
      const Vec w0 = splat(w[f]);
      const Vec w1 = splat(w[f + 1]);
      for (int j = 0; j < C; ++j) {
        even[j] += w0 * load(row0 + j * kLanes);
        odd[j] += w1 * load(row1 + j * kLanes);
      }
    }
    if (f < fan_in) {
      const float* row = columns + static_cast<std::int64_t>(index[f]) * kTile;
      for (int j = 0; j < C; ++j) even[j] += splat(w[f]) * load(row + j * kLanes);
    }
    for (int j = 0; j < C; ++j) store(z + (c + j) * kLanes, even[j] + odd[j]);
  }
}

// One input of a label: dx[row] += g * w and the vector whose lanes add up to dw.
template <int NV, bool kWantDx, bool kWantDw>
FANIN_INLINE Vec input_backward(const float* x, float* dx, std::int64_t row, float w, const Vec* g) {
  constexpr int kTile = NV * kLanes;
  Vec dw{};
  for (int j = 0; j < NV; ++j) {
    if constexpr (kWantDw) dw += g[j] * load(x + row * kTile + j * kLanes);
    if constexpr (kWantDx) {
      float* place = dx + row * kTile + j * kLanes;
      store(place, load(place) + g[j] * splat(w));
    }
  }
  return dw;
}

// dx[index[f], :] += w[f] * g and dw[f] += sum over rows of g * x[index[f], :]; dw is padded to kMaxLanes.
template <int NV, bool kWantDx, bool kWantDw, class Index>
FANIN_INLINE void label_backward(const float* x, float* dx, const Index* index, const float* w, std::int64_t fan_in,
                                 const float* g, float* dw) {
  Vec gradient[NV];  // in registers: seen through g, every store to dx might change it
  for (int j = 0; j < NV; ++j) gradient[j] = load(g + j * kLanes);
  std::int64_t f = 0;
  for (; f + kLanes <= fan_in; f += kLanes) {
    Vec sums[kLanes];
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) {
      sums[i] = input_backward<NV, kWantDx, kWantDw>(x, dx, index[f + i], w[f + i], gradient);
    }
    if constexpr (kWantDw) store(dw + f, load(dw + f) + sum_lanes(sums));
  }
  for (; f < fan_in; ++f) {
    const Vec sum = input_backward<NV, kWantDx, kWantDw>(x, dx, index[f], w[f], gradient);
    if constexpr (kWantDw) dw[f] += sum_lanes(sum);
  }
}

}  // namespace FANIN_ISA
}  // namespace fanin
