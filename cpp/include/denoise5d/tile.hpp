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

    float slope; // weight = clamp(top - slope * Q, 0, 1)^8
    float top;

    // Sums of w, of w * data, of w^2 (null: not wanted) for the planes of the tile, each with its
    // margin in y and x.
    float* weight_sum;
    float* value_sum;
    float* square_sum;

    // Scratch: planes of y and x with their margin.
    float* plane;
    float* summed;
    float* distances; // `kept_planes` each
    float* votes;
};

inline constexpr int kLane = 16;

// Rows of patches are read and written so many voxels at a time; none may be longer.
inline constexpr int kPatchRow = 8;

// A row of reference patches and one offset: where their patches lie in the pilot, and where the
// squared distances go.
struct SearchRow {
    const float* here;            // the pilot at the first voxel of the first patch
    const float* there;           // the same, moved by the offset
    const std::ptrdiff_t* planes; // where each of the patch's rows begins, from `here`
    int rows;                     // rows of a patch: its height times its depth times its duration
    int width;                    // voxels of a patch along x
    int count;                    // voxels of a row that are needed
    int references;               // patches
    const int* at;                // where they begin along x, counted from
    int first;                    // that of `here`
    float* column_sums;           // count floats of scratch, rounded up to vectors
    float* distances;             // the squared distance of each reference,
    std::ptrdiff_t stride;        // so far apart
};

// A group of similar patches and what it takes to estimate them; lanes are multiples of kLane.
struct Group {
    int rows, width; // of a patch: n = rows * width voxels
    int patches;     // k
    int voxel_lanes; // n and k rounded up
    int patch_lanes;
    const std::ptrdiff_t* planes; // where each of a patch's rows begins, from its first voxel
    const std::ptrdiff_t* shifts; // from the reference patch to each candidate
    const int* chosen;            // the candidates that make the group
    float farthest;               // their largest squared distance
    float flat;                   // squared deviations up to this are noise: Theta is 0

    const float* pilot; // at the first voxel of the reference patch
    const float* data;
    float* sums; // estimates are added here, weighted
    float* totals;

    // Scratch.
    float* columns; // X: [n][patch_lanes], then the estimates: [patch_lanes][voxel_lanes]
    float* sides;   // Y^T: [patch_lanes][voxel_lanes]
    float* matrix;  // [patch_lanes][patch_lanes]
    float* theta;   // the same
};

// The functions that exist once for each instruction set.
struct Loops {
    const char* name;
    // Adds the votes of all pairs of patches in the window to the tile's sums.
    void (*vote)(const Tile&);
    void (*patch_distances)(const SearchRow&);
    // The numbers of the `most` least distances, or of all that are finite, in their order; of
    // equal ones the first. Returns how many there are.
    int (*select_least)(const float* distances, int count, int most, int* chosen);
    void (*estimate_group)(const Group&);
    // row = max(0, row * scale + offset) under the root, times `factor`.
    void (*stabilise)(float* row, std::ptrdiff_t n, float scale, float offset, float factor);
};

} // namespace denoise5d
