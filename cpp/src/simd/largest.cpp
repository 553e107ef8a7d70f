// The search for scores above a threshold, of one instruction set. CMake compiles this file once for each, with
// FANIN_ISA as its namespace.
#include "fanin/largest.h"
#include "simd/vector.h"
#include "storage.h"

namespace fanin {
namespace FANIN_ISA {
namespace {

using std::int64_t;

typedef std::uint16_t UnalignedCodes __attribute__((vector_size(2 * FANIN_LANES), aligned(2), may_alias));

FANIN_INLINE Vec load_wide(const float* p) { return load(p); }
FANIN_INLINE Vec load_wide(const std::uint16_t* p) {
  return reinterpret_cast<Vec>(__builtin_convertvector(*reinterpret_cast<const UnalignedCodes*>(p), VecI) << 16);
}
FANIN_INLINE float wide(float value) { return value; }
FANIN_INLINE float wide(std::uint16_t code) { return Bfloat16::widen(code); }

// All ones where the score of a lane exceeds the threshold, or one of both is NaN.
template <class Product>
FANIN_INLINE VecI exceeding(const Product* products, const float* bias, Vec threshold) {
  return ~(load_wide(products) + load(bias) <= threshold);
}

template <class Product>
FANIN_INLINE void collect(ColumnScan& scan, const Product* products, int64_t first, int64_t end) {
  for (int64_t at = first; at < end; ++at) {
    const float score = wide(products[at]) + scan.bias[at];
    if (score <= scan.threshold) continue;
    scan.scores[scan.found] = score == score ? score : __builtin_inff();
    scan.columns[scan.found++] = static_cast<std::int32_t>(scan.number + at);
  }
}

template <class Product>
FANIN_INLINE void scan_columns(ColumnScan& scan) {
  constexpr int64_t kVectors = kScanColumns / kLanes;
  const Product* products = static_cast<const Product*>(scan.products);
  const Vec threshold = splat(scan.threshold);
  while (scan.first < scan.end && scan.found + kScanColumns <= scan.capacity) {
    const int64_t first = scan.first;
    if (scan.end - first < kScanColumns) {
      collect(scan, products, first, scan.end);
      scan.first = scan.end;
      return;
    }
    scan.first += kScanColumns;
    VecI found[kVectors], some{};
    for (int i = 0; i < kVectors; ++i) {
      const int64_t at = first + i * kLanes;
      found[i] = exceeding(products + at, scan.bias + at, threshold);
      some |= found[i];
    }
    if (!any(some)) continue;  // nearly always
    for (int i = 0; i < kVectors; ++i) {
      if (any(found[i])) collect(scan, products, first + i * kLanes, first + (i + 1) * kLanes);
    }
  }
}

}  // namespace
}  // namespace FANIN_ISA

#define FANIN_JOIN(a, b) a##b
#define FANIN_SCAN_NAME(isa) FANIN_JOIN(isa, _scan_columns)
void FANIN_SCAN_NAME(FANIN_ISA)(ColumnScan& scan) {
  if (scan.storage == Storage::fp32) {
    FANIN_ISA::scan_columns<float>(scan);
  } else {
    FANIN_ISA::scan_columns<std::uint16_t>(scan);
  }
}

}  // namespace fanin
