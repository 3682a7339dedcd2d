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

    const float* guide;     // the previous estimate: patches are compared on it
    const float* precision; // its 1 / variance; null where the variance is 1 everywhere
    const float* data;      // the stabilised data: these are averaged

    float slope; // weight = max(0, 1 - max(0, slope * Q - shift))^8
    float shift;

    float* weight_sum; // size voxels each: sum of w, of w * data, of w^2
    float* value_sum;
    float* square_sum;

    float* row; // scratch, see scratch_floats
    float* plane;
    float* boxed;
    float* votes;
};

// A row of reference patches and one offset: where their patches lie in the pilot, and where the
// squared distances go.
struct SearchRow {
    const float* here;            // the pilot at the first voxel of the first row of the patches
    const float* there;           // the same, moved by the offset
    const std::ptrdiff_t* planes; // where each of the patch's rows begins, from `here`
    int rows;                     // rows of a patch: its height times its depth times its duration
    int width;                    // voxels of a patch along x
    int count;                    // voxels of a row that are needed
    float* column_sums;           // count floats of scratch
    float* box_sums;              // count - width + 1 squared distances, one for each voxel along x
};

// A group of similar patches, laid out for the solver; lanes are multiples of kLane.
struct Group {
    int voxels;      // n: voxels of a patch
    int patches;     // k: patches found
    int voxel_lanes; // n and k rounded up
    int patch_lanes;
    float* pilot;   // X: [voxels][patch_lanes], zero from `patches` on
    float* sides;   // [patch_lanes][voxel_lanes + patch_lanes]: on entry the data Y^T and the
                    // identity; on return (X^T X + n I)^-1 Y^T, and in place of the identity Theta
    float* matrix;  // [patch_lanes][patch_lanes] of scratch
    float* weights; // [patch_lanes], on return
};

inline constexpr int kLane = 16;

// The functions that exist once for each instruction set.
struct Loops {
    const char* name;
    // Adds the votes of all pairs of patches in the window to the tile's sums.
    void (*vote)(const Tile&);
    void (*patch_distances)(const SearchRow&);
    void (*solve_group)(const Group&);
    // row = max(0, row * scale + offset) under the root, times `factor`.
    void (*stabilise)(float* row, std::ptrdiff_t n, float scale, float offset, float factor);
};

} // namespace denoise5d
