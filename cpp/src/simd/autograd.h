// Logits and gradients as whole [B, L] arrays, for automatic differentiation. Included by kernels.cpp only.
#pragma once

#include "fanin/kernel_table.h"
#include "simd/per_group.h"
#include "simd/sets.h"

namespace fanin {
namespace FANIN_ISA {
namespace {

// out [rows, labels] of a [B, L] matrix from a set's logits z [labels, T], and the reverse.
template <int NV>
FANIN_INLINE void store_by_row(const float* z, int64_t labels, const TileRows& rows, float* out, int64_t stride) {
  transpose_matrix(z, NV * kLanes, rows.count, labels, out + rows.first * stride, stride);
}

template <int NV>
FANIN_INLINE void load_by_label(const float* in, int64_t stride, int64_t labels, const TileRows& rows, float* z) {
  constexpr int kTile = NV * kLanes;
  if (rows.count < kTile) zero(z, labels * kTile);
  transpose_matrix(in + rows.first * stride, stride, labels, rows.count, z, kTile);
}

// Sets whose logits are stored or loaded together, so that rows of [B, L] are touched in long pieces.
int64_t sets_at_once(const Layer& layer) { return layer.group >= kMaxLanes ? 1 : kMaxLanes / layer.group; }

template <int NV, class Index>
void forward_range(const ForwardTask& task) {
  const Range& range = task.range;
  const Layer& layer = range.layer;
  const int64_t together = sets_at_once(layer);
  for_tiles(range, [&](int64_t tile, const Block& block) {
    const float* x = task.x + tile * layer.inputs * NV * kLanes;
    const TileRows rows = tile_rows(range.tiling, tile);
    ClusterPlace place(range.shared, block.first_label);
    for (int64_t s = block.first_set; s < block.end_set; s += together) {
      int64_t labels = 0;
      for (int64_t i = s; i < s + together && i < block.end_set; ++i) {
        const Set<Index> set = set_at<Index>(layer, block, i);
        place.move_to(set.first_label);
        set_forward<NV>(range, set, place, rows, x, range.scratch.logits + labels * NV * kLanes);
        labels += set.labels;
      }
      store_by_row<NV>(range.scratch.logits, labels, rows, task.logits + s * layer.group, layer.labels);
    }
  });
}

// The gradients of the sets [s, ...) that are loaded together, then body(set, its gradients).
template <int NV, class Index, class Body>
FANIN_INLINE void with_gradients(const Range& range, const float* grad, int64_t tile, const Block& block,
                                 const Body& body) {
  const Layer& layer = range.layer;
  const int64_t together = sets_at_once(layer);
  for (int64_t s = block.first_set; s < block.end_set; s += together) {
    const int64_t last = s + together < block.end_set ? s + together : block.end_set;
    const int64_t stop = last * layer.group < layer.labels ? last * layer.group : layer.labels;
    load_by_label<NV>(grad + s * layer.group, layer.labels, stop - s * layer.group, tile_rows(range.tiling, tile),
                      range.scratch.logits);
    for (int64_t i = s; i < last; ++i) {
      body(set_at<Index>(layer, block, i), range.scratch.logits + (i - s) * layer.group * NV * kLanes);
    }
  }
}

template <int NV, class Index>
void grad_input_range(const GradInputTask& task) {
  for_tiles(task.range, [&](int64_t tile, const Block& block) {
    float* dx = task.dx + tile * task.range.layer.inputs * NV * kLanes;
    with_gradients<NV, Index>(task.range, task.grad, tile, block, [&](const Set<Index>& set, const float* g) {
      set_backward<NV, true, false>(task.range, set, nullptr, dx, g, nullptr);
    });
  });
}

template <int NV, class Index>
void grad_weight_range(const GradWeightTask& task) {
  const Range& range = task.range;
  const Layer& layer = range.layer;
  const int64_t F = layer.fan_in, stride = padded(F);
  for_tiles(range, [&](int64_t tile, const Block& block) {
    const float* x = task.x + tile * layer.inputs * NV * kLanes;
    float* dw = range.scratch.weight_grad;
    if (tile == 0) zero(dw, block.labels * stride);
    with_gradients<NV, Index>(range, task.grad, tile, block, [&](const Set<Index>& set, const float* g) {
      set_backward<NV, false, true>(range, set, x, nullptr, g, dw + (set.first_label - block.first_label) * stride);
    });
    if (tile + 1 < range.tiling.tiles) return;
    for (int64_t i = 0; i < block.labels; ++i) {
      for (int64_t f = 0; f < F; ++f) task.dw[(block.first_label + i) * F + f] = dw[i * stride + f];
    }
  });
}

}  // namespace
}  // namespace FANIN_ISA
}  // namespace fanin
