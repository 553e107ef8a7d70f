#include "fanin/largest.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "best_of_rows.h"
#include "fanin/instruction_set.h"
#include "threads.h"

namespace fanin {

namespace {

ScanColumns scan_columns() {
#if defined(FANIN_X86)
  if (std::strcmp(kernels().name, "avx512") == 0) return avx512_scan_columns;
  if (std::strcmp(kernels().name, "avx2") == 0) return avx2_scan_columns;
#endif
  return portable_scan_columns;
}

constexpr std::int64_t kShare = 1 << 17;  // products that are worth a thread
constexpr std::size_t kRoom = 2 * kScanColumns;  // behind the best k

// The first k of a row's columns are the best, and the threshold is what exceeds none of them.
void keep_best(BestColumns& row, std::int64_t k, std::vector<Candidate>& candidates) {
  if (row.found < k) return;
  candidates.clear();
  for (std::size_t i = 0; i < static_cast<std::size_t>(row.found); ++i) {
    candidates.push_back({row.scores[i], row.columns[i]});
  }
  std::nth_element(candidates.begin(), candidates.begin() + (k - 1), candidates.end(), better);
  for (std::size_t i = 0; i < static_cast<std::size_t>(k); ++i) {
    row.scores[i] = candidates[i].score;
    row.columns[i] = static_cast<std::int32_t>(candidates[i].label);
  }
  row.found = k;
  row.threshold = candidates[static_cast<std::size_t>(k - 1)].score;
}

}  // namespace

LargestColumns::LargestColumns(std::int64_t rows, std::int64_t k) : k_(k), rows_(static_cast<std::size_t>(rows)) {
  for (BestColumns& row : rows_) {
    row.scores.resize(static_cast<std::size_t>(k) + kRoom);
    row.columns.resize(row.scores.size());
    row.threshold = std::numeric_limits<float>::quiet_NaN();  // that every score exceeds, -inf too
  }
}

void LargestColumns::add(const void* products, Storage storage, const float* bias, std::int64_t count, int threads) {
  const ScanColumns run = scan_columns();
  const std::int64_t worth = std::min(rows(), rows() * count / kShare);
  const int parts = static_cast<int>(std::min<std::int64_t>(std::max(threads, 1), std::max<std::int64_t>(worth, 1)));
  run_parts(parts, [&](int part) {
    const Share own = share(rows(), part, parts);
    std::vector<Candidate> candidates;
    for (std::int64_t i = own.first; i < own.end; ++i) {
      BestColumns& row = rows_[static_cast<std::size_t>(i)];
      const void* first = static_cast<const char*>(products) + i * count * bytes_of(storage);
      ColumnScan scan{first, storage, bias, 0, count, width_, static_cast<std::int64_t>(row.scores.size()),
                      row.threshold, row.scores.data(), row.columns.data(), row.found};
      while (true) {
        run(scan);
        row.found = scan.found;
        if (scan.first == scan.end) break;
        keep_best(row, k_, candidates);
        scan.found = row.found;
        scan.threshold = row.threshold;
      }
    }
  });
  width_ += count;
}

void LargestColumns::take(std::int64_t* columns) const {
  if (width_ < k_) throw std::invalid_argument("there are fewer columns than are to be found");
  std::vector<Candidate> candidates;
  for (BestColumns row : rows_) {
    keep_best(row, k_, candidates);
    columns = std::copy_n(row.columns.begin(), k_, columns);
  }
}

}  // namespace fanin
