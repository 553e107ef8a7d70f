// Scores that the labels of a cluster share: added to the logits z [labels, T] of consecutive labels, and their
// gradient. Included by kernels.cpp only.
#pragma once

#include "fanin/kernel_table.h"
#include "simd/losses.h"
#include "simd/vector.h"

namespace fanin {
namespace FANIN_ISA {
namespace {

// Calls body(cluster, first, end) for the clusters that `labels` labels from first_label on run through, with the
// range of those labels, counted from first_label.
template <class Body>
FANIN_INLINE void for_clusters(std::int64_t cluster_size, std::int64_t first_label, std::int64_t labels,
                               const Body& body) {
  std::int64_t cluster = first_label / cluster_size;
  std::int64_t border = (cluster + 1) * cluster_size - first_label;
  for (std::int64_t first = 0; first < labels; ++cluster, border += cluster_size) {
    const std::int64_t end = border < labels ? border : labels;
    body(cluster, first, end);
    first = end;
  }
}

// z += the scores of each label's cluster. Rows past the batch keep their values: what they hold is never used.
template <int NV>
FANIN_INLINE void add_shared(const SharedScores& shared, const Tiling& tiling, const TileRows& rows,
                             std::int64_t first_label, std::int64_t labels, float* z) {
  constexpr int kTile = NV * kLanes;
  for_clusters(shared.cluster_size, first_label, labels,
               [&](std::int64_t cluster, std::int64_t first, std::int64_t end) FANIN_LAMBDA_INLINE {
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
                     float* place = z + i * kTile + j * kLanes;
                     store(place, load(place) + values[j]);
                   }
                 }
               });
}

// The gradients of the clusters' scores += scale * the sum over their labels of g [labels, T].
template <int NV>
FANIN_INLINE void add_shared_gradient(const SharedGradient& out, std::int64_t cluster_size, const Tiling& tiling,
                                      const TileRows& rows, float scale, std::int64_t first_label, std::int64_t labels,
                                      const float* g) {
  constexpr int kTile = NV * kLanes;
  for_clusters(cluster_size, first_label, labels,
               [&](std::int64_t cluster, std::int64_t first, std::int64_t end) FANIN_LAMBDA_INLINE {
                 Vec sums[NV] = {};
                 for (std::int64_t i = first; i < end; ++i) {
                   for (int j = 0; j < NV; ++j) sums[j] += load(g + i * kTile + j * kLanes);
                 }
                 float* row = cluster == out.first_cluster  ? out.first_row
                              : cluster == out.last_cluster ? out.last_row
                                                            : out.grad + cluster * tiling.rows;
                 row += rows.first;
                 if (rows.count < kTile) {
                   float by_row[kTile];
                   for (int j = 0; j < NV; ++j) store(by_row + j * kLanes, sums[j]);
                   for (std::int64_t t = 0; t < rows.count; ++t) row[t] += scale * by_row[t];
                   return;
                 }
                 for (int j = 0; j < NV; ++j) {
                   store(row + j * kLanes, load(row + j * kLanes) + scale * sums[j]);
                 }
               });
}

}  // namespace
}  // namespace FANIN_ISA
}  // namespace fanin
