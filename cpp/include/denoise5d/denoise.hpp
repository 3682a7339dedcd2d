// The kernel's entry: one channel of one block.
#pragma once

#include "denoise5d/input.hpp"
#include "denoise5d/tile.hpp"
#include "denoise5d/types.hpp"

#include <functional>

namespace denoise5d {

// How to run, as opposed to what to compute: no bit of the result depends on it.
struct Execution {
    int threads = 1;
    const Loops* loops = nullptr;
    std::function<bool()> interrupted = [] { return false; }; // asked by the calling thread only
};

// Denoises `input` (the padded box) into `out` (the core), both in grey levels.
// Throws std::invalid_argument, NonFinite, Interrupted or std::bad_alloc.
void denoise_channel(const Input& input, const BlockPlace& place, const NoiseModel& noise,
                     const Parameters& parameters, const Execution& execution, View<float> out);

// The voxels around a core that its values depend on.
Index reach(const Parameters& parameters);

// Bytes that each thread needs besides the arrays of the block.
std::size_t scratch_bytes(const Parameters& parameters, const Index& shape);

} // namespace denoise5d
