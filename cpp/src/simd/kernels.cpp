// The kernels of one instruction set. CMake compiles this file once for each, with FANIN_ISA as its namespace.
#include "fanin/kernel_table.h"
#include "simd/losses.h"
#include "simd/per_group.h"
#include "simd/per_label.h"
#include "simd/updates.h"
#include "simd/vector.h"

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
  float* weight;  // [labels, F]
  const float* bias;
};

template <class Index>
Set<Index> set_at(const Layer& layer, int64_t set) {
  const int64_t first = set * layer.group;
  const int64_t left = layer.labels - first;
  return {first, left < layer.group ? left : layer.group, static_cast<const Index*>(layer.index) + set * layer.fan_in,
          layer.weight + first * layer.fan_in, layer.bias ? layer.bias + first : nullptr};
}

template <int NV, class Index>
FANIN_INLINE void set_forward(const Range& range, const Set<Index>& set, const float* x, float* z) {
  const int64_t F = range.layer.fan_in;
  if (range.layer.group == 1) {
    label_forward<NV>(x, set.index, set.weight, F, set.bias ? *set.bias : 0.0f, z);
    return;
  }
  group_forward<NV>(x, set.index, set.weight, F, set.labels, set.bias, z);
}

// g [labels, T]; dw [labels, padded F] or null, dx or null as wanted.
template <int NV, bool kWantDx, bool kWantDw, class Index>
FANIN_INLINE void set_backward(const Range& range, const Set<Index>& set, const float* x, float* dx, const float* g,
                               float* dw) {
  const int64_t F = range.layer.fan_in;
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
    const bool relevant = positive != task.positives_end && positive->label == label;
    float* row = z + i * kTile;
    float* logits = task.range.scratch.rows_out;
    if (relevant) {
      for (int j = 0; j < NV; ++j) store(logits + j * kLanes, load(row + j * kLanes));
    }
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
    if (relevant) {
      for (; positive != task.positives_end && positive->label == label; ++positive) {
        const int64_t place = positive->row - rows.first;
        if (place < 0 || place >= rows.count) continue;
        db[i] += make_relevant(task.loss, logits[place], row[place], sum.total);
        needed = true;
      }
    }
  }
  return needed;
}

// The sets [first, end) on one tile.
template <int NV, bool kFull, class Index>
void train_tile(const TrainTask& task, int64_t first, int64_t end, int64_t tile, const LabelRow* positive,
                LossSum& sum) {
  const Range& range = task.range;
  const Layer& layer = range.layer;
  const Scratch& scratch = range.scratch;
  const TileRows rows = tile_rows(range.tiling, tile);
  const float* x = task.x + tile * layer.inputs * NV * kLanes;
  float* dx = task.dx + tile * layer.inputs * NV * kLanes;
  for (int64_t s = first; s < end; ++s) {
    const Set<Index> set = set_at<Index>(layer, s);
    const int64_t local = set.first_label - first * layer.group;
    set_forward<NV>(range, set, x, scratch.logits);
    if (set_gradient<NV, kFull>(task, set, rows, positive, scratch.logits, scratch.bias_grad + local, sum)) {
      set_backward<NV, true, true>(range, set, x, dx, scratch.logits,
                                   scratch.weight_grad + local * padded(layer.fan_in));
    }
  }
}

