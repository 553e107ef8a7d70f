// What one instruction set provides: the same source (src/simd) compiled with other flags and called through this
// table. Every function works on a contiguous range of index sets on one thread and touches no shared state.
#pragma once

#include <cstdint>

#include "fanin/layer.h"

namespace fanin {

// Scratch memory of one thread; sizes are given by scratch_sizes() in plan.h.
struct Scratch {
  float* logits;           // [max(G, kMaxLanes), T]
  float* weight;           // [sets_per_block * G, F]: a block's weights, where they are stored in fewer bits
  float* weight_grad;      // [sets_per_block * G, padded F]
  float* bias_grad;        // [sets_per_block * G]
  float* inputs_by_row;    // [T, padded F]: the gathered inputs of a set, row-major
  float* active_weight;    // [padded F]: a label's weights on the inputs that a tile has
  float* active_grad;      // [padded F]: their gradient
  std::int32_t* active_input;  // [F]: these inputs
  std::int32_t* active_slot;   // [F]: their places among the label's F
};

// One thread's part of an operation: the sets [first_set, end_set).
struct Range {
  Layer layer;
  Tiling tiling;
  SharedScores shared;
  const std::uint8_t* active;  // [tiles, D]: 0 where a tile has nothing but zeros of an input; null where all are read
  std::int64_t first_set;
  std::int64_t end_set;
  std::int64_t sets_per_block;
  Scratch scratch;
};

// Where one thread adds the gradient of the shared scores. Its first and last cluster may go on in its neighbours'
// ranges and have rows of their own, zero at the start; those between are in nobody else's.
struct SharedGradient {
  float* grad;             // [K, B]
  float* first_row;        // [B], private to the thread
  float* last_row;         // [B], the same
  std::int64_t first_cluster;
  std::int64_t last_cluster;
};

struct TrainTask {
  Range range;
  const float* x;          // packed
  float* dx;               // packed, private to the thread, zero at the start
  SharedGradient shared_grad;
  const LabelRow* positives_begin;
  const LabelRow* positives_end;
  Loss loss;
  float scale;
  UpdateRule update;
  Moments moments;
  double loss_sum;         // out: sum of the losses, not scaled
};

struct ForwardTask {
  Range range;
  const float* x;          // packed
  float* logits;           // [B, L]
};

struct GradInputTask {
  Range range;
  const float* grad;       // [B, L]
  float* dx;               // packed, private to the thread, zero at the start
};

struct GradWeightTask {
  Range range;
  const float* x;          // packed
  const float* grad;       // [B, L]
  float* dw;               // [L, F]
};

// Called with a logit above the row's threshold; returns the row's new threshold.
using TopkInsert = float (*)(void* context, std::int64_t row, float score, std::int64_t label);

struct TopkTask {
  Range range;
  const float* x;          // packed
  float* thresholds;       // [tiles, T], -inf at the start, +inf for rows past B
  TopkInsert insert;
  void* context;
};

struct KernelTable {
  const char* name;
  // Packs features [first, end) of x [B, D] into packed [tiles, D, T].
  void (*pack)(const float* x, const Tiling& tiling, std::int64_t inputs, std::int64_t first, std::int64_t end,
               float* packed);
  // out [B, D] = scale * sum of n packed arrays, for features [first, end).
  void (*unpack_sum)(const float* const* packed, int n, const Tiling& tiling, std::int64_t inputs,
                     std::int64_t first, std::int64_t end, float scale, float* out);
  void (*train)(TrainTask& task);
  void (*forward)(const ForwardTask& task);
  void (*grad_input)(const GradInputTask& task);
  void (*grad_weight)(const GradWeightTask& task);
  void (*topk)(const TopkTask& task);
  // The floats that n codes stand for.
  void (*widen)(Storage storage, const void* codes, std::int64_t n, float* out);
  // Rounds n values, the elements first, first + 1, ..., to the codes `out`.
  void (*round)(Storage storage, const float* values, std::uint64_t key, std::int64_t first, std::int64_t n, void* out);
};

#if defined(FANIN_X86)
const KernelTable& avx512_kernels();
const KernelTable& avx2_kernels();
#endif
const KernelTable& portable_kernels();

// Widest vector of any instruction set, in floats: paddings are multiples of it.
constexpr std::int64_t kMaxLanes = 16;

// Largest number of rows in a tile.
constexpr std::int64_t kMaxTileRows = 64;

}  // namespace fanin
