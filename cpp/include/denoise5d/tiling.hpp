// How a box is cut into tiles, and the parallel loop over them.
#pragma once

#include "denoise5d/denoise.hpp"
#include "denoise5d/types.hpp"

#include <functional>

namespace denoise5d {

// The tile sizes that do the least work within the scratch memory, with enough tiles for all
// threads. The choice never changes a bit of the result.
Index choose_tile(const Index& shape, const Index& window, const Index& patch, int threads);

// Floats of scratch for a tile of `size`.
std::size_t tile_floats(const Index& size, const Index& window, const Index& patch);

// Calls `work(scratch, i)` for i = 0 .. count - 1 from all threads, each with scratch memory of its
// own; polls `execution.interrupted` in between and throws Interrupted.
void for_each_index(std::ptrdiff_t count, std::size_t scratch_floats, const Execution& execution,
                    const std::function<void(float*, std::ptrdiff_t)>& work);

// The same for every tile of `region`.
void for_each_tile(const Box& region, const Index& tile, std::size_t scratch_floats,
                   const Execution& execution, const std::function<void(float*, const Box&)>& work);

} // namespace denoise5d
