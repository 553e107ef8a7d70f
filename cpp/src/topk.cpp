#include <algorithm>
#include <limits>
#include <vector>

#include "best_of_rows.h"
#include "fanin/operations.h"
#include "parts.h"
#include "positives.h"

namespace fanin {

namespace {

float insert(void* context, std::int64_t row, float score, std::int64_t label) {
  return static_cast<BestOfRows*>(context)->insert(row, score, label);
}

}  // namespace

void topk(const Layer& layer, const float* x, std::int64_t rows, const SharedScores& shared, std::int64_t k,
          const Csr* exclude, float* scores, std::int64_t* labels, int threads) {
  std::vector<std::int64_t> excluded;
  if (exclude != nullptr) excluded = sorted_rows(*exclude, rows, layer.labels);
  const Tiling tiling = choose_tiling(rows, touched_inputs(layer), 1);
  const Buffer packed = pack(layer, tiling, x, threads);
  const std::vector<std::uint8_t> active = active_inputs(layer, tiling, packed.data(), threads);
  const Ranges ranges(layer, tiling, threads, shared, active.empty() ? nullptr : active.data());
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  std::vector<BestOfRows> best(static_cast<std::size_t>(ranges.parts()), BestOfRows(rows, k, exclude, excluded));
  run_parts(ranges.parts(), [&](int part) {
    std::vector<float> thresholds(static_cast<std::size_t>(tiling.tiles * tiling.tile_rows), -kInfinity);
    std::fill(thresholds.begin() + rows, thresholds.end(), kInfinity);
    kernels().topk({ranges[part], packed.data(), thresholds.data(), insert, &best[static_cast<std::size_t>(part)]});
  });
  std::vector<Candidate> merged;
  for (std::int64_t row = 0; row < rows; ++row) {
    merged.clear();
    for (const BestOfRows& part : best) merged.insert(merged.end(), part.row(row).begin(), part.row(row).end());
    write_ranking(merged, k, scores + row * k, labels + row * k);
  }
}

}  // namespace fanin
