// The inner loops of the ridge stage; compiled like loops.cpp, under the same rules.
//
// Sums run over 16 lanes whatever the instruction set: what is one vector to AVX-512 are two or
// four to the others, and every lane gets the same bits.
#include "denoise5d/tile.hpp"

namespace denoise5d::DENOISE5D_ISA {

void patch_distances(const SearchRow& row);
void solve_group(const Group& group);

namespace {

using Size = std::ptrdiff_t;
#if defined(__AVX512F__)
constexpr int kNative = 16;
#elif defined(__AVX__)
constexpr int kNative = 8;
#else
constexpr int kNative = 4;
#endif
using Native [[gnu::vector_size(kNative * sizeof(float))]] = float;
using Unaligned
    [[gnu::vector_size(kNative * sizeof(float)), gnu::aligned(alignof(float)), gnu::may_alias]] =
        float;
constexpr int kParts = kLane / kNative; // registers for 16 floats

inline Native load(const float* from) {
    return *reinterpret_cast<const Unaligned*>(from);
}
inline void store(const Native& values, float* to) {
    *reinterpret_cast<Unaligned*>(to) = values;
}

// matrix = pilot^T pilot + voxels * I, by adding up a voxel's contribution to a few rows at a time.
// Only the columns from the diagonal on are right.
void gram(const Group& group) {
    constexpr int kRows = kLane / 8;
    const int lanes = group.patch_lanes;
    for (int i = 0; i < lanes; i += kRows) {
        for (int block = i / kLane * kLane; block < lanes; block += kLane) {
            Native sum[kRows][kParts] = {};
            const float* column = group.pilot + block;
            const float* row = group.pilot + i;
            for (int v = 0; v < group.voxels; ++v, column += lanes, row += lanes) {
#pragma GCC unroll 4
                for (int b = 0; b < kParts; ++b) {
                    const Native values = load(column + b * kNative);
#pragma GCC unroll 4
                    for (int r = 0; r < kRows; ++r) sum[r][b] = sum[r][b] + row[r] * values;
                }
            }
            for (int r = 0; r < kRows; ++r)
                for (int b = 0; b < kParts; ++b)
                    store(sum[r][b], group.matrix + Size{i + r} * lanes + block + b * kNative);
        }
    }
    for (int i = 0; i < lanes; ++i)
        group.matrix[Size{i} * lanes + i] += static_cast<float>(group.voxels);
}

// The Cholesky factor: matrix = U^T U, U in the upper triangle, its diagonal inverted.
void factor(const Group& group) {
    const int lanes = group.patch_lanes;
    for (int j = 0; j < lanes; ++j) {
        float* pivot = group.matrix + Size{j} * lanes;
        const float inverse = 1.0F / __builtin_sqrtf(pivot[j]);
        for (int x = j / kNative * kNative; x < lanes; x += kNative)
            store(load(pivot + x) * inverse, pivot + x);
        for (int i = j + 1; i < lanes; ++i) {
            float* target = group.matrix + Size{i} * lanes;
            const float scale = pivot[i];
            for (int x = i / kNative * kNative; x < lanes; x += kNative)
                store(load(target + x) - scale * load(pivot + x), target + x);
        }
        pivot[j] = inverse;
    }
}

// sides[i] = (sides[i] - sum of scales[j] * sides[j]) * inverse over from <= j < to, for `Count`
// registers of its columns.
template <int Count>
inline void solve_row(float* sides, Size stride, int i, int from, int to, const float* scales,
                      Size scale_stride, float inverse) {
    Native sum[Count];
#pragma GCC unroll 8
    for (int b = 0; b < Count; ++b) sum[b] = load(sides + i * stride + b * kNative);
    for (int j = from; j < to; ++j) {
        const float scale = scales[j * scale_stride];
        const float* row = sides + j * stride;
#pragma GCC unroll 8
        for (int b = 0; b < Count; ++b) sum[b] = sum[b] - scale * load(row + b * kNative);
    }
#pragma GCC unroll 8
    for (int b = 0; b < Count; ++b) store(sum[b] * inverse, sides + i * stride + b * kNative);
}

// The substitution with U^T from the top down, then with U from the bottom up.
template <int Count> void substitute(const Group& group, int column) {
    const int lanes = group.patch_lanes;
    const Size stride = group.voxel_lanes + lanes;
    const float* const matrix = group.matrix;
    float* const sides = group.sides + column;
    for (int i = 0; i < lanes; ++i)
        solve_row<Count>(sides, stride, i, 0, i, matrix + i, lanes, matrix[Size{i} * lanes + i]);
    for (int i = lanes - 1; i >= 0; --i)
        solve_row<Count>(sides, stride, i, i + 1, lanes, matrix + Size{i} * lanes, 1,
                         matrix[Size{i} * lanes + i]);
}

// The sum of n squares, 16 at a time and those in a fixed order; n is a multiple of 16.
float squared_norm(const float* values, int n) {
    float sums[kLane] = {};
    for (int block = 0; block < n; block += kLane)
        for (int i = 0; i < kLane; ++i) sums[i] = sums[i] + values[block + i] * values[block + i];
    for (int half = kLane / 2; half > 0; half /= 2)
        for (int i = 0; i < half; ++i) sums[i] = sums[i] + sums[i + half];
    return sums[0];
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
    for (int x = 0; x + row.width <= row.count; ++x) {
        float sum = row.column_sums[x];
        for (int k = 1; k < row.width; ++k) sum = sum + row.column_sums[x + k];
        row.box_sums[x] = sum;
    }
}

void solve_group(const Group& group) {
    const int lanes = group.patch_lanes, width = group.voxel_lanes + lanes;
    gram(group);
    factor(group);
    constexpr int kWide = 8; // registers; with a factor and a product they all fit
    int column = 0;
    for (; column + kWide * kNative <= width; column += kWide * kNative)
        substitute<kWide>(group, column);
    for (; column < width; column += kLane) substitute<kParts>(group, column);
    const auto voxels = static_cast<float>(group.voxels);
    const float floor = 1.0F / static_cast<float>(group.patches);
    for (int j = 0; j < group.patches; ++j) {
        float* inverse = group.sides + Size{j} * width + group.voxel_lanes; // row of Theta below
        for (int i = 0; i < lanes; ++i) inverse[i] = (i == j ? 1.0F : 0.0F) - voxels * inverse[i];
        group.weights[j] = 1.0F / (squared_norm(inverse, lanes) + floor);
    }
}

} // namespace denoise5d::DENOISE5D_ISA
