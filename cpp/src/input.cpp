#include "denoise5d/input.hpp"

#include <algorithm>
#include <cstdlib>

namespace denoise5d {
namespace {

std::ptrdiff_t mirrored(std::ptrdiff_t i, std::ptrdiff_t n) {
    if (n == 1) return 0;
    const auto period = 2 * (n - 1);
    i = std::abs(i) % period;
    return i < n ? i : period - i;
}

} // namespace

AxisMap::AxisMap(std::ptrdiff_t begin, std::ptrdiff_t count, std::ptrdiff_t low,
                 std::ptrdiff_t high, std::ptrdiff_t image)
    : index_(count) {
    for (std::ptrdiff_t i = 0; i < count; ++i)
        index_[i] = std::clamp(mirrored(begin + i, image), low, high - 1) - low;
    run_begin_ = std::clamp<std::ptrdiff_t>(low - begin, 0, count);
    run_end_ = std::clamp<std::ptrdiff_t>(high - begin, run_begin_, count);
}

} // namespace denoise5d
