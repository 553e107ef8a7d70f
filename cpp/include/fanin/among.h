// Top-k among the labels of a few clusters a row: the exact second stage of an approximate prediction.
#pragma once

#include <cstdint>

#include "fanin/layer.h"
#include "fanin/operations.h"

namespace fanin {

// The dense vectors that clusters of consecutive labels share; label l has vector l / cluster_size.
struct SharedVectors {
  const void* weight;  // [K, inputs]: float, or codes; null where nothing is shared
  Storage storage;
  std::int64_t inputs;        // the first so many of x
  std::int64_t cluster_size;
};

// The labels to be scored. They come in units of consecutive labels: unit u is [u * unit, (u + 1) * unit).
struct ChosenClusters {
  const std::int32_t* members;  // units of cluster c: members[bounds[c]] to members[bounds[c + 1] - 1]; each unit once
  const std::int64_t* bounds;
  const std::int64_t* chosen;  // [B, beam] numbers of clusters, or -1; no cluster twice in a row
  std::int64_t clusters;
  std::int64_t beam;
  std::int64_t unit;  // a multiple of G
};

// scores [B, k] and labels [B, k]; exclude may be null. Throws as topk does, and where a cluster is not in [-1, clusters).
void topk_among(const Layer& layer, const float* x, std::int64_t rows, const ChosenClusters& among,
                const SharedVectors& shared, std::int64_t k, const Csr* exclude, float* scores, std::int64_t* labels,
                int threads);

// Scores of the labels of some units for one row.
struct UnitsTask {
  Layer layer;
  SharedVectors shared;
  const float* x;              // [D]
  const std::int32_t* units;
  std::int64_t count;
  const std::int32_t* next;    // units that are to be scored after these: asked for in advance
  std::int64_t next_count;
  std::int64_t unit;
  float* scratch;              // units_scratch_floats()
  float* z;                    // [labels of the units], one unit behind the other
};

// Floats of scratch memory: the inputs of a set, a label's weights, a vector.
inline std::int64_t units_scratch_floats(const Layer& layer, const SharedVectors& shared) {
  return 2 * layer.fan_in + shared.inputs;
}

// Of one instruction set each, compiled from src/simd/among.cpp.
using ScoreUnits = void (*)(const UnitsTask& task);
#if defined(FANIN_X86)
void avx512_score_units(const UnitsTask& task);
void avx2_score_units(const UnitsTask& task);
#endif
void portable_score_units(const UnitsTask& task);

}  // namespace fanin
