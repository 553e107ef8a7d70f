#include "fanin/operations.h"

#include <vector>

#include "fanin/instruction_set.h"
#include "parts.h"
#include "positives.h"
#include "shared_gradient.h"

namespace fanin {

void forward(const Layer& layer, const float* x, std::int64_t rows, const SharedScores& shared, float* logits,
             int threads) {
  const Tiling tiling = choose_tiling(rows, layer.inputs, 1);
  const Buffer packed = pack(layer, tiling, x, threads);
  const Ranges ranges(layer, tiling, threads, shared);
  run_parts(ranges.parts(), [&](int part) { kernels().forward({ranges[part], packed.data(), logits}); });
}

void grad_input(const Layer& layer, const float* grad, std::int64_t rows, float* dx, int threads) {
  const Tiling tiling = choose_tiling(rows, layer.inputs, 1);
  const Ranges ranges(layer, tiling, threads);
  InputGradients gradients(layer, tiling, ranges.parts());
  run_parts(ranges.parts(), [&](int part) { kernels().grad_input({ranges[part], grad, gradients.zeroed(part)}); });
  gradients.sum(1.0f, dx, threads);
}

void grad_weight(const Layer& layer, const float* grad, const float* x, std::int64_t rows, float* dw, int threads) {
  const Tiling tiling = choose_tiling(rows, layer.inputs, 1);
  const Buffer packed = pack(layer, tiling, x, threads);
  const Ranges ranges(layer, tiling, threads);
  run_parts(ranges.parts(), [&](int part) { kernels().grad_weight({ranges[part], packed.data(), grad, dw}); });
}

double train_step(const Layer& layer, const Moments& moments, const float* x, std::int64_t rows, const Csr& positives,
                  Loss loss, const UpdateRule& update, float scale, const SharedScores& shared, float* dx,
                  float* shared_grad, int threads) {
  const std::vector<LabelRow> pairs = sorted_by_label(positives, rows, layer.labels);
  const Tiling tiling = choose_tiling(rows, touched_inputs(layer), 2);
  const Buffer packed = pack(layer, tiling, x, threads);
  const std::vector<std::uint8_t> active = active_inputs(layer, tiling, packed.data(), threads);
  const Ranges ranges(layer, tiling, threads, shared, active.empty() ? nullptr : active.data());
  InputGradients gradients(layer, tiling, ranges.parts());
  const SharedGradients shared_gradients(shared, ranges, shared_grad);
  std::vector<double> sums(static_cast<std::size_t>(ranges.parts()));
  run_parts(ranges.parts(), [&](int part) {
    TrainTask task{ranges[part], packed.data(), gradients.zeroed(part), shared_gradients[part],
                   pairs.data(), pairs.data() + pairs.size(), loss, scale, update, moments, 0.0};
    kernels().train(task);
    sums[static_cast<std::size_t>(part)] = task.loss_sum;
  });
  gradients.sum(scale, dx, threads);
  shared_gradients.join();
  double total = 0.0;
  for (const double sum : sums) total += sum;
  return static_cast<double>(scale) * total;
}

namespace {

// Fewer values than this are converted by one thread: starting another takes longer.
int converting_threads(std::int64_t n, int threads) { return n < (std::int64_t{1} << 16) ? 1 : threads; }

}  // namespace

void widen_into(const void* codes, std::int64_t n, Storage storage, float* out, int threads) {
  const int parts = converting_threads(n, threads);
  run_parts(parts, [&](int part) {
    const Share range = share(n, part, parts);
    kernels().widen(storage, static_cast<const std::uint8_t*>(codes) + range.first * bytes_of(storage),
                    range.end - range.first, out + range.first);
  });
}

void round_into(const float* values, std::int64_t n, Storage storage, std::uint64_t key, std::int64_t first, void* out,
                int threads) {
  const int parts = converting_threads(n, threads);
  run_parts(parts, [&](int part) {
    const Share range = share(n, part, parts);
    kernels().round(storage, values + range.first, key, first + range.first, range.end - range.first,
                    static_cast<std::uint8_t*>(out) + range.first * bytes_of(storage));
  });
}

}  // namespace fanin
