// The plain data that the core's functions share. Shapes use the words of fanin/kernels/spec.py:
// L labels, D inputs, B rows, F fan-in, G group size, S = ceil(L / G) index sets, K clusters.
#pragma once

#include <cstdint>

namespace fanin {

// What weights are stored as; everything is computed in float. The codes are in src/storage.h.
enum class Storage : int { fp32 = 0, bf16 = 1, fp8 = 2 };

// Static: code of every instruction set includes this, and the linker must not choose among copies.
static inline constexpr std::int64_t bytes_of(Storage storage) {
  return storage == Storage::fp32 ? 4 : storage == Storage::bf16 ? 2 : 1;
}

// Views into the caller's arrays; nothing here owns memory.
struct Layer {
  void* weight;            // [L, F]: float, or uint16_t and uint8_t codes
  Storage storage;
  void* index;             // [S, F], uint16_t, or int32_t where wide_index
  bool wide_index;
  float* bias;             // [L] or null
  std::int64_t labels;     // L
  std::int64_t inputs;     // D
  std::int64_t fan_in;     // F
  std::int64_t group;      // G
  std::int64_t sets;       // S
  std::int64_t dense_inputs;  // those behind are mostly zero: skipped where a tile has none, dx of no use
  std::int64_t first_label = 0;  // number of label 0 in the layer that this is a part of, a multiple of G
};

// What clusters of consecutive labels add to the logits of their labels; label l is in cluster l / cluster_size.
struct SharedScores {
  const float* scores;        // [K, B], K = ceil(L / cluster_size); null where nothing is shared
  std::int64_t cluster_size;  // at most L, unrelated to G
};

// How the rows of a batch are cut into tiles. A packed array is [tiles, D, tile_rows]: feature-major, so that
// the rows of the batch are the vector dimension; rows past B are zero.
struct Tiling {
  std::int64_t rows;       // B
  std::int64_t tile_rows;  // T: 16, 32 or 64
  std::int64_t tiles;      // ceil(B / T)
};

// One relevant (label, row) pair; sorted by label, then row, without duplicates. Its loss at logit z is that of z -
// margin, times weight.
struct LabelRow {
  std::int64_t label;
  std::int64_t row;
  float weight;
  float margin;
};

enum class Loss : int { bce = 0, squared_hinge = 1 };
enum class Rule : int { sgd = 0, adamw = 1 };

struct UpdateRule {
  Rule rule;
  float learning_rate;
  float momentum;          // of SGD
  float weight_decay;
  float beta2, eps;        // of AdamW
  float one_minus_beta1;   // rounded once, from double
  float one_minus_beta2;
  float step_size;         // AdamW: learning_rate / (1 - beta1^t)
  float root_correction;   // AdamW: 1 / sqrt(1 - beta2^t)
  std::uint64_t rounding_key;  // of the step, where weights are stored in fewer bits
};

// The update's state: [L, F] and [L] arrays; SGD with momentum uses the first, AdamW both, others null.
struct Moments {
  float* weight[2];
  float* bias[2];
};

}  // namespace fanin
