// The widest vectors of the instruction set that this is compiled for; for the loops only, which
// are compiled once for each.
#pragma once

#include "denoise5d/tile.hpp"

namespace denoise5d::DENOISE5D_ISA {
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

} // namespace
} // namespace denoise5d::DENOISE5D_ISA
