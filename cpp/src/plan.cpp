#include "plan.h"

#include <algorithm>

#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

namespace fanin {

namespace {

std::int64_t round_up(std::int64_t n, std::int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

struct Sizes {
  std::int64_t logits, weight, weight_grad, bias_grad, inputs_by_row, active;
};

Sizes sizes(const Layer& layer, const Tiling& tiling, std::int64_t sets_per_block) {
  const std::int64_t labels = sets_per_block * layer.group;
  const std::int64_t fan_in = round_up(layer.fan_in, kMaxLanes);
  const bool groups = layer.group > 1;
  return {std::max(layer.group, kMaxLanes) * tiling.tile_rows,
          layer.storage == Storage::fp32 ? 0 : round_up(labels * layer.fan_in, kMaxLanes),
          labels * fan_in,
          round_up(labels, kMaxLanes),
          groups ? tiling.tile_rows * fan_in : 0,
          skips_inputs(layer) ? fan_in : 0};
}

}  // namespace

std::int64_t level2_cache_bytes() {
#if defined(_SC_LEVEL2_CACHE_SIZE)
  const long reported = sysconf(_SC_LEVEL2_CACHE_SIZE);
  if (reported >= 128 * 1024) return reported;
#endif
  return std::int64_t{1} << 20;
}

Tiling choose_tiling(std::int64_t rows, std::int64_t inputs, int arrays) {
  static const std::int64_t cache = level2_cache_bytes();
  std::int64_t best = 16;
  std::int64_t best_cost = 0;
  for (const std::int64_t tile : {std::int64_t{16}, std::int64_t{32}, kMaxTileRows}) {
    if (tile > 16 && arrays * inputs * tile * std::int64_t{sizeof(float)} > cache * 3 / 4) break;
    // Work grows with the rows, padding included; each visit of a set costs about as much as 8 rows on top.
    const std::int64_t cost = round_up(rows, tile) / tile * (tile + 8);
    if (best_cost == 0 || cost <= best_cost) {
      best = tile;
      best_cost = cost;
    }
  }
  return {rows, best, std::max<std::int64_t>(1, (rows + best - 1) / best)};  // an empty batch is one tile of padding
}

std::int64_t touched_inputs(const Layer& layer) {
  constexpr std::int64_t kTouchedShare = 4;  // one in so many, as texts of some ten words have it in tiles of 64
  return layer.dense_inputs + (layer.inputs - layer.dense_inputs + kTouchedShare - 1) / kTouchedShare;
}

bool skips_inputs(const Layer& layer) { return layer.dense_inputs < layer.inputs && layer.group == 1; }

std::int64_t choose_sets_per_block(const Layer& layer, const Tiling& tiling) {
  const std::int64_t set_bytes =
      layer.group * round_up(layer.fan_in, kMaxLanes) * static_cast<std::int64_t>(sizeof(float));
  const std::int64_t tile_bytes = 2 * touched_inputs(layer) * tiling.tile_rows * static_cast<std::int64_t>(sizeof(float));
  const bool tiles_stay = tile_bytes * tiling.tiles <= level2_cache_bytes();
  const std::int64_t budget =
      tiling.tiles == 1 || tiles_stay ? 16 * 1024 : std::max<std::int64_t>(tile_bytes, 256 * 1024);
  return std::min(std::max<std::int64_t>(1, budget / set_bytes), std::max<std::int64_t>(1, layer.sets));
}

std::int64_t scratch_floats(const Layer& layer, const Tiling& tiling, std::int64_t sets_per_block) {
  const Sizes s = sizes(layer, tiling, sets_per_block);
  return s.logits + s.weight + s.weight_grad + s.bias_grad + s.inputs_by_row + 2 * s.active;
}

Scratch place_scratch(const Layer& layer, const Tiling& tiling, std::int64_t sets_per_block, float* memory) {
  const Sizes s = sizes(layer, tiling, sets_per_block);
  Scratch scratch{};
  const auto take = [&memory](std::int64_t floats) {
    float* start = memory;
    memory += floats;
    return start;
  };
  scratch.logits = take(s.logits);
  scratch.weight = take(s.weight);
  scratch.inputs_by_row = take(s.inputs_by_row);
  scratch.weight_grad = take(s.weight_grad);
  scratch.bias_grad = take(s.bias_grad);
  scratch.active_weight = take(s.active);
  scratch.active_grad = take(s.active);
  return scratch;
}

}  // namespace fanin
