// The inner loops. This file is compiled once for each instruction set, into a namespace of its
// own (DENOISE5D_ISA). It includes no standard header with templates: an inline function compiled
// here for AVX-512 must never be the one that the linker keeps for everybody.
//
// Every operation is element by element along x, in an order that is fixed for each voxel, without
// fused multiply-adds (-ffp-contract=off). So all instruction sets give the same bits, and so do
// all tilings.
#include "denoise5d/tile.hpp"
#include "vectors.hpp"

namespace denoise5d::DENOISE5D_ISA {
namespace {

constexpr int kMaxRadius = 8; // of a patch

int least(int a, int b) {
    return a < b ? a : b;
}
int most(int a, int b) {
    return a > b ? a : b;
}

void clear(float* row, Size n) {
    for (Size i = 0; i < n; ++i) row[i] = 0;
}

template <int Count> void sum_fixed(float* __restrict out, const float* const* rows, Size n) {
    const float* r[Count];
    for (int k = 0; k < Count; ++k) r[k] = rows[k];
#pragma omp simd
    for (Size i = 0; i < n; ++i) {
        float sum = r[0][i];
        for (int k = 1; k < Count; ++k) sum = sum + r[k][i];
        out[i] = sum;
    }
}

// out = rows[0] + rows[1] + ..., from left to right.
[[gnu::noinline]] void sum_rows(float* __restrict out, const float* const* rows, int count,
                                Size n) {
    switch (count) {
    case 1: return sum_fixed<1>(out, rows, n);
    case 3: return sum_fixed<3>(out, rows, n);
    case 5: return sum_fixed<5>(out, rows, n);
    case 7: return sum_fixed<7>(out, rows, n);
    case 9: return sum_fixed<9>(out, rows, n);
    default: break;
    }
    sum_fixed<1>(out, rows, n);
    for (int k = 1; k < count; ++k) {
        const float* row = rows[k];
#pragma omp simd
        for (Size i = 0; i < n; ++i) out[i] = out[i] + row[i];
    }
}

// out[i] = in[i - radius * step] + ... + in[i + radius * step].
void box(float* __restrict out, const float* in, Size step, int radius, Size n) {
    const float* rows[2 * kMaxRadius + 1];
    for (int k = 0; k <= 2 * radius; ++k) rows[k] = in + (k - radius) * step;
    sum_rows(out, rows, 2 * radius + 1, n);
}

[[gnu::noinline]] void distances(float* __restrict out, const float* a, const float* b,
                                 const float* precision_a, const float* precision_b, Size n) {
    if (precision_a == nullptr) {
#pragma omp simd
        for (Size i = 0; i < n; ++i) {
            const float difference = a[i] - b[i];
            out[i] = 0.5F * (difference * difference);
        }
        return;
    }
#pragma omp simd
    for (Size i = 0; i < n; ++i) {
        const float difference = a[i] - b[i];
        out[i] = 0.25F * (difference * difference) * (precision_a[i] + precision_b[i]);
    }
}

// A decreasing function of the patch distance: an exponential in shape (its eighth root is
// linear), exactly 1 for distances that noise alone explains and exactly 0 from the cut-off on.
// Whole vectors, over the end of the row.
[[gnu::noinline]] void weights(float* row, Size n, float slope, float top) {
    const Native zero{}, one = zero + 1.0F;
    for (Size i = 0; i < n; i += kNative) {
        Native base = top - slope * load(row + i);
        base = base > zero ? base : zero;
        base = base < one ? base : one;
        const Native second = base * base;
        const Native fourth = second * second;
        store(fourth * fourth, row + i);
    }
}

[[gnu::noinline]] void accumulate(float* __restrict weight_sum, float* __restrict value_sum,
                                  float* __restrict square_sum, const float* weight,
                                  const float* data, Size n) {
    if (square_sum == nullptr) {
#pragma omp simd
        for (Size i = 0; i < n; ++i) {
            weight_sum[i] = weight_sum[i] + weight[i];
            value_sum[i] = value_sum[i] + weight[i] * data[i];
        }
        return;
    }
#pragma omp simd
    for (Size i = 0; i < n; ++i) {
        const float w = weight[i];
        weight_sum[i] = weight_sum[i] + w;
        value_sum[i] = value_sum[i] + w * data[i];
        square_sum[i] = square_sum[i] + w * w;
    }
}

// Voxels of an axis of the tile with its margin.
Size lines(const Tile& tile, int a) {
    return Size{tile.size[a]} + 2 * tile.margin[a];
}
Size plane_floats(const Tile& tile) {
    return lines(tile, 2) * lines(tile, 3);
}
// Where the plane (t, z) begins in the arrays with a margin, counted from the tile's first voxel.
Size position(const Tile& tile, int t, int z) {
    const Size at = (t + tile.margin[0]) * lines(tile, 1) + (z + tile.margin[1]);
    return at * plane_floats(tile);
}
Size in_plane(const Tile& tile, int y, int x) {
    return (y + tile.margin[2]) * lines(tile, 3) + (x + tile.margin[3]);
}
bool in_core(const Tile& tile, int t, int z) {
    return t >= 0 && t < tile.size[0] && z >= 0 && z < tile.size[1];
}

// A part of a plane in memory.
struct Stretch {
    Size from, count;
};

// Adds a plane of weights, and their data, to the sums of the plane `at`.
void add_plane(const Tile& tile, const int* at, const float* weight, const float* data) {
    const Size from = in_plane(tile, 0, 0);
    const Size count = in_plane(tile, tile.size[2] - 1, tile.size[3]) - from;
    const Size plane = (Size{at[0]} * tile.size[1] + at[1]) * plane_floats(tile) + from;
    accumulate(tile.weight_sum + plane, tile.value_sum + plane,
               tile.square_sum ? tile.square_sum + plane : nullptr, weight + from, data + from,
               count);
}

// The patch comparison of one offset: everything is counted from the tile's first voxel.
//
//   votes      the voxels x whose pair (x, x + d) touches the tile:   [first, last)
//   centres    patch centres that vote for them: one patch radius more
//   distances  voxels of those patches:          two patch radii more
//
// The planes of y and x are done one after the other, each as a single long row: what the sums
// along x and y make of the ends of its lines is never looked at.
struct Pair {
    const Tile& tile;
    int d[4];
    int first[4], last[4];             // votes
    int valid_first[4], valid_last[4]; // voxels that lie in the image with their partner
    Size pitch;
    Size shift; // of the partner in memory