// Blocks of sets, all tiles inside a block; the weights of a block change once all its tiles are done, so that
// every tile sees the weights from before the step.
template <int NV, class Index>
void train_range(TrainTask& task) {
  const Range& range = task.range;
  const Layer& layer = range.layer;
  const Scratch& scratch = range.scratch;
  const int64_t F = layer.fan_in, G = layer.group, stride = padded(F);
  LossSum sum;
  const LabelRow* positive = task.positives_begin;
  for (int64_t first = range.first_set; first < range.end_set; first += range.sets_per_block) {
    const int64_t end = first + range.sets_per_block < range.end_set ? first + range.sets_per_block : range.end_set;
    const int64_t first_label = first * G;
    const int64_t labels = (end * G < layer.labels ? end * G : layer.labels) - first_label;
    zero(scratch.weight_grad, labels * stride);
    zero(scratch.bias_grad, labels);
    while (positive != task.positives_end && positive->label < first_label) ++positive;
    for (int64_t tile = 0; tile < range.tiling.tiles; ++tile) {
      if (tile_rows(range.tiling, tile).count == NV * kLanes) {
        train_tile<NV, true, Index>(task, first, end, tile, positive, sum);
      } else {
        train_tile<NV, false, Index>(task, first, end, tile, positive, sum);
      }
    }
    update_rows(task.update, task.update.weight_decay, task.scale, scratch.weight_grad, stride, layer.weight,
                task.moments.weight, first_label, labels, F);
    if (layer.bias) {
      update_rows(task.update, 0.0f, task.scale, scratch.bias_grad, 1, layer.bias, task.moments.bias, first_label,
                  labels, 1);
    }
  }
  sum.flush();
  task.loss_sum = sum.total;
}

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

// Calls body(tile, first set, end set) for all tiles and sets of a range.
template <class Body>
FANIN_INLINE void for_tiles(const Range& range, const Body& body) {
  for (int64_t first = range.first_set; first < range.end_set; first += range.sets_per_block) {
    const int64_t end = first + range.sets_per_block < range.end_set ? first + range.sets_per_block : range.end_set;
    for (int64_t tile = 0; tile < range.tiling.tiles; ++tile) body(tile, first, end);
  }
}

template <int NV, class Index>
void forward_range(const ForwardTask& task) {
  const Range& range = task.range;
  const Layer& layer = range.layer;
  const int64_t together = sets_at_once(layer);
  for_tiles(range, [&](int64_t tile, int64_t first, int64_t end) {
    const float* x = task.x + tile * layer.inputs * NV * kLanes;
    for (int64_t s = first; s < end; s += together) {
      int64_t labels = 0;
      for (int64_t i = s; i < s + together && i < end; ++i) {
        const Set<Index> set = set_at<Index>(layer, i);
        set_forward<NV>(range, set, x, range.scratch.logits + labels * NV * kLanes);
        labels += set.labels;
      }
      store_by_row<NV>(range.scratch.logits, labels, tile_rows(range.tiling, tile), task.logits + s * layer.group,
                       layer.labels);
    }
  });
}

// The gradients of the sets [s, ...) that are loaded together, then body(set, its gradients).
template <int NV, class Index, class Body>
FANIN_INLINE void with_gradients(const Range& range, const float* grad, int64_t tile, int64_t first, int64_t end,
                                 const Body& body) {
  const Layer& layer = range.layer;
  const int64_t together = sets_at_once(layer);
  for (int64_t s = first; s < end; s += together) {
    const int64_t last = s + together < end ? s + together : end;
    const int64_t stop = last * layer.group < layer.labels ? last * layer.group : layer.labels;
    load_by_label<NV>(grad + s * layer.group, layer.labels, stop - s * layer.group, tile_rows(range.tiling, tile),
                      range.scratch.logits);
    for (int64_t i = s; i < last; ++i) {
      body(set_at<Index>(layer, i), range.scratch.logits + (i - s) * layer.group * NV * kLanes);
    }
  }
}

template <int NV, class Index>
void grad_input_range(const GradInputTask& task) {
  for_tiles(task.range, [&](int64_t tile, int64_t first, int64_t end) {
    float* dx = task.dx + tile * task.range.layer.inputs * NV * kLanes;
    with_gradients<NV, Index>(task.range, task.grad, tile, first, end, [&](const Set<Index>& set, const float* g) {
      set_backward<NV, true, false>(task.range, set, nullptr, dx, g, nullptr);
    });
  });
}

