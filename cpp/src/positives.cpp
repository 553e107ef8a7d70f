#include "positives.h"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <tuple>

namespace fanin {

namespace {

void check(const Csr& csr, std::int64_t rows, std::int64_t labels) {
  if (csr.indptr[0] != 0 || csr.indptr[rows] != csr.entries) {
    throw std::invalid_argument("indptr has to start with 0 and end with the number of entries");
  }
  for (std::int64_t row = 0; row < rows; ++row) {
    if (csr.indptr[row + 1] < csr.indptr[row]) throw std::invalid_argument("indptr has to be ascending");
  }
  for (std::int64_t i = 0; i < csr.entries; ++i) {
    if (csr.indices[i] < 0 || csr.indices[i] >= labels) {
      throw std::invalid_argument("label " + std::to_string(csr.indices[i]) + " is not in [0, " +
                                  std::to_string(labels) + ")");
    }
  }
}

}  // namespace

std::vector<LabelRow> sorted_by_label(const Csr& csr, std::int64_t rows, std::int64_t labels) {
  check(csr, rows, labels);
  std::vector<LabelRow> pairs;
  pairs.reserve(static_cast<std::size_t>(csr.entries));
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t i = csr.indptr[row]; i < csr.indptr[row + 1]; ++i) {
      pairs.push_back({csr.indices[i], row, csr.weights ? csr.weights[i] : 1.0f, csr.margins ? csr.margins[i] : 0.0f});
    }
  }
  std::sort(pairs.begin(), pairs.end(), [](const LabelRow& a, const LabelRow& b) {
    return std::tie(a.label, a.row) < std::tie(b.label, b.row);
  });
  const auto same = [](const LabelRow& a, const LabelRow& b) { return a.label == b.label && a.row == b.row; };
  pairs.erase(std::unique(pairs.begin(), pairs.end(), same), pairs.end());
  return pairs;
}

std::vector<std::int64_t> sorted_rows(const Csr& csr, std::int64_t rows, std::int64_t labels) {
  check(csr, rows, labels);
  std::vector<std::int64_t> sorted(csr.indices, csr.indices + csr.entries);
  for (std::int64_t row = 0; row < rows; ++row) {
    std::sort(sorted.begin() + csr.indptr[row], sorted.begin() + csr.indptr[row + 1]);
  }
  return sorted;
}

}  // namespace fanin
