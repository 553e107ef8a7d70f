// The gradient of the shared scores, filled by all threads at once. A cluster that lies inside one thread's labels is
// that thread's alone. The first and the last cluster of a thread may be shared with neighbours: they are summed in
// rows of its own, which are added up in the order of the threads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "buffer.h"
#include "fanin/kernel_table.h"
#include "parts.h"

namespace fanin {

class SharedGradients {
 public:
  // grad is [K, B], written over; null where no scores are shared.
  SharedGradients(const SharedScores& shared, const Ranges& ranges, float* grad)
      : grad_(grad), edges_(grad ? 2 * ranges.parts() * ranges[0].tiling.rows : 0) {
    for (int part = 0; grad && part < ranges.parts(); ++part) {
      const Range& range = ranges[part];
      rows_ = range.tiling.rows;
      const std::int64_t end_label = std::min(range.end_set * range.layer.group, range.layer.labels);
      float* own = edges_.data() + 2 * part * rows_;
      std::fill(own, own + 2 * rows_, 0.0f);
      parts_.push_back({grad, own, own + rows_, range.first_set * range.layer.group / shared.cluster_size,
                        (end_label - 1) / shared.cluster_size});
    }
  }

  SharedGradient operator[](int part) const {
    return grad_ ? parts_[static_cast<std::size_t>(part)] : SharedGradient{};
  }

  // Puts the threads' own rows in their places, once all threads are done.
  void join() const {
    std::int64_t started = -1;
    const auto add = [&](std::int64_t cluster, const float* values) {
      float* row = grad_ + cluster * rows_;
      if (cluster != started) std::fill(row, row + rows_, 0.0f);
      for (std::int64_t i = 0; i < rows_; ++i) row[i] += values[i];
      started = cluster;
    };
    for (const SharedGradient& part : parts_) {
      add(part.first_cluster, part.first_row);
      if (part.last_cluster != part.first_cluster) add(part.last_cluster, part.last_row);
    }
  }

 private:
  float* grad_;
  std::int64_t rows_ = 0;
  Buffer edges_;
  std::vector<SharedGradient> parts_;
};

}  // namespace fanin