template <int NV, class Index>
void grad_weight_range(const GradWeightTask& task) {
  const Range& range = task.range;
  const Layer& layer = range.layer;
  const int64_t F = layer.fan_in, stride = padded(F);
  for_tiles(range, [&](int64_t tile, int64_t first, int64_t end) {
    const float* x = task.x + tile * layer.inputs * NV * kLanes;
    const int64_t first_label = first * layer.group;
    const int64_t labels = (end * layer.group < layer.labels ? end * layer.group : layer.labels) - first_label;
    float* dw = range.scratch.weight_grad;
    if (tile == 0) zero(dw, labels * stride);
    with_gradients<NV, Index>(range, task.grad, tile, first, end, [&](const Set<Index>& set, const float* g) {
      set_backward<NV, false, true>(range, set, x, nullptr, g, dw + (set.first_label - first_label) * stride);
    });
    if (tile + 1 < range.tiling.tiles) return;
    for (int64_t i = 0; i < labels; ++i) {
      for (int64_t f = 0; f < F; ++f) task.dw[(first_label + i) * F + f] = dw[i * stride + f];
    }
  });
}

template <int NV, class Index>
void topk_range(const TopkTask& task) {
  const Range& range = task.range;
  constexpr int kTile = NV * kLanes;
  for_tiles(range, [&](int64_t tile, int64_t first, int64_t end) {
    const float* x = task.x + tile * range.layer.inputs * kTile;
    float* thresholds = task.thresholds + tile * kTile;
    for (int64_t s = first; s < end; ++s) {
      const Set<Index> set = set_at<Index>(range.layer, s);
      float* z = range.scratch.logits;
      set_forward<NV>(range, set, x, z);
      for (int64_t i = 0; i < set.labels; ++i) {
        for (int j = 0; j < NV; ++j) {
          const float* row = z + i * kTile + j * kLanes;
          float* threshold = thresholds + j * kLanes;
          if (!any(load(row) > load(threshold))) continue;
          for (int lane = 0; lane < kLanes; ++lane) {
            if (!(row[lane] > threshold[lane])) continue;
            threshold[lane] =
                task.insert(task.context, tile * kTile + j * kLanes + lane, row[lane], set.first_label + i);
          }
        }
      }
    }
  });
}

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
  float sums[kPiece * 64];
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

// Turns the tile's rows and the index's width, known at run time, into template arguments.
#define FANIN_DISPATCH(function, Task)                                                   \
  void function(Task task) {                                                             \
    const bool wide = task.range.layer.wide_index;                                       \
    switch (task.range.tiling.tile_rows) {                                               \
      case 16:                                                                           \
        wide ? function##_range<16 / kLanes, int32_t>(task)                              \
             : function##_range<16 / kLanes, uint16_t>(task);                            \
        break;                                                                           \
      case 32:                                                                           \
        wide ? function##_range<32 / kLanes, int32_t>(task)                              \
             : function##_range<32 / kLanes, uint16_t>(task);                            \
        break;                                                                           \
      default:                                                                           \
        wide ? function##_range<64 / kLanes, int32_t>(task)                              \
             : function##_range<64 / kLanes, uint16_t>(task);                            \
    }                                                                                    \
  }

using std::int32_t;
using std::uint16_t;
FANIN_DISPATCH(train, TrainTask&)
FANIN_DISPATCH(forward, const ForwardTask&)
FANIN_DISPATCH(grad_input, const GradInputTask&)
FANIN_DISPATCH(grad_weight, const GradWeightTask&)
FANIN_DISPATCH(topk, const TopkTask&)
#undef FANIN_DISPATCH

#define FANIN_TEXT(name) #name
#define FANIN_NAME(name) FANIN_TEXT(name)
constexpr KernelTable kTable = {FANIN_NAME(FANIN_ISA), pack, unpack_sum, train, forward, grad_input, grad_weight, topk};

}  // namespace
}  // namespace FANIN_ISA

#define FANIN_JOIN(a, b) a##b
#define FANIN_TABLE_NAME(isa) FANIN_JOIN(isa, _kernels)
const KernelTable& FANIN_TABLE_NAME(FANIN_ISA)() { return FANIN_ISA::kTable; }

}  // namespace fanin
