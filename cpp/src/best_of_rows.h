// The best labels of every row: a heap a row, and how the ranking is written out.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "fanin/operations.h"

namespace fanin {

struct Candidate {
  float score;
  std::int64_t label;
};

// Whether a comes before b: the higher score, among equals the lower label.
inline bool better(const Candidate& a, const Candidate& b) {
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

  // For scores above the row's threshold, of labels that come in ascending order. Returns the new threshold: only
  // scores above it are worth an insertion.
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
    return threshold(row);
  }

  // For scores from the row's threshold on, of labels in any order; -inf is never taken. Returns as insert() does.
  float offer(std::int64_t row, float score, std::int64_t label) {
    const std::vector<Candidate>& heap = rows_[static_cast<std::size_t>(row)];
    const bool beaten = heap.size() == k_ && !better({score, label}, heap.front());
    if (beaten || score == -std::numeric_limits<float>::infinity()) return threshold(row);
    return insert(row, score, label);
  }

  // The worst score of a full row, below which nothing is taken any more.
  float threshold(std::int64_t row) const {
    const std::vector<Candidate>& heap = rows_[static_cast<std::size_t>(row)];
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

// Writes the k best of a row's candidates, which it sorts; places left empty hold -inf and -1.
inline void write_ranking(std::vector<Candidate>& candidates, std::int64_t k, float* scores, std::int64_t* labels) {
  std::sort(candidates.begin(), candidates.end(), better);
  for (std::int64_t i = 0; i < k; ++i) {
    const bool found = i < static_cast<std::int64_t>(candidates.size());
    scores[i] = found ? candidates[static_cast<std::size_t>(i)].score : -std::numeric_limits<float>::infinity();
    labels[i] = found ? candidates[static_cast<std::size_t>(i)].label : -1;
  }
}

}  // namespace fanin
