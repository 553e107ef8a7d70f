// The fused training step over a range of sets. Included by kernels.cpp only.
#pragma once

#include "fanin/kernel_table.h"
#include "simd/losses.h"
#include "simd/sets.h"
#include "simd/updates.h"

namespace fanin {
namespace FANIN_ISA {
namespace {

// Gradients of one set's logits z [labels, T], in place; db [labels] is added to. Returns whether backward has
// anything to do.
template <int NV, bool kFull, class Index>
FANIN_INLINE bool set_gradient(const TrainTask& task, const Set<Index>& set, const TileRows& rows,
                               const LabelRow*& positive, float* z, float* db, LossSum& sum) {
  constexpr int kTile = NV * kLanes;
  bool needed = false;
  for (int64_t i = 0; i < set.labels; ++i) {
    const int64_t label = set.first_label + i;
    while (positive != task.positives_end && positive->label < label) ++positive;
    const LabelRow* const first = positive;
    while (positive != task.positives_end && positive->label == label) ++positive;
    float* row = z + i * kTile;
    turn_logits(first, positive, rows, task.loss, row, sum);
    if (sum.vectors + NV > LossSum::kFlushAfter) sum.flush();
    sum.vectors += NV;
    if (task.loss == Loss::bce) {
      db[i] += bce_gradient<NV, kFull>(row, rows, sum);
      needed = true;
    } else {
      bool all_zero;
      db[i] += squared_hinge_gradient<NV, kFull>(row, rows, sum, all_zero);
      needed |= !all_zero;
    }
    db[i] += turn_gradients(first, positive, rows, row);
  }
  return needed;
}

// The sets of a block on one tile.
template <int NV, bool kFull, class Index>
void train_tile(const TrainTask& task, const Block& block, int64_t tile, const LabelRow* positive, LossSum& sum) {
  const Range& range = task.range;
  const Layer& layer = range.layer;
  const Scratch& scratch = range.scratch;
  const TileRows rows = tile_rows(range.tiling, tile);
  const float* x = task.x + tile * layer.inputs * NV * kLanes;
  float* dx = task.dx + tile * layer.inputs * NV * kLanes;
  const std::uint8_t* active = range.active ? range.active + tile * layer.inputs : nullptr;
  ClusterPlace place(range.shared, block.first_label);
  const auto train_set = [&](const auto& set, float* db, float* dw) {
    place.move_to(set.first_label);
    set_forward<NV>(range, set, place, rows, x, scratch.logits);
    if (!set_gradient<NV, kFull>(task, set, rows, positive, scratch.logits, db, sum)) return false;
    if (range.shared.scores) {
      add_shared_gradient<NV>(task.shared_grad, place, range.tiling, rows, task.scale, set.first_label, set.labels,
                              scratch.logits);
    }
    set_backward<NV, true, true>(range, set, x, dx, scratch.logits, dw);
    return true;
  };
  for (int64_t s = block.first_set; s < block.end_set; ++s) {
    const Set<Index> set = set_at<Index>(layer, block, s);
    const int64_t local = set.first_label - block.first_label;
    float* dw = scratch.weight_grad + local * padded(layer.fan_in);
    if (!active) {
      train_set(set, scratch.bias_grad + local, dw);
      continue;
    }
    const Set<std::int32_t> part = active_part(scratch, set, active);
    zero(scratch.active_grad, part.fan_in);
    if (!train_set(part, scratch.bias_grad + local, scratch.active_grad)) continue;
    for (int64_t i = 0; i < part.fan_in; ++i) dw[scratch.active_slot[i]] += scratch.active_grad[i];
  }
}

void round(Storage storage, const float* values, std::uint64_t key, int64_t first, int64_t n, void* out) {
  round_values(storage, values, key, first, n, out);
}

// Blocks of sets, all tiles inside a block; the weights of a block change once all its tiles are done, so that
// every tile sees the weights from before the step.
template <int NV, class Index>
void train_range(TrainTask& task) {
  const Range& range = task.range;
  const Layer& layer = range.layer;
  const Scratch& scratch = range.scratch;
  const int64_t F = layer.fan_in, stride = padded(F);
  LossSum sum;
  const LabelRow* positive = task.positives_begin;
  for (int64_t first = range.first_set; first < range.end_set; first += range.sets_per_block) {
    const Block block = block_at(range, first);
    const int64_t first_label = block.first_label, labels = block.labels;
    zero(scratch.weight_grad, labels * stride);
    zero(scratch.bias_grad, labels);
    if (range.shared.scores) {
      clear_shared_gradient(task.shared_grad, range.shared.cluster_size, range.tiling, first_label, labels);
    }
    while (positive != task.positives_end && positive->label < first_label) ++positive;
    for (int64_t tile = 0; tile < range.tiling.tiles; ++tile) {
      if (tile_rows(range.tiling, tile).count == NV * kLanes) {
        train_tile<NV, true, Index>(task, block, tile, positive, sum);
      } else {
        train_tile<NV, false, Index>(task, block, tile, positive, sum);
      }
    }
    update_rows(task.update, task.update.weight_decay, task.scale, scratch.weight_grad, stride, block.weight,
                task.moments.weight, first_label, labels, F);
    if (layer.storage != Storage::fp32) {
      round(layer.storage, block.weight, task.update.rounding_key, (layer.first_label + first_label) * F, labels * F,
            weight_place(layer, first_label * F));
    }
    if (layer.bias) {
      update_rows(task.update, 0.0f, task.scale, scratch.bias_grad, 1, layer.bias + first_label, task.moments.bias,
                  first_label, labels, 1);
    }
  }
  sum.flush();
  task.loss_sum = sum.total;
}

}  // namespace
}  // namespace FANIN_ISA
}  // namespace fanin
