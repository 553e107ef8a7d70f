// Forward and backward of a group of labels that share an index set, over one tile of NV vectors: three small
// matrix products, register-blocked. Included by kernels.cpp only.
#pragma once

#include "simd/vector.h"

namespace fanin {
namespace FANIN_ISA {

// A register block is kBlockRows x kBlockVectors sums.
constexpr int kBlockRows = FANIN_LANES == 16 ? 8 : 4;
template <int NV>
constexpr int kBlockVectors = NV < 2 ? 1 : 2;

// Covers n rows by blocks of kBlockRows and then halves of it: body(first row, constant number of rows).
template <int M>
struct Rows {
  static constexpr int count = M;
};
template <int M = kBlockRows, class Body>
FANIN_INLINE void for_row_blocks(std::int64_t first, std::int64_t n, const Body& body) {
  for (; first + M <= n; first += M) body(first, Rows<M>{});
  if constexpr (M > 1) for_row_blocks<M / 2>(first, n, body);
}

// out[i, j] for j in [0, columns), i in [0, rows) = in[j, i]; both row-major with the given strides.
FANIN_INLINE void transpose_matrix(const float* in, std::int64_t in_stride, std::int64_t rows, std::int64_t columns,
                                   float* out, std::int64_t out_stride) {
  for (std::int64_t j = 0; j < columns; j += kLanes) {
    for (std::int64_t i = 0; i < rows; i += kLanes) {
      const int m = static_cast<int>(rows - i < kLanes ? rows - i : kLanes);
      const int n = static_cast<int>(columns - j < kLanes ? columns - j : kLanes);
      Vec block[kLanes];
      if (m == kLanes && n == kLanes) {
        for (int a = 0; a < kLanes; ++a) block[a] = load(in + (j + a) * in_stride + i);
        transpose(block);
        for (int a = 0; a < kLanes; ++a) store(out + (i + a) * out_stride + j, block[a]);
      } else {
        for (int a = 0; a < m; ++a) {
          for (int b = 0; b < n; ++b) out[(i + a) * out_stride + j + b] = in[(j + b) * in_stride + i + a];
        }
      }
    }
  }
}

// z [G, T] = bias + w x[index]; w is [G, F].
template <int NV, class Index>
FANIN_INLINE void group_forward(const float* x, const Index* index, const float* w, std::int64_t fan_in,
                                std::int64_t group, const float* bias, float* z) {
  constexpr int kTile = NV * kLanes;
  constexpr int N = kBlockVectors<NV>;
  for (int c = 0; c < NV; c += N) {
    for_row_blocks(0, group, [&](std::int64_t g0, auto rows) FANIN_LAMBDA_INLINE {
      constexpr int M = decltype(rows)::count;
      Vec sums[M][N];
      for (int i = 0; i < M; ++i) {
        for (int j = 0; j < N; ++j) sums[i][j] = splat(bias ? bias[g0 + i] : 0.0f);
      }
      const float* weights = w + g0 * fan_in;
      for (std::int64_t f = 0; f < fan_in; ++f) {
        const float* row = x + static_cast<std::int64_t>(index[f]) * kTile + c * kLanes;
        Vec inputs[N];
        for (int j = 0; j < N; ++j) inputs[j] = load(row + j * kLanes);
        for (int i = 0; i < M; ++i) {
          const Vec weight = splat(weights[i * fan_in + f]);
          for (int j = 0; j < N; ++j) sums[i][j] += weight * inputs[j];
        }
      }
      for (int i = 0; i < M; ++i) {
        for (int j = 0; j < N; ++j) store(z + (g0 + i) * kTile + (c + j) * kLanes, sums[i][j]);
      }
    });
  }
}

// dx[index[f], :] += sum over the group of w[:, f] * g; w is [G, F].
template <int NV, class Index>
FANIN_INLINE void group_grad_input(float* dx, const Index* index, const float* w, std::int64_t fan_in,
                                   std::int64_t group, const float* g) {
  constexpr int kTile = NV * kLanes;
  constexpr int N = kBlockVectors<NV>;
  for (int c = 0; c < NV; c += N) {
    for_row_blocks(0, fan_in, [&](std::int64_t f0, auto rows) FANIN_LAMBDA_INLINE {
      constexpr int M = decltype(rows)::count;
      Vec sums[M][N] = {};
      const float* weights = w + f0;
      const float* gradient = g + c * kLanes;
      for (std::int64_t label = 0; label < group; ++label, weights += fan_in, gradient += kTile) {
        Vec gradients[N];
        for (int j = 0; j < N; ++j) gradients[j] = load(gradient + j * kLanes);
        for (int i = 0; i < M; ++i) {
          const Vec weight = splat(weights[i]);
          for (int j = 0; j < N; ++j) sums[i][j] += weight * gradients[j];
        }
      }
      for (int i = 0; i < M; ++i) {
        float* row = dx + static_cast<std::int64_t>(index[f0 + i]) * kTile + c * kLanes;
        for (int j = 0; j < N; ++j) store(row + j * kLanes, load(row + j * kLanes) + sums[i][j]);
      }
    });
  }
}

// The gathered inputs of a set, row-major [T, padded F], so that dw needs no sums across lanes.
template <int NV, class Index>
FANIN_INLINE void gather_by_row(const float* x, const Index* index, std::int64_t fan_in, std::int64_t padded_fan_in,
                                float* inputs_by_row) {
  constexpr int kTile = NV * kLanes;
  for (std::int64_t f = 0; f < padded_fan_in; f += kLanes) {
    const float* rows[kLanes];
    for (int i = 0; i < kLanes; ++i) {  // a padded place repeats the last input; its dw is never read
      rows[i] = x + static_cast<std::int64_t>(index[f + i < fan_in ? f + i : fan_in - 1]) * kTile;
    }
    for (int c = 0; c < kTile; c += kLanes) {
      Vec block[kLanes];
      for (int i = 0; i < kLanes; ++i) block[i] = load(rows[i] + c);
      transpose(block);
      for (int i = 0; i < kLanes; ++i) store(inputs_by_row + (c + i) * padded_fan_in + f, block[i]);
    }
  }
}

// dw [G, padded F] += g x[index]^T.
template <int NV, int N>
FANIN_INLINE void grad_weight_columns(const float* inputs_by_row, std::int64_t padded_fan_in, std::int64_t group,
                                      const float* g, float* dw) {
  constexpr int kTile = NV * kLanes;
  for_row_blocks(0, group, [&](std::int64_t g0, auto rows) FANIN_LAMBDA_INLINE {
    constexpr int M = decltype(rows)::count;
    Vec sums[M][N];
    for (int i = 0; i < M; ++i) {
      for (int j = 0; j < N; ++j) sums[i][j] = load(dw + (g0 + i) * padded_fan_in + j * kLanes);
    }
    const float* inputs = inputs_by_row;
    const float* gradient = g + g0 * kTile;
    for (int t = 0; t < kTile; ++t, inputs += padded_fan_in, ++gradient) {
      Vec x[N];
      for (int j = 0; j < N; ++j) x[j] = load(inputs + j * kLanes);
      for (int i = 0; i < M; ++i) {
        const Vec value = splat(gradient[i * kTile]);
        for (int j = 0; j < N; ++j) sums[i][j] += value * x[j];
      }
    }
    for (int i = 0; i < M; ++i) {
      for (int j = 0; j < N; ++j) store(dw + (g0 + i) * padded_fan_in + j * kLanes, sums[i][j]);
    }
  });
}

template <int NV>
FANIN_INLINE void group_grad_weight(const float* inputs_by_row, std::int64_t padded_fan_in, std::int64_t group,
                                    const float* g, float* dw) {
  std::int64_t f = 0;
  for (; f + 2 * kLanes <= padded_fan_in; f += 2 * kLanes) {
    grad_weight_columns<NV, 2>(inputs_by_row + f, padded_fan_in, group, g, dw + f);
  }
  if (f < padded_fan_in) grad_weight_columns<NV, 1>(inputs_by_row + f, padded_fan_in, group, g, dw + f);
}

}  // namespace FANIN_ISA
}  // namespace fanin
