// The largest scores of each row, of which some columns come at a time.
#pragma once

#include <cstdint>
#include <vector>

#include "fanin/layer.h"

namespace fanin {

// A row's best columns so far and, behind them, what has exceeded the worst of them since.
struct BestColumns {
  std::vector<float> scores;  // of `found` columns; there is room for more
  std::vector<std::int32_t> columns;
  std::int64_t found = 0;
  float threshold;
};

// The k largest of products + bias in every row, the lower column among equal ones. NaN counts as infinity.
class LargestColumns {
 public:
  LargestColumns(std::int64_t rows, std::int64_t k);

  std::int64_t rows() const { return static_cast<std::int64_t>(rows_.size()); }
  std::int64_t k() const { return k_; }
  std::int64_t width() const { return width_; }

  // The next `count` columns: products [rows, count], float or bfloat16 codes, and a bias for each column. Widths have
  // to stay below 2^31.
  void add(const void* products, Storage storage, const float* bias, std::int64_t count, int threads);

  // columns [rows, k], in no order. Throws where there were fewer than k columns.
  void take(std::int64_t* columns) const;

 private:
  std::int64_t k_;
  std::int64_t width_ = 0;
  std::vector<BestColumns> rows_;
};

// A search through some columns of a row.
struct ColumnScan {
  const void* products;
  Storage storage;
  const float* bias;
  std::int64_t first;  // the next column, of those that products and bias hold
  std::int64_t end;
  std::int64_t number;  // of their first in the whole row
  std::int64_t capacity;
  float threshold;
  float* scores;
  std::int32_t* columns;
  std::int64_t found;
};

// Columns that are looked at between two checks of the capacity.
constexpr std::int64_t kScanColumns = 64;

// Collects what exceeds the threshold until the end, or until fewer than kScanColumns places are left. Of one
// instruction set each, compiled from src/simd/largest.cpp.
using ScanColumns = void (*)(ColumnScan& scan);
#if defined(FANIN_X86)
void avx512_scan_columns(ColumnScan& scan);
void avx2_scan_columns(ColumnScan& scan);
#endif
void portable_scan_columns(ColumnScan& scan);

}  // namespace fanin
