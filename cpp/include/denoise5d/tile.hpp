// What the inner loops work on: raw pointers and integers, so that the file that is compiled once
// for each instruction set instantiates nothing that the linker could share between them.
#pragma once

#include <cstddef>

namespace denoise5d {

// A tile of voxels with the margin that its estimates depend on. The arrays `guide`, `precision`
// and `data` hold size + 2 * margin voxels an axis (margin = window + 2 * patch), x contiguous.
struct Tile {
    int size[4];   // voxels to estimate
    int margin[4]; // voxels around them
    int patch[4];  // patch radius
    int window[4]; // search radius
    int low[4];    // where the image begins and ends, counted from the tile's first voxel:
    int high[4];   // patches are centred inside, and nothing outside is averaged

    const float *guide;     // the previous estimate: patches are compared on it
    const float *precision; // its 1 / variance; null where the variance is 1 everywhere
    const float *data;      // the stabilised data: these are averaged

    float slope; // weight = max(0, 1 - max(0, slope * Q - shift))^8
    float shift;

    float *weight_sum; // size voxels each: sum of w, of w * data, of w^2
    float *value_sum;
    float *square_sum;

    float *row; // scratch, see scratch_floats
    float *plane;
    float *boxed;
    float *votes;
};

// The functions that exist once for each instruction set.
struct Loops {
    const char *name;
    // Adds the votes of all pairs of patches in the window to the tile's sums.
    void (*vote)(const Tile &);
    // row = max(0, row * scale + offset) under the root, times `factor`.
    void (*stabilise)(float *row, std::ptrdiff_t n, float scale, float offset, float factor);
};

} // namespace denoise5d
