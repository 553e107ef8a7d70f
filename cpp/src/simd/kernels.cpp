// The kernels of one instruction set. CMake compiles this file once for each, with FANIN_ISA as its namespace.
#include "fanin/kernel_table.h"
#include "simd/autograd.h"
#include "simd/packing.h"
#include "simd/sets.h"
#include "simd/training.h"

namespace fanin {
namespace FANIN_ISA {
namespace {

template <int NV, class Index>
void topk_range(const TopkTask& task) {
  const Range& range = task.range;
  constexpr int kTile = NV * kLanes;
  for_tiles(range, [&](int64_t tile, const Block& block) {
    const float* x = task.x + tile * range.layer.inputs * kTile;
    const TileRows rows = tile_rows(range.tiling, tile);
    float* thresholds = task.thresholds + tile * kTile;
    const std::uint8_t* active = range.active ? range.active + tile * range.layer.inputs : nullptr;
    ClusterPlace place(range.shared, block.first_label);
    for (int64_t s = block.first_set; s < block.end_set; ++s) {
      const Set<Index> set = set_at<Index>(range.layer, block, s);
      float* z = range.scratch.logits;
      place.move_to(set.first_label);
      if (active) {
        set_forward<NV>(range, active_part(range.scratch, set, active), place, rows, x, z);
      } else {
        set_forward<NV>(range, set, place, rows, x, z);
      }
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
constexpr KernelTable kTable = {FANIN_NAME(FANIN_ISA), pack, unpack_sum, train, forward, grad_input,
                                grad_weight,           topk, widen, round};

}  // namespace
}  // namespace FANIN_ISA

#define FANIN_JOIN(a, b) a##b
#define FANIN_TABLE_NAME(isa) FANIN_JOIN(isa, _kernels)
const KernelTable& FANIN_TABLE_NAME(FANIN_ISA)() { return FANIN_ISA::kTable; }

}  // namespace fanin
