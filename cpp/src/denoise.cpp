#include "denoise5d/denoise.hpp"

#include "denoise5d/safir.hpp"
#include "denoise5d/stabilise.hpp"

#include <cmath>

namespace denoise5d {
namespace {

void refuse_non_finite(const Input &input, const Index &shape, const Execution &execution) {
    if (!input.may_be_non_finite) return;
    const AxisMap whole(0, shape[3], 0, shape[3], shape[3]);
    const auto rows = shape[0] * shape[1] * shape[2];
    std::ptrdiff_t count = 0, first = shape[3] * rows;
#pragma omp parallel num_threads(execution.threads) reduction(+ : count) reduction(min : first)
    {
        std::vector<float> row(static_cast<std::size_t>(shape[3]));
#pragma omp for
        for (std::ptrdiff_t i = 0; i < rows; ++i) {
            const auto y = i % shape[2], z = i / shape[2] % shape[1], t = i / shape[2] / shape[1];
            input.row(t, z, y, whole, row.data());
            for (std::ptrdiff_t x = 0; x < shape[3]; ++x)
                if (!std::isfinite(row[x])) {
                    ++count;
                    first = std::min(first, i * shape[3] + x);
                }
        }
    }
    if (count == 0) return;
    const auto x = first % shape[3], y = first / shape[3] % shape[2];
    const auto z = first / shape[3] / shape[2] % shape[1];
    throw NonFinite(static_cast<std::size_t>(count),
                    {first / shape[3] / shape[2] / shape[1], z, y, x});
}

void check(const BlockPlace &place, const NoiseModel &noise, const SafirParameters &safir) {
    const auto require = [](bool holds, const char *rule) {
        if (!holds) throw std::invalid_argument(rule);
    };
    for (int a = 0; a < kAxes; ++a) {
        const Box &padded = place.padded, &core = place.core;
        require(padded.start[a] >= 0 && padded.stop[a] <= place.image_shape[a],
                "the padded box must lie inside the image");
        require(core.start[a] >= padded.start[a] && core.stop[a] <= padded.stop[a],
                "the core must lie inside the padded box");
        require(core.start[a] < core.stop[a], "the core must not be empty");
        require(safir.patch[a] >= 0 && safir.patch[a] <= 8, "a patch radius must be 0 to 8");
        for (const auto &window : safir.windows)
            require(window[a] >= 0 && window[a] <= 64, "a window radius must be 0 to 64");
    }
    require(!safir.windows.empty(), "there must be at least one iteration");
    require(safir.threshold > 0, "the threshold must be positive");
    require(noise.gain >= 0, "the gain must not be negative");
    require(noise.gain > 0 || noise.offset > 0, "the variance of the noise must be positive");
    require(noise.read_noise >= 0, "the read noise must not be negative");
}

} // namespace

void denoise_channel(const Input &input, const BlockPlace &place, const NoiseModel &noise,
                     const SafirParameters &safir, const Execution &execution, View<float> out) {
    check(place, noise, safir);
    refuse_non_finite(input, place.padded.shape(), execution);
    const Stabiliser stabiliser(noise);
    const Estimate estimate = run_safir(input, place, place.core, stabiliser, safir, execution);
    const auto shape = place.core.shape();
    const auto rows = shape[0] * shape[1] * shape[2];
#pragma omp parallel for num_threads(execution.threads)
    for (std::ptrdiff_t i = 0; i < rows; ++i) {
        const float *from = estimate.mean.get() + i * shape[3];
        float *to = out.row(i / shape[2] / shape[1], i / shape[2] % shape[1], i % shape[2]);
        for (std::ptrdiff_t x = 0; x < shape[3]; ++x) to[x] = stabiliser.inverse(from[x]);
    }
}

} // namespace denoise5d
