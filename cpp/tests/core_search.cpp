// The best labels of all, those among chosen clusters, and the largest columns of products, against sorting.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "checks.h"
#include "fanin/among.h"
#include "fanin/largest.h"
#include "fanin/operations.h"
#include "oracle.h"

namespace {

using checks::check;
using oracle::Problem;
using oracle::Shape;

void test_topk(const Shape& shape, bool exclude, int threads) {
  Problem p(shape);
  const auto L = static_cast<std::size_t>(shape.labels);
  const std::int64_t k = std::min<std::int64_t>(shape.labels, 7);
  std::vector<float> z(static_cast<std::size_t>(shape.rows) * L), scores(static_cast<std::size_t>(shape.rows * k));
  std::vector<std::int64_t> labels(scores.size());
  const fanin::Csr positives = p.positives();
  fanin::forward(p.layer(), p.x.data(), shape.rows, p.shared(), z.data(), 1);
  fanin::topk(p.layer(), p.x.data(), shape.rows, p.shared(), k, exclude ? &positives : nullptr, scores.data(),
              labels.data(), threads);
  for (std::int64_t row = 0; row < shape.rows; ++row) {
    std::vector<std::pair<float, std::int64_t>> order;
    for (std::int64_t label = 0; label < shape.labels; ++label) {
      if (exclude && p.is_positive(row, label)) continue;
      order.emplace_back(-z[static_cast<std::size_t>(row) * L + static_cast<std::size_t>(label)], label);
    }
    std::sort(order.begin(), order.end());
    for (std::int64_t i = 0; i < k; ++i) {
      const auto at = static_cast<std::size_t>(row * k + i);
      const bool found = i < static_cast<std::int64_t>(order.size());
      check(labels[at] == (found ? order[static_cast<std::size_t>(i)].second : -1), "top-k label");
      // Skipped inputs regroup a sum: equal but for rounding then.
      const float tolerance = shape.sparse > 0 ? 1e-5f * std::sqrt(static_cast<float>(shape.fan_in)) : 0.0f;
      check(found ? std::fabs(scores[at] + order[static_cast<std::size_t>(i)].first) <= tolerance
                  : std::isinf(scores[at]),
            "top-k score");
    }
  }
}

// Three clusters of units of two groups; every row chooses some, one row none. Vectors of all inputs are shared by 5
// labels.
void test_topk_among(const Shape& shape, bool exclude, int threads) {
  Problem p(shape);
  const std::int64_t L = shape.labels, D = shape.inputs, unit = 2 * shape.group, units = (L + unit - 1) / unit;
  const std::int64_t k = std::min<std::int64_t>(L, 7), beam = 2, vectors = (L + 4) / 5;
  std::vector<std::int32_t> members;
  for (std::int64_t u = units - 1; u >= 0; --u) members.push_back(static_cast<std::int32_t>(u));
  const std::vector<std::int64_t> bounds{0, units / 3, units / 3, units};
  std::vector<std::int64_t> chosen;
  for (std::int64_t row = 0; row < shape.rows; ++row) {
    chosen.push_back(row % 4 - 1);
    chosen.push_back(row % 4 == 0 ? -1 : row % 3 == (row % 4 - 1) ? -1 : row % 3);
  }
  std::vector<float> shared(static_cast<std::size_t>(vectors * D)), scores(static_cast<std::size_t>(shape.rows * k));
  for (std::size_t i = 0; i < shared.size(); ++i) shared[i] = static_cast<float>(i % 7) / 7.0f - 0.4f;
  const void* stored = p.codes.empty() ? static_cast<const void*>(shared.data()) : p.codes.data();
  const bool codes_reach = vectors * D <= L * shape.fan_in;  // weights stand in for vectors in fewer bits
  const bool with_vectors = p.codes.empty() || codes_reach;
  const fanin::SharedVectors extra = with_vectors ? fanin::SharedVectors{stored, shape.storage, D, 5}
                                                  : fanin::SharedVectors{};
  std::vector<std::int64_t> labels(scores.size());
  const fanin::Csr positives = p.positives();
  fanin::topk_among(p.layer(), p.x.data(), shape.rows, {members.data(), bounds.data(), chosen.data(), 3, beam, unit},
                    extra, k, exclude ? &positives : nullptr, scores.data(), labels.data(), threads);
  const std::vector<float> weights = p.weights();
  for (std::int64_t row = 0; row < shape.rows; ++row) {
    const auto score = [&](std::int64_t label) {
      double z = p.bias[static_cast<std::size_t>(label)];
      const auto input = [&](std::int64_t d) { return static_cast<double>(p.x[static_cast<std::size_t>(row * D + d)]); };
      for (std::int64_t f = 0; f < shape.fan_in; ++f) {
        z += weights[static_cast<std::size_t>(label * shape.fan_in + f)] * input(p.input_of(label, f));
      }
      for (std::int64_t d = 0; with_vectors && d < D; ++d) {
        const auto at = static_cast<std::size_t>(label / 5 * D + d);
        z += (p.codes.empty() ? shared[at] : weights[at]) * input(d);
      }
      return z;
    };
    std::vector<double> expected;
    for (std::int64_t label = 0; label < L; ++label) {
      const std::int64_t place = units - 1 - label / unit, cluster = place < bounds[1] ? 0 : 2;
      const auto first = static_cast<std::size_t>(row * beam);
      if (chosen[first] != cluster && chosen[first + 1] != cluster) continue;
      if (!exclude || !p.is_positive(row, label)) expected.push_back(score(label));
    }
    std::sort(expected.rbegin(), expected.rend());
    for (std::int64_t i = 0; i < k; ++i) {
      const auto at = static_cast<std::size_t>(row * k + i);
      if (i >= static_cast<std::int64_t>(expected.size())) {
        check(labels[at] == -1 && std::isinf(scores[at]), "no place left in top-k among clusters");
        continue;
      }
      const double tolerance = 1e-5 * std::sqrt(static_cast<double>(D)) * 8.0;
      check(std::fabs(scores[at] - expected[static_cast<std::size_t>(i)]) <= tolerance, "score among clusters");
      check(labels[at] >= 0 && std::fabs(score(labels[at]) - static_cast<double>(scores[at])) <= tolerance,
            "label among clusters");
    }
  }
}

// Columns that come in blocks of every length, with scores that are equal, infinite or not a number, are ranked as by
// sorting.
void test_largest_columns(fanin::Storage storage, int threads) {
  constexpr std::int64_t rows = 150, k = 19;
  fanin::LargestColumns largest(rows, k);
  std::vector<std::vector<std::pair<float, std::int64_t>>> expected(rows);
  std::int64_t width = 0;
  for (const std::int64_t count : {0, 3, 700, 64, 1, 129, 2000}) {
    std::vector<float> products(static_cast<std::size_t>(rows * count)), bias(static_cast<std::size_t>(count));
    for (std::size_t i = 0; i < bias.size(); ++i) bias[i] = i % 11 == 0 ? -INFINITY : static_cast<float>(i % 17);
    for (std::size_t i = 0; i < products.size(); ++i) {
      products[i] = i % 501 == 7 ? NAN : static_cast<float>(i * 37 % 113);
    }
    std::vector<std::uint16_t> codes;  // whole numbers below 256 are exact
    for (const float value : products) {
      codes.push_back(static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16));
    }
    const bool wide = storage == fanin::Storage::fp32;
    largest.add(wide ? static_cast<const void*>(products.data()) : codes.data(), storage, bias.data(), count, threads);
    for (std::int64_t row = 0; row < rows; ++row) {
      for (std::int64_t column = 0; column < count; ++column) {
        const auto at = static_cast<std::size_t>(row * count + column);
        const float score = products[at] + bias[static_cast<std::size_t>(column)];
        expected[static_cast<std::size_t>(row)].emplace_back(std::isnan(score) ? -INFINITY : -score, width + column);
      }
    }
    width += count;
  }
  std::vector<std::int64_t> columns(static_cast<std::size_t>(rows * k));
  largest.take(columns.data());
  for (std::int64_t row = 0; row < rows; ++row) {
    auto& ranked = expected[static_cast<std::size_t>(row)];
    std::sort(ranked.begin(), ranked.end());
    std::sort(columns.begin() + row * k, columns.begin() + (row + 1) * k);
    std::vector<std::int64_t> best;
    for (std::int64_t i = 0; i < k; ++i) best.push_back(ranked[static_cast<std::size_t>(i)].second);
    std::sort(best.begin(), best.end());
    check(std::equal(best.begin(), best.end(), columns.begin() + row * k), "the largest columns");
  }
}

}  // namespace

int main() {
  return checks::run([] {
    checks::for_shapes([](Shape& shape) {
      checks::for_clusters_and_threads(shape, [&](int threads) {
        for (const bool exclude : {false, true}) test_topk(shape, exclude, threads);
        shape.sparse = shape.inputs - shape.inputs / 3;
        test_topk(shape, true, threads);
        shape.sparse = 0;
      });
      for (const bool exclude : {false, true}) test_topk_among(shape, exclude, exclude ? 3 : 1);
      for (const fanin::Storage storage : checks::kFewerBits) {
        shape.storage = storage;
        for (const int threads : {1, 3}) test_topk(shape, true, threads);
        test_topk_among(shape, true, 2);
      }
    });
    for (const int threads : {1, 3}) {
      test_largest_columns(fanin::Storage::fp32, threads);
      test_largest_columns(fanin::Storage::bf16, threads);
    }
  });
}
