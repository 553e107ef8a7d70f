// What the stand-alone tests check with, and the shapes that they go through.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <vector>

#include "fanin/instruction_set.h"
#include "oracle.h"

namespace checks {

using oracle::Problem;
using oracle::Shape;

inline int failures = 0;
inline const Shape* current = nullptr;

inline void check(bool condition, const char* what) {
  if (condition) return;
  ++failures;
  std::fprintf(stderr, "FAILED %s", what);
  if (current != nullptr) {
    std::fprintf(stderr, " at L=%lld D=%lld F=%lld G=%lld B=%lld, clusters of %lld",
                 static_cast<long long>(current->labels), static_cast<long long>(current->inputs),
                 static_cast<long long>(current->fan_in), static_cast<long long>(current->group),
                 static_cast<long long>(current->rows), static_cast<long long>(current->cluster));
    std::fprintf(stderr, ", %lld bytes a weight", static_cast<long long>(fanin::bytes_of(current->storage)));
  }
  std::fputc('\n', stderr);
}

// Agreement to a share of the largest true value.
template <class Actual>
void check_close(const std::vector<Actual>& actual, const std::vector<double>& truth, const char* what) {
  double largest = 1.0, worst = 0.0;
  for (const double value : truth) largest = std::fmax(largest, std::fabs(value));
  check(actual.size() == truth.size(), what);
  for (std::size_t i = 0; i < truth.size(); ++i) {
    const double error = std::fabs(static_cast<double>(actual[i]) - truth[i]);
    worst = error <= worst ? worst : error;  // NaN counts as worst
  }
  check(worst <= 1e-5 * largest, what);
}

// The weights are the true ones, or neighbours of them in the format that they are stored in.
inline void check_weights(const Problem& p, const std::vector<double>& truth, const char* what) {
  const std::vector<float> weights = p.weights();
  if (p.codes.empty()) {
    check_close(weights, truth, what);
    return;
  }
  for (std::size_t i = 0; i < truth.size(); ++i) {
    const double error = std::fabs(static_cast<double>(weights[i]) - truth[i]);
    check(error <= 1.001 * oracle::spacing(p.shape.storage, truth[i]) + 1e-5, what);
  }
}

inline constexpr fanin::Storage kFewerBits[] = {fanin::Storage::bf16, fanin::Storage::fp8};

// Call a test with every shape, as float32 without clusters; it may change its copy.
template <class Test>
void for_shapes(Test test) {
  const Shape shapes[] = {{1, 1, 1, 1, 1},    {7, 5, 5, 1, 1},     {37, 19, 1, 1, 3},    {29, 16, 16, 16, 15},
                          {50, 33, 8, 3, 17}, {65, 64, 33, 16, 31}, {67, 48, 16, 32, 5},  {9, 40, 12, 2, 130},
                          {33, 70, 65, 1, 65}, {19, 66000, 3, 1, 2}, {19, 65536, 5, 4, 2}, {300, 12, 4, 1, 0}};
  for (Shape shape : shapes) {
    current = &shape;
    test(shape);
  }
  current = nullptr;
}

// Call a test with a number of threads, one and several, while labels of the shape share scores in clusters of every
// kind: none, of one label, of some, of all; afterwards none do.
template <class Test>
void for_clusters_and_threads(Shape& shape, Test test) {
  for (const std::int64_t cluster : {std::int64_t{0}, std::int64_t{1}, std::int64_t{5}, shape.labels}) {
    shape.cluster = std::min(cluster, shape.labels);
    for (const int threads : {1, 3}) test(threads);
  }
  shape.cluster = 0;
}

// Run all tests of a program. FANIN_CPU_ISA chooses the instruction set; 77 where this processor cannot run it.
template <class Tests>
int run(Tests tests) {
  try {
    std::printf("instruction set: %s\n", fanin::kernels().name);
  } catch (const std::runtime_error& error) {
    std::printf("skipped: %s\n", error.what());
    return 77;
  }
  tests();
  std::printf("%d checks failed\n", failures);
  return failures == 0 ? 0 : 1;
}

}  // namespace checks
