// Between row-major [B, D] arrays and packed [tiles, D, T] ones. Included by kernels.cpp only.
#pragma once

#include "fanin/kernel_table.h"
#include "simd/per_group.h"
#include "simd/sets.h"

namespace fanin {
namespace FANIN_ISA {
namespace {

void pack(const float* x, const Tiling& tiling, int64_t inputs, int64_t first, int64_t end, float* packed_x) {
  const int64_t T = tiling.tile_rows;
  for (int64_t tile = 0; tile < tiling.tiles; ++tile) {
    const TileRows rows = tile_rows(tiling, tile);
    float* out = packed_x + (tile * inputs + first) * T;
    if (rows.count < T) zero(out, (end - first) * T);
    transpose_matrix(x + rows.first * inputs + first, inputs, end - first, rows.count, out, T);
  }
}

void unpack_sum(const float* const* packed_x, int n, const Tiling& tiling, int64_t inputs, int64_t first, int64_t end,
                float scale, float* out) {
  constexpr int64_t kPiece = 16;  // features at a time
  float sums[kPiece * kMaxTileRows];
  const int64_t T = tiling.tile_rows;
  for (int64_t tile = 0; tile < tiling.tiles; ++tile) {
    const TileRows rows = tile_rows(tiling, tile);
    for (int64_t d = first; d < end; d += kPiece) {
      const int64_t features = end - d < kPiece ? end - d : kPiece;
      const int64_t at = (tile * inputs + d) * T;
      for (int64_t i = 0; i < features * T; ++i) sums[i] = packed_x[0][at + i];
      for (int part = 1; part < n; ++part) {
        for (int64_t i = 0; i < features * T; ++i) sums[i] += packed_x[part][at + i];
      }
      for (int64_t i = 0; i < features * T; ++i) sums[i] *= scale;
      transpose_matrix(sums, T, rows.count, features, out + rows.first * inputs + d, inputs);
    }
  }
}

}  // namespace
}  // namespace FANIN_ISA
}  // namespace fanin
