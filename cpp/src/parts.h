// What the operations share: the packed input, the threads' ranges with their scratch memory, and the private input
// gradients that are added up at the end.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "buffer.h"
#include "fanin/instruction_set.h"
#include "fanin/kernel_table.h"
#include "plan.h"
#include "threads.h"

namespace fanin {

// Fewer floats than this are packed by one thread: starting another takes longer.
constexpr std::int64_t kPackAlone = std::int64_t{1} << 18;

inline std::int64_t packed_floats(const Layer& layer, const Tiling& tiling) {
  return tiling.tiles * layer.inputs * tiling.tile_rows;
}

inline int packing_threads(std::int64_t floats, int threads) { return floats < kPackAlone ? 1 : threads; }

inline Buffer pack(const Layer& layer, const Tiling& tiling, const float* x, int threads) {
  const std::int64_t floats = packed_floats(layer, tiling);
  Buffer packed(floats);
  const int parts = packing_threads(floats, threads);
  run_parts(parts, [&](int part) {
    const Share features = share(layer.inputs, part, parts);
    kernels().pack(x, tiling, layer.inputs, features.first, features.end, packed.data());
  });
  return packed;
}

// Which inputs each tile of a packed x holds values of, [tiles, D]; empty where nothing is to be skipped.
inline std::vector<std::uint8_t> active_inputs(const Layer& layer, const Tiling& tiling, const float* packed,
                                               int threads) {
  if (!skips_inputs(layer)) return {};
  std::vector<std::uint8_t> active(static_cast<std::size_t>(tiling.tiles * layer.inputs), 1);
  const int parts = packing_threads(packed_floats(layer, tiling), threads);
  run_parts(parts, [&](int part) {
    const Share tiles = share(tiling.tiles, part, parts);
    for (std::int64_t tile = tiles.first; tile < tiles.end; ++tile) {
      for (std::int64_t d = layer.dense_inputs; d < layer.inputs; ++d) {
        const float* column = packed + (tile * layer.inputs + d) * tiling.tile_rows;
        int found = 0;  // NaN differs from 0 too
        for (std::int64_t i = 0; i < tiling.tile_rows; ++i) found |= static_cast<int>(column[i] != 0.0f);
        active[static_cast<std::size_t>(tile * layer.inputs + d)] = static_cast<std::uint8_t>(found);
      }
    }
  });
  return active;
}

// The threads' parts of one call: ranges of sets and scratch memory.
class Ranges {
 public:
  // `active` is that of active_inputs(), and outlives this; null where all inputs are read.
  Ranges(const Layer& layer, const Tiling& tiling, int threads, const SharedScores& shared = {},
         const std::uint8_t* active = nullptr) {
    const std::int64_t sets_per_block = choose_sets_per_block(layer, tiling);
    parts_ = static_cast<int>(std::min<std::int64_t>(std::max(threads, 1), std::max<std::int64_t>(layer.sets, 1)));
    for (int part = 0; part < parts_; ++part) {
      scratch_.emplace_back(scratch_floats(layer, tiling, sets_per_block));
      const Share sets = share(layer.sets, part, parts_);
      Scratch scratch = place_scratch(layer, tiling, sets_per_block, scratch_.back().data());
      numbers_.emplace_back(static_cast<std::size_t>(active ? 2 * layer.fan_in : 0));
      scratch.active_input = numbers_.back().data();
      scratch.active_slot = numbers_.back().data() + numbers_.back().size() / 2;
      ranges_.push_back({layer, tiling, shared, active, sets.first, sets.end, sets_per_block, scratch});
    }
  }

  int parts() const { return parts_; }
  const Range& operator[](int part) const { return ranges_[static_cast<std::size_t>(part)]; }

 private:
  int parts_;
  std::vector<Buffer> scratch_;
  std::vector<std::vector<std::int32_t>> numbers_;
  std::vector<Range> ranges_;
};

// Private input gradients of the threads, zeroed by the thread that fills them, added up in the order of the threads.
class InputGradients {
 public:
  InputGradients(const Layer& layer, const Tiling& tiling, int parts)
      : layer_(layer), tiling_(tiling), floats_(packed_floats(layer, tiling)) {
    for (int part = 0; part < parts; ++part) {
      buffers_.emplace_back(floats_);
      packed_.push_back(buffers_.back().data());
    }
  }

  float* zeroed(int part) {
    float* p = buffers_[static_cast<std::size_t>(part)].data();
    std::fill(p, p + floats_, 0.0f);
    return p;
  }

  void sum(float scale, float* dx, int threads) const {
    const int parts = packing_threads(floats_, threads);
    run_parts(parts, [&](int part) {
      const Share features = share(layer_.inputs, part, parts);
      kernels().unpack_sum(packed_.data(), static_cast<int>(packed_.size()), tiling_, layer_.inputs, features.first,
                           features.end, scale, dx);
    });
  }

 private:
  Layer layer_;
  Tiling tiling_;
  std::int64_t floats_;
  std::vector<Buffer> buffers_;
  std::vector<const float*> packed_;
};

}  // namespace fanin
