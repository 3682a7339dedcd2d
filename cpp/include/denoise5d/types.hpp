// Plain values shared by the stages of the kernel. Axes are T, Z, Y, X throughout: channels are
// denoised one by one.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <stdexcept>
#include <vector>

namespace denoise5d {

inline constexpr int kAxes = 4;

using Index = std::array<std::ptrdiff_t, kAxes>;

// A half-open box of voxels.
struct Box {
    Index start{};
    Index stop{};

    [[nodiscard]] Index shape() const {
        Index n{};
        for (int a = 0; a < kAxes; ++a) n[a] = stop[a] - start[a];
        return n;
    }
    [[nodiscard]] std::size_t voxels() const {
        std::size_t product = 1;
        for (const auto n : shape()) product *= static_cast<std::size_t>(n);
        return product;
    }
};

// The box and `margin` voxels more on both sides, cut at `limit`.
inline Box grown(const Box& box, const Index& margin, const Box& limit) {
    Box result;
    for (int a = 0; a < kAxes; ++a) {
        result.start[a] = std::max(limit.start[a], box.start[a] - margin[a]);
        result.stop[a] = std::min(limit.stop[a], box.stop[a] + margin[a]);
    }
    return result;
}

// A 4-D array somewhere in memory; x is contiguous, the other axes have strides in elements.
template <class T> struct View {
    T* data = nullptr;
    Index strides{};

    [[nodiscard]] T* row(std::ptrdiff_t t, std::ptrdiff_t z, std::ptrdiff_t y) const {
        return data + t * strides[0] + z * strides[1] + y * strides[2];
    }
};

inline Index contiguous_strides(const Index& shape) {
    return {shape[1] * shape[2] * shape[3], shape[2] * shape[3], shape[3], 1};
}

// Var y = gain * E[y] + offset; gain 0 is Gaussian noise of variance `offset`. `read_noise` is the
// standard deviation of the signal-independent part in grey levels: it matters to the exact
// inverse at a few photons only.
struct NoiseModel {
    double gain = 0;
    double offset = 1;
    double read_noise = 0;
};

// Parameters of the SAFIR stage: see safir.hpp for the estimator.
struct SafirParameters {
    Index patch{};              // radius of a patch
    std::vector<Index> windows; // radius of the search window, an entry an iteration
    float threshold = 1;        // quantile of the patch distance under pure noise
};

// Parameters of the ridge stage: see ridge.hpp.
struct RidgeParameters {
    Index patch{};  // radius of a patch
    Index search{}; // how far similar patches are looked for
    Index stride{}; // of the lattice of reference patches; at most 2 * patch + 1
    int group = 32; // patches combined
    int rounds = 0; // how often; 0 leaves the pilot as it is
};

// What is computed: a SAFIR estimate, refined as often as `ridge.rounds` says.
struct Parameters {
    SafirParameters safir;
    RidgeParameters ridge;
};

// Where the block lies. All boxes are in voxels of the image.
struct BlockPlace {
    Index image_shape{};
    Box padded; // what the input array holds
    Box core;   // what the output array holds
};

// Thrown when the caller's `interrupted` said so.
struct Interrupted : std::runtime_error {
    Interrupted() : std::runtime_error("interrupted") {}
};

} // namespace denoise5d
