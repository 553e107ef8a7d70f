#include "fanin/among.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <tuple>
#include <utility>
#include <vector>

#include "best_of_rows.h"
#include "buffer.h"
#include "fanin/instruction_set.h"
#include "positives.h"
#include "threads.h"

namespace fanin {

namespace {

ScoreUnits score_units() {
#if defined(FANIN_X86)
  if (std::strcmp(kernels().name, "avx512") == 0) return avx512_score_units;
  if (std::strcmp(kernels().name, "avx2") == 0) return avx2_score_units;
#endif
  return portable_score_units;
}

struct Visit {
  std::int64_t cluster;
  std::int64_t row;
};

// The visits of some rows, cluster by cluster, so that a cluster's weights come into the cache once for all rows that
// chose it. Rows of x that are too long to come from the cache every time are visited one after the other.
std::vector<Visit> visits(const ChosenClusters& among, Share rows, std::int64_t inputs) {
  std::vector<Visit> result;
  result.reserve(static_cast<std::size_t>((rows.end - rows.first) * among.beam));
  for (std::int64_t row = rows.first; row < rows.end; ++row) {
    for (std::int64_t i = 0; i < among.beam; ++i) {
      const std::int64_t cluster = among.chosen[row * among.beam + i];
      if (cluster < -1 || cluster >= among.clusters) throw std::invalid_argument("a chosen cluster does not exist");
      if (cluster >= 0) result.push_back({cluster, row});
    }
  }
  constexpr std::int64_t kLongRow = 8192;  // inputs: 32 KiB
  if (inputs > kLongRow) return result;
  std::sort(result.begin(), result.end(), [](const Visit& a, const Visit& b) {
    return a.cluster < b.cluster || (a.cluster == b.cluster && a.row < b.row);
  });
  return result;
}

using Units = std::pair<const std::int32_t*, std::int64_t>;  // where they start, and how many there are

Units units_of(const ChosenClusters& among, std::int64_t cluster) {
  return {among.members + among.bounds[cluster], among.bounds[cluster + 1] - among.bounds[cluster]};
}

std::int64_t most_members(const ChosenClusters& among) {
  std::int64_t most = 0;
  for (std::int64_t c = 0; c < among.clusters; ++c) most = std::max(most, among.bounds[c + 1] - among.bounds[c]);
  return most;
}

}  // namespace

void topk_among(const Layer& layer, const float* x, std::int64_t rows, const ChosenClusters& among,
                const SharedVectors& shared, std::int64_t k, const Csr* exclude, float* scores, std::int64_t* labels,
                int threads) {
  std::vector<std::int64_t> excluded;
  if (exclude != nullptr) excluded = sorted_rows(*exclude, rows, layer.labels);
  const ScoreUnits score = score_units();
  const std::int64_t most = most_members(among);
  BestOfRows best(rows, k, exclude, excluded);  // every row belongs to one thread
  const int parts = static_cast<int>(std::min<std::int64_t>(std::max(threads, 1), std::max<std::int64_t>(rows, 1)));
  run_parts(parts, [&](int part) {
    const Share own = share(rows, part, parts);
    const Buffer scratch(units_scratch_floats(layer, shared));
    const Buffer z(most * among.unit);
    UnitsTask task{layer, shared, nullptr, nullptr, 0, nullptr, 0, among.unit, scratch.data(), z.data()};
    const std::vector<Visit> order = visits(among, own, layer.inputs);
    for (std::size_t at = 0; at < order.size(); ++at) {
      const Visit& visit = order[at];
      task.x = x + visit.row * layer.inputs;
      std::tie(task.units, task.count) = units_of(among, visit.cluster);
      std::tie(task.next, task.next_count) = at + 1 < order.size() ? units_of(among, order[at + 1].cluster) : Units{};
      score(task);
      float threshold = best.threshold(visit.row);
      const float* place = task.z;
      for (std::int64_t i = 0; i < task.count; ++i) {
        const std::int64_t first = task.units[i] * among.unit;
        const std::int64_t end = std::min(first + among.unit, layer.labels);
        for (std::int64_t label = first; label < end; ++label, ++place) {
          if (*place >= threshold) threshold = best.offer(visit.row, *place, label);
        }
      }
    }
    for (std::int64_t row = own.first; row < own.end; ++row) {
      std::vector<Candidate> found = best.row(row);
      write_ranking(found, k, scores + row * k, labels + row * k);
    }
  });
}

}  // namespace fanin
