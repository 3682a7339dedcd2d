// The inner loops. This file is compiled once for each instruction set, into a namespace of its
// own (DENOISE5D_ISA). It includes no standard header with templates: an inline function compiled
// here for AVX-512 must never be the one that the linker keeps for everybody.
//
// Every operation is element by element along x, in an order that is fixed for each voxel, without
// fused multiply-adds (-ffp-contract=off). So all instruction sets give the same bits, and so do
// all tilings.
#include "denoise5d/tile.hpp"

namespace denoise5d::DENOISE5D_ISA {
namespace {

using Size = std::ptrdiff_t;
constexpr int kMaxRows = 17 * 17; // patches of radius 8 in t and z

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
void sum_rows(float* __restrict out, const float* const* rows, int count, Size n) {
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

// out[i] = in[i] + ... + in[i + 2 * radius].
void box_along_x(float* __restrict out, const float* in, int radius, Size n) {
    const float* rows[kMaxRows];
    for (int k = 0; k <= 2 * radius; ++k) rows[k] = in + k;
    sum_rows(out, rows, 2 * radius + 1, n);
}

// The same along y, for rows of `n` that lie one after the other.
void box_along_y(float* __restrict out, const float* in, int radius, int out_rows, Size n) {
    const float* rows[kMaxRows];
    for (int y = 0; y < out_rows; ++y) {
        for (int k = 0; k <= 2 * radius; ++k) rows[k] = in + (y + k) * n;
        sum_rows(out + y * n, rows, 2 * radius + 1, n);
    }
}

void distances(float* __restrict out, const float* a, const float* b, const float* precision_a,
               const float* precision_b, Size n) {
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
void weights(float* row, Size n, float slope, float shift) {
#pragma omp simd
    for (Size i = 0; i < n; ++i) {
        float excess = slope * row[i] - shift;
        excess = excess > 0.0F ? excess : 0.0F;
        float base = 1.0F - excess;
        base = base > 0.0F ? base : 0.0F;
        const float second = base * base;
        const float fourth = second * second;
        row[i] = fourth * fourth;
    }
}

void accumulate(float* __restrict weight_sum, float* __restrict value_sum,
                float* __restrict square_sum, const float* weight, const float* data, Size n) {
#pragma omp simd
    for (Size i = 0; i < n; ++i) {
        const float w = weight[i];
        weight_sum[i] = weight_sum[i] + w;
        value_sum[i] = value_sum[i] + w * data[i];
        square_sum[i] = square_sum[i] + w * w;
    }
}

// The patch comparison of one offset: everything is counted from the tile's first voxel.
//
//   votes      the voxels x whose pair (x, x + d) touches the tile:   [first, last)
//   centres    patch centres that vote for them: one patch radius more
//   distances  voxels of those patches:          two patch radii more
struct Pair {
    const Tile& tile;
    int d[4];
    int first[4], last[4];             // votes
    int valid_first[4], valid_last[4]; // centres that lie in the image with their partner

    Pair(const Tile& tile_, const int* offset) : tile(tile_) {
        for (int a = 0; a < 4; ++a) {
            d[a] = offset[a];
            first[a] = least(0, -d[a]);
            last[a] = tile.size[a] + most(0, -d[a]);
            valid_first[a] = most(tile.low[a], tile.low[a] - d[a]);
            valid_last[a] = least(tile.high[a], tile.high[a] - d[a]);
        }
    }

    int votes(int a) const { return last[a] - first[a]; }
    int centres(int a) const { return votes(a) + 2 * tile.patch[a]; }
    int cells(int a) const { return votes(a) + 4 * tile.patch[a]; }
    bool valid(int a, int i) const { return i >= valid_first[a] && i < valid_last[a]; }
    bool empty() const {
        for (int a = 0; a < 4; ++a)
            if (valid_first[a] >= valid_last[a]) return true;
        return false;
    }
};

Size position(const Tile& tile, int t, int z, int y, int x) {
    Size at = t + tile.margin[0];
    at = at * (tile.size[1] + 2 * tile.margin[1]) + (z + tile.margin[1]);
    at = at * (tile.size[2] + 2 * tile.margin[2]) + (y + tile.margin[2]);
    return at * (tile.size[3] + 2 * tile.margin[3]) + (x + tile.margin[3]);
}

// boxed[t][z][y][x]: squared differences summed over the patch in y and x.
void box_distances(const Pair& pair) {
    const Tile& tile = pair.tile;
    const int* p = tile.patch;
    const int rows = pair.cells(2), cells = pair.cells(3), width = pair.centres(3);
    const Size shift =
        position(tile, pair.d[0], pair.d[1], pair.d[2], pair.d[3]) - position(tile, 0, 0, 0, 0);
    float* out = tile.boxed;
    for (int t = 0; t < pair.cells(0); ++t) {
        for (int z = 0; z < pair.cells(1); ++z) {
            for (int y = 0; y < rows; ++y) {
                const Size at =
                    position(tile, pair.first[0] - 2 * p[0] + t, pair.first[1] - 2 * p[1] + z,
                             pair.first[2] - 2 * p[2] + y, pair.first[3] - 2 * p[3]);
                const float* precision = tile.precision ? tile.precision + at : nullptr;
                distances(tile.row, tile.guide + at, tile.guide + at + shift, precision,
                          precision ? precision + shift : nullptr, cells);
                box_along_x(tile.plane + Size{y} * width, tile.row, p[3], width);
            }
            box_along_y(out, tile.plane, p[2], pair.centres(2), width);
            out += Size{pair.centres(2)} * width;
        }
    }
}

// One row of weights, for the centres (t, z, y) counted from the first centre; false where no
// centre of the row may vote.
bool centre_row(const Pair& pair, int t, int z, int y) {
    const Tile& tile = pair.tile;
    const int* p = tile.patch;
    if (!pair.valid(2, pair.first[2] - p[2] + y)) return false;
    const int width = pair.centres(3);
    const float* rows[kMaxRows];
    int count = 0;
    for (int j = 0; j <= 2 * p[0]; ++j)
        for (int k = 0; k <= 2 * p[1]; ++k) {
            const Size plane = Size{t + j} * pair.cells(1) + (z + k);
            rows[count++] = tile.boxed + (plane * pair.centres(2) + y) * width;
        }
    sum_rows(tile.row, rows, count, width);
    weights(tile.row, width, tile.slope, tile.shift);
    const int begin = pair.first[3] - p[3];
    const int valid_begin = least(most(pair.valid_first[3] - begin, 0), width);
    const int valid_end = most(least(pair.valid_last[3] - begin, width), valid_begin);
    clear(tile.row, valid_begin);
    clear(tile.row + valid_end, width - valid_end);
    return true;
}

// votes[t][z][y][x]: the weights of the patches around, summed over the patch in y and x.
void box_weights(const Pair& pair) {
    const Tile& tile = pair.tile;
    const int* p = tile.patch;
    const int width = pair.votes(3), rows = pair.centres(2);
    float* out = tile.votes;
    for (int t = 0; t < pair.centres(0); ++t) {
        for (int z = 0; z < pair.centres(1); ++z) {
            const Size cells = Size{pair.votes(2)} * width;
            if (pair.valid(0, pair.first[0] - p[0] + t) &&
                pair.valid(1, pair.first[1] - p[1] + z)) {
                for (int y = 0; y < rows; ++y) {
                    float* row = tile.plane + Size{y} * width;
                    if (centre_row(pair, t, z, y))
                        box_along_x(row, tile.row, p[3], width);
                    else
                        clear(row, width);
                }
                box_along_y(out, tile.plane, p[2], pair.votes(2), width);
            } else {
                clear(out, cells);
            }
            out += cells;
        }
    }
}

bool inside(const int* size, int t, int z, int y) {
    return t >= 0 && t < size[0] && z >= 0 && z < size[1] && y >= 0 && y < size[2];
}

bool in_image(const Tile& tile, int t, int z, int y) {
    return t >= tile.low[0] && t < tile.high[0] && z >= tile.low[1] && z < tile.high[1] &&
           y >= tile.low[2] && y < tile.high[2];
}

// Adds `weight` * data at `source` to the sums at (t, z, y), where both lie inside. `weight[0]`
// belongs to the target x = begin, whose source is x + dx.
void add_row(const Tile& tile, int t, int z, int y, int begin, int end, const int* source, int dx,
             const float* weight) {
    if (!inside(tile.size, t, z, y) || !in_image(tile, source[0], source[1], source[2])) return;
    const int from = most(most(begin, 0), tile.low[3] - dx);
    const int to = least(least(end, tile.size[3]), tile.high[3] - dx);
    if (from >= to) return;
    const Size at = ((Size{t} * tile.size[1] + z) * tile.size[2] + y) * tile.size[3] + from;
    const float* data = tile.data + position(tile, source[0], source[1], source[2], from + dx);
    accumulate(tile.weight_sum + at, tile.value_sum + at, tile.square_sum + at,
               weight + (from - begin), data, to - from);
}

// The pair (x, x + d) serves both of its voxels: x gets the data of x + d, and x + d those of x.
void add_votes(const Pair& pair) {
    const Tile& tile = pair.tile;
    const int* p = tile.patch;
    const int* d = pair.d;
    const int width = pair.votes(3);
    const float* rows[kMaxRows];
    for (int t = pair.first[0]; t < pair.last[0]; ++t)
        for (int z = pair.first[1]; z < pair.last[1]; ++z)
            for (int y = pair.first[2]; y < pair.last[2]; ++y) {
                int count = 0;
                for (int j = 0; j <= 2 * p[0]; ++j)
                    for (int k = 0; k <= 2 * p[1]; ++k) {
                        const Size plane =
                            Size{t - pair.first[0] + j} * pair.centres(1) + (z - pair.first[1] + k);
                        rows[count++] =
                            tile.votes + (plane * pair.votes(2) + (y - pair.first[2])) * width;
                    }
                sum_rows(tile.row, rows, count, width);
                const int here[3] = {t, z, y};
                const int there[3] = {t + d[0], z + d[1], y + d[2]};
                add_row(tile, t, z, y, pair.first[3], pair.last[3], there, d[3], tile.row);
                add_row(tile, there[0], there[1], there[2], pair.first[3] + d[3],
                        pair.last[3] + d[3], here, -d[3], tile.row);
            }
}

// How many patch centres inside the image lie within a patch radius of `i`.
int centres_around(const Tile& tile, int a, int i) {
    return least(tile.high[a] - 1, i + tile.patch[a]) - most(tile.low[a], i - tile.patch[a]) + 1;
}

// The offset 0: every patch agrees with itself, with weight 1.
void add_own(const Tile& tile) {
    for (int t = 0; t < tile.size[0]; ++t)
        for (int z = 0; z < tile.size[1]; ++z)
            for (int y = 0; y < tile.size[2]; ++y) {
                const int around = centres_around(tile, 0, t) * centres_around(tile, 1, z) *
                                   centres_around(tile, 2, y);
                for (int x = 0; x < tile.size[3]; ++x)
                    tile.row[x] = static_cast<float>(around * centres_around(tile, 3, x));
                const int here[3] = {t, z, y};
                add_row(tile, t, z, y, 0, tile.size[3], here, 0, tile.row);
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
                    if (pair.empty()) continue;
                    box_distances(pair);
                    box_weights(pair);
                    add_votes(pair);
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
void solve_group(const Group& group);

extern const Loops loops;
const Loops loops = {DENOISE5D_ISA_NAME, vote, patch_distances, solve_group, stabilise};

} // namespace denoise5d::DENOISE5D_ISA
