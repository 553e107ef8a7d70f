#include <algorithm>
#include <limits>
#include <vector>

#include "fanin/operations.h"
#include "parts.h"
#include "positives.h"

namespace fanin {

namespace {

struct Candidate {
  float score;
  std::int64_t label;
};

// Whether a comes before b: the higher score, among equals the lower label.
bool better(const Candidate& a, const Candidate& b) {
  return a.score > b.score || (a.score == b.score && a.label < b.label);
}

// The best k of each row that one thread has seen: a heap with the worst on top once it is full.
class BestOfRows {
 public:
  BestOfRows(std::int64_t rows, std::int64_t k, const Csr* exclude, const std::vector<std::int64_t>& excluded)
      : k_(static_cast<std::size_t>(k)),
        exclude_(exclude),
        excluded_(excluded),
        rows_(static_cast<std::size_t>(rows)) {}

  // The row's new threshold: only logits above it are worth an insertion.
  float insert(std::int64_t row, float score, std::int64_t label) {
    std::vector<Candidate>& heap = rows_[static_cast<std::size_t>(row)];
    const bool full = heap.size() == k_;
    if (!is_excluded(row, label)) {
      if (full) {
        std::pop_heap(heap.begin(), heap.end(), better);
        heap.back() = {score, label};
      } else {
        heap.push_back({score, label});
      }
      std::push_heap(heap.begin(), heap.end(), better);
    }
    return heap.size() == k_ ? heap.front().score : -std::numeric_limits<float>::infinity();
  }

  const std::vector<Candidate>& row(std::int64_t row) const { return rows_[static_cast<std::size_t>(row)]; }

 private:
  bool is_excluded(std::int64_t row, std::int64_t label) const {
    if (exclude_ == nullptr) return false;
    return std::binary_search(excluded_.begin() + exclude_->indptr[row], excluded_.begin() + exclude_->indptr[row + 1],
                              label);
  }

  std::size_t k_;
  const Csr* exclude_;
  const std::vector<std::int64_t>& excluded_;
  std::vector<std::vector<Candidate>> rows_;
};

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
    std::sort(merged.begin(), merged.end(), better);
    for (std::int64_t i = 0; i < k; ++i) {
      const bool found = i < static_cast<std::int64_t>(merged.size());
      scores[row * k + i] = found ? merged[static_cast<std::size_t>(i)].score : -kInfinity;
      labels[row * k + i] = found ? merged[static_cast<std::size_t>(i)].label : -1;
    }
  }
}

}  // namespace fanin
