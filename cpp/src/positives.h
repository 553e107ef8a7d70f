// Relevant labels of a batch: checks, and the order in which the kernels meet them.
#pragma once

#include <cstdint>
#include <vector>

#include "fanin/layer.h"
#include "fanin/operations.h"

namespace fanin {

// Distinct pairs sorted by label, then row. Throws std::invalid_argument where indptr does not rise from 0 to the
// number of entries or a label is not in [0, labels).
std::vector<LabelRow> sorted_by_label(const Csr& csr, std::int64_t rows, std::int64_t labels);

// The labels of each row, ascending; row b stands in [indptr[b], indptr[b + 1]). Throws as sorted_by_label does.
std::vector<std::int64_t> sorted_rows(const Csr& csr, std::int64_t rows, std::int64_t labels);

}  // namespace fanin
