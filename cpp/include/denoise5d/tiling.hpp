// How a box is cut into tiles, and the parallel loop over them.
#pragma once

#include "denoise5d/denoise.hpp"
#include "denoise5d/types.hpp"

#include <functional>

namespace denoise5d {

// What it takes to do a tile.
struct TileWork {
    Index window;
    Index patch;
    int guides; // arrays with a margin
    int sums;   // arrays of planes with a margin in y and x
};

// The tile sizes that do the least work within the scratch memory, with enough tiles for all
// threads. The choice never changes a bit of the result.
Index choose_tile(const Index& shape, const TileWork& work, int threads);

// Floats of scratch for a tile of `size`.
std::size_t tile_floats(const Index& size, const TileWork& work);

// Planes of patch sums that have to be kept until those around them have been done.
std::ptrdiff_t kept_planes(const Index& size, const TileWork& work);

// Calls `work(scratch, i)` for i = 0 .. count - 1 from all threads, each with scratch memory of its
// own; polls `execution.interrupted` in between and throws Interrupted.
void for_each_index(std::ptrdiff_t count, std::size_t scratch_floats, const Execution& execution,
                    const std::function<void(float*, std::ptrdiff_t)>& work);

// The same for every tile of `region`.
void for_each_tile(const Box& region, const Index& tile, std::size_t scratch_floats,
                   const Execution& execution, const std::function<void(float*, const Box&)>& work);

} // namespace denoise5d
