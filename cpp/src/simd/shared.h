// Scores that the labels of a cluster share: added to the logits z [labels, T] of consecutive labels, and their
// gradient. Included by kernels.cpp only.
#pragma once

#include "fanin/kernel_table.h"
#include "simd/losses.h"
#include "simd/vector.h"

namespace fanin {
namespace FANIN_ISA {
namespace {

// The cluster of labels that are visited in ascending order, without a division for each.
class ClusterPlace {
 public:
  // With nothing shared the place never moves.
  ClusterPlace(const SharedScores& shared, std::int64_t first_label) : size_(shared.cluster_size) {
    if (!shared.scores) return;
    cluster_ = first_label / size_;
    border_ = (cluster_ + 1) * size_;
  }

  void move_to(std::int64_t label) {
    for (; label >= border_; border_ += size_) ++cluster_;
  }

  // Calls body(cluster, first, end) for the clusters that `labels` labels from the present place on run through, with
  // the range of those labels, counted from first_label. The place stays.
  template <class Body>
  FANIN_INLINE void visit(std::int64_t first_label, std::int64_t labels, const Body& body) const {
    std::int64_t cluster = cluster_, border = border_ - first_label;
    for (std::int64_t first = 0; first < labels; ++cluster, border += size_) {
      const std::int64_t end = border < labels ? border : labels;
      body(cluster, first, end);
      first = end;
    }
  }

 private:
  std::int64_t size_;
  std::int64_t cluster_ = 0;
  std::int64_t border_ = INT64_MAX;  // the first label of the next cluster
};

// z += the scores of each label's cluster. Rows past the batch keep their values: what they hold is never used.
template <int NV>
FANIN_INLINE void add_shared(const SharedScores& shared, const ClusterPlace& place, const Tiling& tiling,
                             const TileRows& rows, std::int64_t first_label, std::int64_t labels, float* z) {
  constexpr int kTile = NV * kLanes;
  place.visit(first_label, labels, [&](std::int64_t cluster, std::int64_t first, std::int64_t end) FANIN_LAMBDA_INLINE {
    const float* scores = shared.scores + cluster * tiling.rows + rows.first;
    if (rows.count < kTile) {  // a whole vector would reach past the cluster's row
      for (std::int64_t i = first; i < end; ++i) {
        for (std::int64_t t = 0; t < rows.count; ++t) z[i * kTile + t] += scores[t];
      }
      return;
    }
    Vec values[NV];
    for (int j = 0; j < NV; ++j) values[j] = load(scores + j * kLanes);
    for (std::int64_t i = first; i < end; ++i) {
      for (int j = 0; j < NV; ++j) {
        float* logits = z + i * kTile + j * kLanes;
        store(logits, load(logits) + values[j]);
      }
    }
  });
}

// Zeroes the gradients of the clusters that start among these labels, but for the rows that are private to the thread.
// Done just before they are added to, so that they are still in the cache then.
FANIN_INLINE void clear_shared_gradient(const SharedGradient& out, std::int64_t cluster_size, const Tiling& tiling,
                                        std::int64_t first_label, std::int64_t labels) {
  const std::int64_t first = (first_label + cluster_size - 1) / cluster_size;
  const std::int64_t end = (first_label + labels + cluster_size - 1) / cluster_size;
  for (std::int64_t cluster = first; cluster < end; ++cluster) {
    if (cluster == out.first_cluster || cluster == out.last_cluster) continue;
    float* row = out.grad + cluster * tiling.rows;
    for (std::int64_t i = 0; i < tiling.rows; ++i) row[i] = 0.0f;
  }
}

// The gradients of the clusters' scores += scale * the sum over their labels of g [labels, T].
template <int NV>
FANIN_INLINE void add_shared_gradient(const SharedGradient& out, const ClusterPlace& place, const Tiling& tiling,
                                      const TileRows& rows, float scale, std::int64_t first_label, std::int64_t labels,
                                      const float* g) {
  constexpr int kTile = NV * kLanes;
  place.visit(first_label, labels, [&](std::int64_t cluster, std::int64_t first, std::int64_t end) FANIN_LAMBDA_INLINE {
    Vec sums[NV] = {};
    for (std::int64_t i = first; i < end; ++i) {
      for (int j = 0; j < NV; ++j) sums[j] += load(g + i * kTile + j * kLanes);
    }
    float* row = out.grad + cluster * tiling.rows;
    if (cluster == out.last_cluster) row = out.last_row;
    if (cluster == out.first_cluster) row = out.first_row;
    row += rows.first;
    if (rows.count < kTile) {
      float by_row[kTile];
      for (int j = 0; j < NV; ++j) store(by_row + j * kLanes, sums[j]);
      for (std::int64_t t = 0; t < rows.count; ++t) row[t] += scale * by_row[t];
      return;
    }
    for (int j = 0; j < NV; ++j) store(row + j * kLanes, load(row + j * kLanes) + scale * sums[j]);
  });
}

}  // namespace
}  // namespace FANIN_ISA
}  // namespace fanin
