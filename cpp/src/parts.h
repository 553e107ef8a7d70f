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

// The threads' parts of one call: ranges of sets and scratch memory.
class Ranges {
 public:
  Ranges(const Layer& layer, const Tiling& tiling, int threads, const SharedScores& shared = {}) {
    const std::int64_t sets_per_block = choose_sets_per_block(layer, tiling);
    parts_ = static_cast<int>(std::min<std::int64_t>(std::max(threads, 1), std::max<std::int64_t>(layer.sets, 1)));
    for (int part = 0; part < parts_; ++part) {
      scratch_.emplace_back(scratch_floats(layer, tiling, sets_per_block));
      const Share sets = share(layer.sets, part, parts_);
      ranges_.push_back({layer, tiling, shared, sets.first, sets.end, sets_per_block,
                         place_scratch(layer, tiling, sets_per_block, scratch_.back().data())});
    }
  }

  int parts() const { return parts_; }
  const Range& operator[](int part) const { return ranges_[static_cast<std::size_t>(part)]; }

 private:
  int parts_;
  std::vector<Buffer> scratch_;
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
