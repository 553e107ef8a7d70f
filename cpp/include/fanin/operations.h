// The operations of fanin/kernels/spec.py on plain arrays, spread over threads. Arguments are trusted to have the
// stated shapes and index values; pairs of labels and rows are checked.
#pragma once

#include <cstdint>

#include "fanin/layer.h"

namespace fanin {

// Relevant labels of a batch as CSR.
struct Csr {
  const std::int64_t* indptr;   // [B + 1]
  const std::int64_t* indices;  // [indptr[B]]
  std::int64_t entries;         // length of indices
  const float* weights = nullptr;  // [entries], null for 1 everywhere
  const float* margins = nullptr;  // [entries], null for 0 everywhere
};

void forward(const Layer& layer, const float* x, std::int64_t rows, const SharedScores& shared, float* logits,
             int threads);
void grad_input(const Layer& layer, const float* grad, std::int64_t rows, float* dx, int threads);
void grad_weight(const Layer& layer, const float* grad, const float* x, std::int64_t rows, float* dw, int threads);

// Returns scale * the sum of the losses; dx is [B, D], shared_grad [K, B], or null where nothing is shared.
// Throws std::invalid_argument where positives are not valid CSR with labels in [0, L).
double train_step(const Layer& layer, const Moments& moments, const float* x, std::int64_t rows, const Csr& positives,
                  Loss loss, const UpdateRule& update, float scale, const SharedScores& shared, float* dx,
                  float* shared_grad, int threads);

// scores [B, k] and labels [B, k]; exclude may be null. Throws as train_step does.
void topk(const Layer& layer, const float* x, std::int64_t rows, const SharedScores& shared, std::int64_t k,
          const Csr* exclude, float* scores, std::int64_t* labels, int threads);

// Draws index sets [S, F] of uint16_t, or int32_t where wide; the same as drawing.draw_subset in Python for the sets
// first_set, first_set + 1, ...
void draw_index(std::int64_t sets, std::int64_t first_set, std::int64_t fan_in, std::int64_t inputs, std::uint64_t seed,
                bool wide, void* index, int threads);

// The floats that n codes stand for, uint16_t codes of bfloat16 or uint8_t codes of float8.
void widen_into(const void* codes, std::int64_t n, Storage storage, float* out, int threads);

// Rounds n values stochastically to out, uint16_t codes of bfloat16 or uint8_t codes of float8. They are the elements
// first, first + 1, ...; key is mix_seed(seed, step) of fanin/kernels/drawing.py.
void round_into(const float* values, std::int64_t n, Storage storage, std::uint64_t key, std::int64_t first, void* out,
                int threads);

// Replaces at most `limit` slots of each set, those with the smallest scores below the threshold, by unused ones of the
// first `inputs` inputs, and zeroes their weights and moments. replaced is [S].
void rewire(const Layer& layer, const Moments& moments, std::int64_t limit, double threshold, std::uint64_t seed,
            std::int64_t inputs, std::int32_t* replaced, int threads);

}  // namespace fanin
