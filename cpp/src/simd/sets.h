// One index set of a layer: where its parameters lie, and its forward and backward over one tile, per label or per
// group. Included by kernels.cpp only.
#pragma once

#include "fanin/kernel_table.h"
#include "simd/losses.h"
#include "simd/per_group.h"
#include "simd/per_label.h"
#include "simd/shared.h"
#include "storage.h"

namespace fanin {
namespace FANIN_ISA {
namespace {

using std::int64_t;

int64_t padded(int64_t fan_in) { return (fan_in + kMaxLanes - 1) / kMaxLanes * kMaxLanes; }

void zero(float* p, int64_t n) {
  for (int64_t i = 0; i < n; ++i) p[i] = 0.0f;
}

TileRows tile_rows(const Tiling& tiling, int64_t tile) {
  const int64_t first = tile * tiling.tile_rows;
  const int64_t left = tiling.rows - first;
  return {first, left < tiling.tile_rows ? left : tiling.tile_rows};
}

// One index set: its labels and where its parameters lie.
template <class Index>
struct Set {
  int64_t first_label;
  int64_t labels;  // G, fewer in the last set
  const Index* index;
  const float* weight;  // [labels, F]
  const float* bias;
  int64_t fan_in;
};

// The sets [first_set, end_set) that are worked on together, with their weights as floats: where they are stored in
// fewer bits, a copy that the kernels read once for every tile.
struct Block {
  int64_t first_set;
  int64_t end_set;
  int64_t first_label;
  int64_t labels;
  float* weight;  // [labels, F]
};

void widen(Storage storage, const void* codes, int64_t n, float* out) { widen_codes(storage, codes, n, out); }

Block block_at(const Range& range, int64_t first_set) {
  const Layer& layer = range.layer;
  const int64_t last = first_set + range.sets_per_block;
  const int64_t end_set = last < range.end_set ? last : range.end_set;
  const int64_t first_label = first_set * layer.group, end_label = end_set * layer.group;
  const int64_t labels = (end_label < layer.labels ? end_label : layer.labels) - first_label;
  void* stored = weight_place(layer, first_label * layer.fan_in);
  if (layer.storage == Storage::fp32) return {first_set, end_set, first_label, labels, static_cast<float*>(stored)};
  widen(layer.storage, stored, labels * layer.fan_in, range.scratch.weight);
  return {first_set, end_set, first_label, labels, range.scratch.weight};
}

template <class Index>
Set<Index> set_at(const Layer& layer, const Block& block, int64_t set) {
  const int64_t first = set * layer.group;
  const int64_t left = layer.labels - first;
  return {first, left < layer.group ? left : layer.group, static_cast<const Index*>(layer.index) + set * layer.fan_in,
          block.weight + (first - block.first_label) * layer.fan_in, layer.bias ? layer.bias + first : nullptr,
          layer.fan_in};
}

// The part of a set of one label that reads what a tile holds values of; `active` is the tile's row of flags.
template <class Index>
Set<std::int32_t> active_part(const Scratch& scratch, const Set<Index>& set, const std::uint8_t* active) {
  int64_t n = 0;
  for (int64_t f = 0; f < set.fan_in; ++f) {  // without branches: most inputs are skipped, but not in any order
    const auto input = static_cast<std::int32_t>(set.index[f]);
    scratch.active_input[n] = input;
    scratch.active_slot[n] = static_cast<std::int32_t>(f);
    scratch.active_weight[n] = set.weight[f];
    n += active[input];
  }
  return {set.first_label, set.labels, scratch.active_input, scratch.active_weight, set.bias, n};
}

// Logits z [labels, T], shared scores included; `place` is that of the set's first label.
template <int NV, class Index>
FANIN_INLINE void set_forward(const Range& range, const Set<Index>& set, const ClusterPlace& place,
                              const TileRows& rows, const float* x, float* z) {
  const int64_t F = set.fan_in;
  if (range.layer.group == 1) {
    label_forward<NV>(x, set.index, set.weight, F, set.bias ? *set.bias : 0.0f, z);
  } else {
    group_forward<NV>(x, set.index, set.weight, F, set.labels, set.bias, z);
  }
  if (range.shared.scores) add_shared<NV>(range.shared, place, range.tiling, rows, set.first_label, set.labels, z);
}

// g [labels, T]; dw [labels, padded F] or null, dx or null as wanted.
template <int NV, bool kWantDx, bool kWantDw, class Index>
FANIN_INLINE void set_backward(const Range& range, const Set<Index>& set, const float* x, float* dx, const float* g,
                               float* dw) {
  const int64_t F = set.fan_in;
  if (range.layer.group == 1) {
    label_backward<NV, kWantDx, kWantDw>(x, dx, set.index, set.weight, F, g, dw);
    return;
  }
  if constexpr (kWantDw) {
    gather_by_row<NV>(x, set.index, F, padded(F), range.scratch.inputs_by_row);
    group_grad_weight<NV>(range.scratch.inputs_by_row, padded(F), set.labels, g, dw);
  }
  if constexpr (kWantDx) group_grad_input<NV>(dx, set.index, set.weight, F, set.labels, g);
}

// Calls body(tile, block) for all tiles and sets of a range.
template <class Body>
FANIN_INLINE void for_tiles(const Range& range, const Body& body) {
  for (int64_t first = range.first_set; first < range.end_set; first += range.sets_per_block) {
    const Block block = block_at(range, first);
    for (int64_t tile = 0; tile < range.tiling.tiles; ++tile) body(tile, block);
  }
}

}  // namespace
}  // namespace FANIN_ISA
}  // namespace fanin
