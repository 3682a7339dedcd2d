// The inner loops of the ridge stage; compiled like loops.cpp, under the same rules.
//
// Sums run over fixed lanes whatever the instruction set: what is one vector to AVX-512 are two or
// four to the others, and every lane gets the same bits.
#include "denoise5d/tile.hpp"
#include "vectors.hpp"

namespace denoise5d::DENOISE5D_ISA {

void patch_distances(const SearchRow& row);
void estimate_group(const Group& group);
int select_least(const float* distances, int count, int most, int* chosen);

namespace {

using Eight [[gnu::vector_size(kPatchRow * sizeof(float))]] = float; // a row of a patch
using UnalignedEight
    [[gnu::vector_size(kPatchRow * sizeof(float)), gnu::aligned(alignof(float)), gnu::may_alias]] =
        float;
constexpr int kRows = 8 / kParts; // rows of 16 floats that are summed up in 8 registers

inline Eight load_row(const float* from) {
    return *reinterpret_cast<const UnalignedEight*>(from);
}
inline void store_row(const Eight& values, float* to) {
    *reinterpret_cast<UnalignedEight*>(to) = values;
}

// 1 for the lanes that belong to a row of the patch: rows are read and written eight at a time.
inline Eight row_mask(int width) {
    Eight mask{};
    for (int i = 0; i < kPatchRow; ++i) mask[i] = i < width ? 1.0F : 0.0F;
    return mask;
}

float sum_of(const Eight& lanes) {
    return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) +
           ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

float mean_of(const Group& group, const float* patch) {
    const Eight mask = row_mask(group.width);
    Eight sum{};
    for (int r = 0; r < group.rows; ++r) sum = sum + mask * load_row(patch + group.planes[r]);
    return sum_of(sum) / static_cast<float>(group.rows * group.width);
}

// The sum of squared deviations from `mean`.
float energy_of(const Group& group, const float* patch, float mean) {
    const Eight mask = row_mask(group.width);
    Eight sum{};
    for (int r = 0; r < group.rows; ++r) {
        const Eight deviation = mask * (load_row(patch + group.planes[r]) - mean);
        sum = sum + deviation * deviation;
    }
    return sum_of(sum);
}

template <int... Lanes> inline Eight shuffled(const Eight& a, const Eight& b) {
#ifdef __clang__
    return __builtin_shufflevector(a, b, Lanes...);
#else // GCC has that one from version 12 on only
    using Mask [[gnu::vector_size(kPatchRow * sizeof(int))]] = int;
    return __builtin_shuffle(a, b, Mask{Lanes...});
#endif
}

// Swaps rows and columns.
inline void transpose(Eight (&rows)[kPatchRow]) {
    Eight a[kPatchRow], b[kPatchRow];
    for (int i = 0; i < kPatchRow; i += 2) {
        a[i] = shuffled<0, 8, 2, 10, 4, 12, 6, 14>(rows[i], rows[i + 1]);
        a[i + 1] = shuffled<1, 9, 3, 11, 5, 13, 7, 15>(rows[i], rows[i + 1]);
    }
    for (int i = 0; i < kPatchRow; i += i % 2 == 0 ? 1 : 3) {
        b[i] = shuffled<0, 1, 8, 9, 4, 5, 12, 13>(a[i], a[i + 2]);
        b[i + 2] = shuffled<2, 3, 10, 11, 6, 7, 14, 15>(a[i], a[i + 2]);
    }
    for (int i = 0; i < kPatchRow / 2; ++i) {
        rows[i] = shuffled<0, 1, 2, 3, 8, 9, 10, 11>(b[i], b[i + 4]);
        rows[i + 4] = shuffled<4, 5, 6, 7, 12, 13, 14, 15>(b[i], b[i + 4]);
    }
}

// The pilot's patches, a column each; beyond the last one zeros.
[[gnu::noinline]] void gather_columns(const Group& group, float mean) {
    for (int j = 0; j < group.patch_lanes; j += kPatchRow) {
        const float* patches[kPatchRow];
        Eight there{};
        for (int i = 0; i < kPatchRow; ++i) {
            const bool found = j + i < group.patches;
            patches[i] = group.pilot + (found ? group.shifts[group.chosen[j + i]] : 0);
            there[i] = found ? 1.0F : 0.0F;
        }
        for (int r = 0; r < group.rows; ++r) {
            Eight rows[kPatchRow];
            for (int i = 0; i < kPatchRow; ++i)
                rows[i] = load_row(patches[i] + group.planes[r]) - mean;
            transpose(rows);
            float* column = group.columns + Size{r} * group.width * group.patch_lanes + j;
            for (int i = 0; i < group.width; ++i, column += group.patch_lanes)
                store_row(rows[i] * there, column);
        }
    }
}

// The patches of the data, a row each.
[[gnu::noinline]] void gather_rows(const Group& group, float mean) {
    const int voxels = group.rows * group.width;
    for (int j = 0; j < group.patches; ++j) {
        const float* patch = group.data + group.shifts[group.chosen[j]];
        float* side = group.sides + Size{j} * group.voxel_lanes;
        for (int r = 0; r < group.rows; ++r) // what is too much is overwritten by the next row
            store_row(load_row(patch + group.planes[r]) - mean, side + r * group.width);
        for (int i = voxels; i < group.voxel_lanes; ++i) side[i] = 0;
    }
}

// matrix = columns^T columns + voxels * I, by adding up a voxel's contribution to a few rows at a
// time. Only the columns from the diagonal on are right.
[[gnu::noinline]] void gram(const Group& group) {
    const int lanes = group.patch_lanes, voxels = group.rows * group.width;
    for (int i = 0; i < lanes; i += kRows) {
        for (int block = i / kLane * kLane; block < lanes; block += kLane) {
            Native sum[kRows][kParts] = {};
            const float* column = group.columns + block;
            const float* row = group.columns + i;
            for (int v = 0; v < voxels; ++v, column += lanes, row += lanes) {
#pragma GCC unroll 8
                for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
                    for (int b = 0; b < kParts; ++b)
                        sum[r][b] = sum[r][b] + row[r] * load(column + b * kNative);
            }
            for (int r = 0; r < kRows; ++r)
                for (int b = 0; b < kParts; ++b)
                    store(sum[r][b], group.matrix + Size{i + r} * lanes + block + b * kNative);
        }
    }
    for (int i = 0; i < lanes; ++i) group.matrix[Size{i} * lanes + i] += static_cast<float>(voxels);
}

// rows[i] -= sum of scales[j] * rows[j] over from <= j < to, for `Count` registers.
template <int Count>
inline void subtract_rows(float* rows, Size stride, int i, int from, int to, const float* scales,
                          Size scale_stride) {
    Native sum[Count];
#pragma GCC unroll 8
    for (int b = 0; b < Count; ++b) sum[b] = load(rows + i * stride + b * kNative);
    for (int j = from; j < to; ++j) {
        const float scale = scales[j * scale_stride];
        const float* row = rows + j * stride;
#pragma GCC unroll 8
        for (int b = 0; b < Count; ++b) sum[b] = sum[b] - scale * load(row + b * kNative);
    }
#pragma GCC unroll 8
    for (int b = 0; b < Count; ++b) store(sum[b], rows + i * stride + b * kNative);
}

// The same for any number of registers: as many at once as there are, or the sums would wait for
// themselves.
inline void subtract(float* rows, Size stride, int count, int i, int from, int to,
                     const float* scales, Size scale_stride) {
    for (; count >= 8; count -= 8, rows += 8 * kNative)
        subtract_rows<8>(rows, stride, i, from, to, scales, scale_stride);
    switch (count) {
    case 1: return subtract_rows<1>(rows, stride, i, from, to, scales, scale_stride);
    case 2: return subtract_rows<2>(rows, stride, i, from, to, scales, scale_stride);
    case 3: return subtract_rows<3>(rows, stride, i, from, to, scales, scale_stride);
    case 4: return subtract_rows<4>(rows, stride, i, from, to, scales, scale_stride);
    case 5: return subtract_rows<5>(rows, stride, i, from, to, scales, scale_stride);
    case 6: return subtract_rows<6>(rows, stride, i, from, to, scales, scale_stride);
    case 7: return subtract_rows<7>(rows, stride, i, from, to, scales, scale_stride);
    default: return;
    }
}

void scale_row(float* row, int count, float factor) {
    for (int b = 0; b < count; ++b) store(load(row + b * kNative) * factor, row + b * kNative);
}

// The Cholesky factor: matrix = U^T U, U in the upper triangle, its diagonal inverted.
[[gnu::noinline]] void factor(const Group& group) {
    const int lanes = group.patch_lanes;
    for (int i = 0; i < lanes; ++i) {
        const int first = i / kNative * kNative, count = (lanes - first) / kNative;
        float* const rows = group.matrix + first;
        subtract(rows, lanes, count, i, 0, i, group.matrix + i, lanes);
        float& pivot = group.matrix[Size{i} * lanes + i];
        const float inverse = 1.0F / __builtin_sqrtf(pivot);
        scale_row(rows + Size{i} * lanes, count, inverse);
        pivot = inverse;
    }
}

// theta = I - voxels * (U^T U)^-1, which is symmetric: the substitution in the identity with U^T
// from the top down, where a row ends at the diagonal, then with U from the bottom up.
[[gnu::noinline]] void solve(const Group& group) {
    const int lanes = group.patch_lanes;
    const float* const matrix = group.matrix;
    float* const theta = group.theta;
    for (int i = 0; i < lanes * lanes; ++i) theta[i] = 0;
    for (int i = 0; i < lanes; ++i) {
        const int count = i / kNative + 1;
        theta[Size{i} * lanes + i] = 1;
        subtract(theta, lanes, count, i, 0, i, matrix + i, lanes);
        scale_row(theta + Size{i} * lanes, count, matrix[Size{i} * lanes + i]);
    }
    for (int i = lanes - 1; i >= 0; --i) {
        subtract(theta, lanes, lanes / kNative, i, i + 1, lanes, matrix + Size{i} * lanes, 1);
        scale_row(theta + Size{i} * lanes, lanes / kNative, matrix[Size{i} * lanes + i]);
    }
    const auto voxels = static_cast<float>(group.rows * group.width);
    for (int i = 0; i < lanes; ++i)
        for (int j = 0; j < lanes; ++j) {
            float& value = theta[Size{i} * lanes + j];
            value = (i == j ? 1.0F : 0.0F) - voxels * value;
        }
}

// estimates = theta * sides, a few rows of 16 floats at a time. They take the columns' place.
[[gnu::noinline]] void multiply(const Group& group) {
    const int lanes = group.patch_lanes;
    for (int j = 0; j < group.patches; j += kRows) {
        for (int block = 0; block < group.voxel_lanes; block += kLane) {
            Native sum[kRows][kParts] = {};
            const float* side = group.sides + block;
            const float* factors = group.theta + j;
            for (int i = 0; i < group.patches; ++i, side += group.voxel_lanes, factors += lanes) {
#pragma GCC unroll 8
                for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
                    for (int b = 0; b < kParts; ++b)
                        sum[r][b] = sum[r][b] + factors[r] * load(side + b * kNative);
            }
            for (int r = 0; r < kRows; ++r)
                for (int b = 0; b < kParts; ++b)
                    store(sum[r][b],
                          group.columns + Size{j + r} * group.voxel_lanes + block + b * kNative);
        }
    }
}

// The sum of n squares, in 8 lanes; n is a multiple of 8.
float squared_norm(const float* values, int n) {
    Eight sum{};
    for (int i = 0; i < n; i += kPatchRow) {
        const Eight value = load_row(values + i);
        sum = sum + value * value;
    }
    return sum_of(sum);
}

// Adds the group's estimates to the sums of the voxels that they belong to.
[[gnu::noinline]] void scatter(const Group& group, float mean) {
    const Eight mask = row_mask(group.width);
    const float floor = 1.0F / static_cast<float>(group.patches);
    for (int j = 0; j < group.patches; ++j) {
        const float norm =
            squared_norm(group.theta + Size{j} * group.patch_lanes, group.patch_lanes);
        const Eight weight = mask * (1.0F / (norm + floor));
        const float* estimate = group.columns + Size{j} * group.voxel_lanes;
        const Size shift = group.shifts[group.chosen[j]];
        for (int r = 0; r < group.rows; ++r) {
            const Size at = shift + group.planes[r];
            const Eight values = load_row(estimate + r * group.width) + mean;
            store_row(load_row(group.sums + at) + weight * values, group.sums + at);
            store_row(load_row(group.totals + at) + weight, group.totals + at);
        }
    }
}

// The same for Theta = 0.
[[gnu::noinline]] void scatter_mean(const Group& group, float mean) {
    const Eight weight = row_mask(group.width) * static_cast<float>(group.patches);
    const Eight values = weight * mean;
    for (int j = 0; j < group.patches; ++j) {
        const Size shift = group.shifts[group.chosen[j]];
        for (int r = 0; r < group.rows; ++r) {
            const Size at = shift + group.planes[r];
            store_row(load_row(group.sums + at) + values, group.sums + at);
            store_row(load_row(group.totals + at) + weight, group.totals + at);
        }
    }
}

int count_below(const float* values, int count, float limit) {
    int below = 0;
#pragma omp simd reduction(+ : below)
    for (int i = 0; i < count; ++i) below += values[i] < limit ? 1 : 0;
    return below;
}

float from_bits(unsigned bits) {
    float value;
    __builtin_memcpy(&value, &bits, sizeof value);
    return value;
}

} // namespace

void patch_distances(const SearchRow& row) {
    constexpr int kAtOnce = 2;
    for (int x = 0; x < row.count; x += kAtOnce * kNative) {
        Native sum[kAtOnce] = {};
        for (int r = 0; r < row.rows; ++r) {
            const float* here = row.here + row.planes[r] + x;
            const float* there = row.there + row.planes[r] + x;
#pragma GCC unroll 2
            for (int b = 0; b < kAtOnce; ++b) {
                const Native difference = load(here + b * kNative) - load(there + b * kNative);
                sum[b] = sum[b] + difference * difference;
            }
        }
        for (int b = 0; b < kAtOnce; ++b) store(sum[b], row.column_sums + x + b * kNative);
    }
    float* out = row.distances;
    for (int i = 0; i < row.references; ++i, out += row.stride) {
        const float* columns = row.column_sums + (row.at[i] - row.first);
        float sum = columns[0];
        for (int k = 1; k < row.width; ++k) sum = sum + columns[k];
        *out = sum;
    }
}

// Distances are not negative, so that their bits are in their order: the largest limit that fewer
// than `most` of them lie below is found bit by bit.
int select_least(const float* distances, int count, int most, int* chosen) {
    constexpr unsigned kInfinity = 0x7f800000U;
    unsigned limit = 0;
    int ties = most; // how many are taken of those at the limit
    if (count_below(distances, count, from_bits(kInfinity)) <= most) {
        limit = kInfinity;
        ties = 0;
    } else {
        for (unsigned bit = 1U << 30; bit > 0; bit /= 2) {
            const int below = count_below(distances, count, from_bits(limit | bit));
            if (below > most) continue;
            limit |= bit;
            ties = most - below;
            if (ties == 0) break;
        }
    }
    const float value = from_bits(limit);
    int n = 0;
    for (int i = 0; i < count; ++i) {
        const bool tie = distances[i] == value && ties > 0;
        ties -= tie ? 1 : 0;
        if (distances[i] < value || tie) chosen[n++] = i;
    }
    return n;
}

void estimate_group(const Group& group) {
    const float* reference = group.pilot;
    const float mean = mean_of(group, reference);
    if (group.farthest <= group.flat && energy_of(group, reference, mean) <= group.flat)
        return scatter_mean(group, mean);
    gather_columns(group, mean);
    gather_rows(group, mean);
    gram(group);
    factor(group);
    solve(group);
    multiply(group);
    scatter(group, mean);
}

} // namespace denoise5d::DENOISE5D_ISA
