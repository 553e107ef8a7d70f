// Scores of a few labels for one row, of one instruction set. CMake compiles this file once for each, with FANIN_ISA as
// its namespace. A row meets too few labels at a time for the batch to be the vector dimension: the inputs that a set
// reads are gathered, and every label is a product along them.
#include "fanin/among.h"
#include "simd/vector.h"
#include "storage.h"

namespace fanin {
namespace FANIN_ISA {
namespace {

using std::int64_t;

constexpr int64_t kAhead = 8;  // labels that are asked for in advance: they lie anywhere in memory
constexpr int64_t kCacheLine = 64;

FANIN_INLINE float product(const float* a, const float* b, int64_t n) {
  Vec even{}, odd{};
  int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    even += load(a + i) * load(b + i);
    odd += load(a + i + kLanes) * load(b + i + kLanes);
  }
  for (; i + kLanes <= n; i += kLanes) even += load(a + i) * load(b + i);
  float sum = sum_lanes(even + odd);
  for (; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

FANIN_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// The floats from element `at` on: where they lie, or widened into scratch.
FANIN_INLINE const float* widened(const void* data, Storage storage, int64_t at, int64_t n, float* scratch) {
  if (storage == Storage::fp32) return static_cast<const float*>(data) + at;
  widen_codes(storage, static_cast<const char*>(data) + at * bytes_of(storage), n, scratch);
  return scratch;
}

template <class Index>
FANIN_INLINE void prefetch(const Layer& layer, int64_t label) {
  const char* weight = static_cast<const char*>(weight_place(layer, label * layer.fan_in));
  const int64_t bytes = layer.fan_in * bytes_of(layer.storage);
  for (int64_t at = 0; at < bytes; at += kCacheLine) __builtin_prefetch(weight + at);
  if (layer.bias) __builtin_prefetch(layer.bias + label);
  if (label % layer.group != 0) return;
  const Index* index = static_cast<const Index*>(layer.index) + label / layer.group * layer.fan_in;
  const int64_t entries = kCacheLine / static_cast<int64_t>(sizeof(Index));
  for (int64_t f = 0; f < layer.fan_in; f += entries) __builtin_prefetch(index + f);
}

template <class Index>
FANIN_INLINE void gather_inputs(const float* x, const Index* index, int64_t n, float* inputs) {
  int64_t f = 0;
  for (; f + kLanes <= n; f += kLanes) store(inputs + f, gather(x, index + f));
  for (; f < n; ++f) inputs[f] = x[index[f]];
}

// The sparse scores of labels [first, end), which start a set. As many labels from `ahead` on are asked for meanwhile;
// none where it is the number of labels.
template <class Index>
FANIN_INLINE void sparse_scores(const UnitsTask& task, int64_t first, int64_t end, int64_t ahead, float* z) {
  const Layer& layer = task.layer;
  const int64_t F = layer.fan_in;
  float* inputs = task.scratch;
  for (int64_t label = first; label < end;) {
    const int64_t set = label / layer.group;
    gather_inputs(task.x, static_cast<const Index*>(layer.index) + set * F, F, inputs);
    for (const int64_t stop = smaller((set + 1) * layer.group, end); label < stop; ++label) {
      if (ahead < layer.labels) prefetch<Index>(layer, ahead++);
      const float* weight = widened(layer.weight, layer.storage, label * F, F, inputs + F);
      *z++ = product(weight, inputs, F) + (layer.bias ? layer.bias[label] : 0.0f);
    }
  }
}

FANIN_INLINE void add_shared(const UnitsTask& task, int64_t first, int64_t end, float* z) {
  const SharedVectors& shared = task.shared;
  float* scratch = task.scratch + 2 * task.layer.fan_in;
  for (int64_t label = first; label < end;) {
    const int64_t cluster = label / shared.cluster_size;
    const float* vector = widened(shared.weight, shared.storage, cluster * shared.inputs, shared.inputs, scratch);
    const float score = product(vector, task.x, shared.inputs);
    for (const int64_t stop = smaller((cluster + 1) * shared.cluster_size, end); label < stop; ++label) *z++ += score;
  }
}

template <class Index>
FANIN_INLINE void score_units(const UnitsTask& task) {
  const int64_t labels = task.layer.labels;
  const int64_t distance = (kAhead + task.unit - 1) / task.unit;  // in units
  float* z = task.z;
  for (int64_t i = 0; i < task.count; ++i) {
    const int64_t behind = i + distance - task.count;  // the place of the unit to be asked for among the next ones
    const int64_t ahead = behind < 0 ? task.units[i + distance] * task.unit
                                     : behind < task.next_count ? task.next[behind] * task.unit : labels;
    const int64_t first = task.units[i] * task.unit;
    const int64_t end = smaller(first + task.unit, labels);
    sparse_scores<Index>(task, first, end, ahead, z);
    if (task.shared.weight) add_shared(task, first, end, z);
    z += end - first;
  }
}

}  // namespace
}  // namespace FANIN_ISA

#define FANIN_JOIN(a, b) a##b
#define FANIN_SCORE_NAME(isa) FANIN_JOIN(isa, _score_units)
void FANIN_SCORE_NAME(FANIN_ISA)(const UnitsTask& task) {
  if (task.layer.wide_index) {
    FANIN_ISA::score_units<std::int32_t>(task);
  } else {
    FANIN_ISA::score_units<std::uint16_t>(task);
  }
}

}  // namespace fanin
