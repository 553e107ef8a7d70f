// How a call is cut into tiles of rows and blocks of sets, and the scratch memory that takes.
#pragma once

#include <cstdint>

#include "fanin/kernel_table.h"
#include "fanin/layer.h"

namespace fanin {

// Bytes of second-level cache of one core; 1 MiB where the system does not say.
std::int64_t level2_cache_bytes();

// The rows of a tile: as many as let `arrays` packed tiles of D inputs stay in the second-level cache, and no more
// than the batch fills well.
Tiling choose_tiling(std::int64_t rows, std::int64_t inputs, int arrays);

// Inputs of a layer of which a tile holds values, about: dense ones and a share of the others.
std::int64_t touched_inputs(const Layer& layer);

// Whether inputs are skipped where a tile has nothing but zeros of them; groups read whole matrices and skip nothing.
bool skips_inputs(const Layer& layer);

// Sets whose weight gradients are held in scratch while all tiles pass over them. A tile that does not stay in the
// cache from block to block is paid for once a block: then the scratch grows to the size of the tile.
std::int64_t choose_sets_per_block(const Layer& layer, const Tiling& tiling);

// Floats of scratch memory that one thread needs; place() cuts it up.
std::int64_t scratch_floats(const Layer& layer, const Tiling& tiling, std::int64_t sets_per_block);
Scratch place_scratch(const Layer& layer, const Tiling& tiling, std::int64_t sets_per_block, float* memory);

}  // namespace fanin