    Pair(const Tile& tile_, const int* offset) : tile(tile_), pitch(lines(tile_, 3)), shift(0) {
        for (int a = 0; a < 4; ++a) {
            d[a] = offset[a];
            first[a] = least(0, -d[a]);
            last[a] = tile.size[a] + most(0, -d[a]);
            valid_first[a] = most(tile.low[a], tile.low[a] - d[a]);
            valid_last[a] = least(tile.high[a], tile.high[a] - d[a]);
            shift = shift * lines(tile, a) + d[a];
        }
    }

    int votes(int a) const { return last[a] - first[a]; }
    int cells(int a) const { return votes(a) + 4 * tile.patch[a]; }
    bool valid(int a, int i) const { return i >= valid_first[a] && i < valid_last[a]; }
    bool empty() const {
        for (int a = 0; a < 4; ++a)
            if (valid_first[a] >= valid_last[a]) return true;
        return false;
    }
    // The stretch of a plane that holds the votes and so many voxels more in y and x.
    Stretch stretch(int more_y, int more_x) const {
        const Size from = in_plane(tile, first[2] - more_y, first[3] - more_x);
        return {from, in_plane(tile, last[2] - 1 + more_y, last[3] + more_x) - from};
    }
    // Where the sums over patches of the plane (t, z) are kept, both counted from 0.
    Size slot(int t, int z) const {
        const int depth = 2 * tile.patch[1] + 1;
        const int at = tile.patch[0] == 0 ? z % depth : t % (2 * tile.patch[0] + 1) * cells(1) + z;
        return Size{at} * plane_floats(tile);
    }
};

// Clears what lies outside the image, or whose partner does, in the `more` wider box of the votes.
void clear_invalid(const Pair& pair, float* plane, const int* more) {
    const Tile& tile = pair.tile;
    const int begin = pair.first[3] - more[3], end = pair.last[3] + more[3];
    const int from = least(most(pair.valid_first[3], begin), end);
    const int to = most(least(pair.valid_last[3], end), from);
    for (int y = pair.first[2] - more[2]; y < pair.last[2] + more[2]; ++y) {
        if (pair.valid(2, y)) {
            clear(plane + in_plane(tile, y, begin), from - begin);
            clear(plane + in_plane(tile, y, to), end - to);
        } else {
            clear(plane + in_plane(tile, y, begin), end - begin);
        }
    }
}

// Sums up the planes (t .. t + 2 patch, z .. z + 2 patch) of `kept`.
void sum_planes(const Pair& pair, const float* kept, int t, int z, const Stretch& stretch,
                float* out) {
    const int* p = pair.tile.patch;
    const float* planes[(2 * kMaxRadius + 1) * (2 * kMaxRadius + 1)];
    int count = 0;
    for (int j = 0; j <= 2 * p[0]; ++j)
        for (int k = 0; k <= 2 * p[1]; ++k)
            planes[count++] = kept + pair.slot(t + j, z + k) + stretch.from;
    sum_rows(out + stretch.from, planes, count, stretch.count);
}

// The squared differences of the plane (t, z), summed over the patch in y and x.
void box_distances(const Pair& pair, int t, int z) {
    const Tile& tile = pair.tile;
    const int* p = tile.patch;
    const Size plane = position(tile, pair.first[0] - 2 * p[0] + t, pair.first[1] - 2 * p[1] + z);
    const Stretch cells = pair.stretch(2 * p[2], 2 * p[3]);
    const Size at = plane + cells.from;
    const float* precision = tile.precision ? tile.precision + at : nullptr;
    distances(tile.plane + cells.from, tile.guide + at, tile.guide + at + pair.shift, precision,
              precision ? precision + pair.shift : nullptr, cells.count);
    const Stretch rows = pair.stretch(2 * p[2], p[3]);
    box(tile.summed + rows.from, tile.plane + rows.from, 1, p[3], rows.count);
    const Stretch centres = pair.stretch(p[2], p[3]);
    box(tile.distances + pair.slot(t, z) + centres.from, tile.summed + centres.from, pair.pitch,
        p[2], centres.count);
}

// The weights of the patches centred in the plane (t, z), summed over the patch in y and x.
void box_weights(const Pair& pair, int t, int z) {
    const Tile& tile = pair.tile;
    const int* p = tile.patch;
    const Stretch votes = pair.stretch(0, 0);
    float* const out = tile.votes + pair.slot(t, z) + votes.from;
    if (!pair.valid(0, pair.first[0] - p[0] + t) || !pair.valid(1, pair.first[1] - p[1] + z))
        return clear(out, votes.count);
    const Stretch centres = pair.stretch(p[2], p[3]);
    sum_planes(pair, tile.distances, t, z, centres, tile.plane);
    weights(tile.plane + centres.from, centres.count, tile.slope, tile.top);
    clear_invalid(pair, tile.plane, p);
    const Stretch rows = pair.stretch(p[2], 0);
    box(tile.summed + rows.from, tile.plane + rows.from, 1, p[3], rows.count);
    box(out, tile.summed + votes.from, pair.pitch, p[2], votes.count);
}

// The pair (x, x + d) serves both of its voxels: x gets the data of x + d, and x + d those of x.
void add_votes(const Pair& pair, int t, int z) {
    const Tile& tile = pair.tile;
    const int here[2] = {pair.first[0] + t, pair.first[1] + z};
    const int there[2] = {here[0] + pair.d[0], here[1] + pair.d[1]};
    if (!pair.valid(0, here[0]) || !pair.valid(1, here[1])) return;
    const int none[4] = {};
    sum_planes(pair, tile.votes, t, z, pair.stretch(0, 0), tile.plane);
    clear_invalid(pair, tile.plane, none);
    const Size move = pair.d[2] * pair.pitch + pair.d[3];
    if (in_core(tile, here[0], here[1]))
        add_plane(tile, here, tile.plane, tile.data + position(tile, there[0], there[1]) + move);
    if (in_core(tile, there[0], there[1]))
        add_plane(tile, there, tile.plane - move,
                  tile.data + position(tile, here[0], here[1]) - move);
}

// All pairs of one offset. The sums over y and x of a plane are made once and kept until the
// planes around it have been done too.
void vote_offset(const Pair& pair) {
    const int* p = pair.tile.patch;
    for (int t = 0; t < pair.cells(0); ++t)
        for (int z = 0; z < pair.cells(1); ++z) {
            box_distances(pair, t, z);
            if (t < 2 * p[0] || z < 2 * p[1]) continue;
            box_weights(pair, t - 2 * p[0], z - 2 * p[1]);
            if (t < 4 * p[0] || z < 4 * p[1]) continue;
            add_votes(pair, t - 4 * p[0], z - 4 * p[1]);
        }
}

// How many patch centres inside the image lie within a patch radius of `i`.
int centres_around(const Tile& tile, int a, int i) {
    return least(tile.high[a] - 1, i + tile.patch[a]) - most(tile.low[a], i - tile.patch[a]) + 1;
}

// The offset 0: every patch agrees with itself, with weight 1.
void add_own(const Tile& tile) {
    for (int t = 0; t < tile.size[0]; ++t)
        for (int z = 0; z < tile.size[1]; ++z) {
            const int here[2] = {t, z};
            clear(tile.plane, plane_floats(tile));
            for (int y = 0; y < tile.size[2]; ++y) {
                const int around = centres_around(tile, 0, t) * centres_around(tile, 1, z) *
                                   centres_around(tile, 2, y);
                float* row = tile.plane + in_plane(tile, y, 0);
                for (int x = 0; x < tile.size[3]; ++x)
                    row[x] = static_cast<float>(around * centres_around(tile, 3, x));
            }
            add_plane(tile, here, tile.plane, tile.data + position(tile, t, z));
        }
}

bool forward(const int* d) {
    for (int a = 0; a < 4; ++a)
        if (d[a] != 0) return d[a] > 0;
    return false;
}

void vote(const Tile& tile) {
    add_own(tile);
    const int* w = tile.window;
    int d[4];
    for (d[0] = 0; d[0] <= w[0]; ++d[0])
        for (d[1] = -w[1]; d[1] <= w[1]; ++d[1])
            for (d[2] = -w[2]; d[2] <= w[2]; ++d[2])
                for (d[3] = -w[3]; d[3] <= w[3]; ++d[3]) {
                    if (!forward(d)) continue;
                    const Pair pair(tile, d);
                    if (!pair.empty()) vote_offset(pair);
                }
}

void stabilise(float* row, Size n, float scale, float offset, float factor) {
#pragma omp simd
    for (Size i = 0; i < n; ++i) {
        float inside = row[i] * scale + offset;
        inside = inside > 0.0F ? inside : 0.0F;
        row[i] = factor * __builtin_sqrtf(inside);
    }
}

} // namespace

// In ridge_loops.cpp.
void patch_distances(const SearchRow& row);
int select_least(const float* distances, int count, int most, int* chosen);
void estimate_group(const Group& group);

extern const Loops loops;
const Loops loops = {DENOISE5D_ISA_NAME, vote,           patch_distances,
                     select_least,       estimate_group, stabilise};

} // namespace denoise5d::DENOISE5D_ISA
