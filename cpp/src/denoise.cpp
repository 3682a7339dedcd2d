#include "denoise5d/denoise.hpp"

#include "denoise5d/ridge.hpp"
#include "denoise5d/safir.hpp"
#include "denoise5d/stabilise.hpp"

#include <cmath>

namespace denoise5d {
namespace {

void refuse_non_finite(const Input& input, const Index& shape, const Execution& execution) {
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

void require(bool holds, const char* rule) {
    if (!holds) throw std::invalid_argument(rule);
}

void check_place(const BlockPlace& place) {
    for (int a = 0; a < kAxes; ++a) {
        const Box &padded = place.padded, &core = place.core;
        require(padded.start[a] >= 0 && padded.stop[a] <= place.image_shape[a],
                "the padded box must lie inside the image");
        require(core.start[a] >= padded.start[a] && core.stop[a] <= padded.stop[a],
                "the core must lie inside the padded box");
        require(core.start[a] < core.stop[a], "the core must not be empty");
    }
}

void check_noise(const NoiseModel& noise) {
    require(noise.gain >= 0, "the gain must not be negative");
    require(noise.gain > 0 || noise.offset > 0, "the variance of the noise must be positive");
    require(noise.read_noise >= 0, "the read noise must not be negative");
}

void check_parameters(const Parameters& parameters, const Index& image) {
    const auto& [safir, ridge] = parameters;
    require(!safir.windows.empty(), "there must be at least one iteration");
    require(safir.threshold > 0, "the threshold must be positive");
    require(ridge.rounds >= 0 && ridge.rounds <= 8, "there must be 0 to 8 rounds");
    require(ridge.rounds == 0 || (ridge.group >= 1 && ridge.group <= 256),
            "a group must be 1 to 256 patches");
    for (int a = 0; a < kAxes; ++a) {
        require(safir.patch[a] >= 0 && safir.patch[a] <= 8, "a patch radius must be 0 to 8");
        for (const auto& window : safir.windows)
            require(window[a] >= 0 && window[a] <= 64, "a window radius must be 0 to 64");
        if (ridge.rounds == 0) continue;
        require(ridge.patch[a] >= 0 && ridge.patch[a] <= 8, "a patch radius must be 0 to 8");
        require(a < 3 || 2 * ridge.patch[a] + 1 <= kPatchRow,
                "a patch of the refinement must not be longer than 8 voxels along x");
        require(2 * ridge.patch[a] < image[a], "a patch must fit into the image");
        require(ridge.search[a] >= 0 && ridge.search[a] <= 64, "a search radius must be 0 to 64");
        require(ridge.stride[a] >= 1 && ridge.stride[a] <= 2 * ridge.patch[a] + 1,
                "a stride must be 1 to the length of a patch: every voxel needs one");
    }
}

} // namespace

Index reach(const Parameters& parameters) {
    Index total = safir_reach(parameters.safir);
    const Index round = ridge_reach(parameters.ridge);
    for (int a = 0; a < kAxes; ++a) total[a] += parameters.ridge.rounds * round[a];
    return total;
}

std::size_t scratch_bytes(const Parameters& parameters, const Index& shape) {
    std::size_t floats = safir_floats(parameters.safir, shape);
    if (parameters.ridge.rounds > 0) floats = std::max(floats, ridge_floats(parameters.ridge));
    return floats * sizeof(float);
}

void denoise_channel(const Input& input, const BlockPlace& place, const NoiseModel& noise,
                     const Parameters& parameters, const Execution& execution, View<float> out) {
    check_place(place);
    check_noise(noise);
    check_parameters(parameters, place.image_shape);
    refuse_non_finite(input, place.padded.shape(), execution);
    const Stabiliser stabiliser(noise);
    const auto target_before = [&](int rounds) { // what so many rounds of refinement read
        Index margin = ridge_reach(parameters.ridge);
        for (auto& m : margin) m *= rounds;
        return grown(place.core, margin, place.padded);
    };
    const int rounds = parameters.ridge.rounds;
    Estimate estimate =
        run_safir(input, place, target_before(rounds), stabiliser, parameters.safir, execution);
    estimate.variance.reset();
    for (int left = rounds - 1; left >= 0; --left)
        estimate = run_ridge(input, place, target_before(left), estimate, stabiliser,
                             parameters.ridge, execution);
    const auto shape = place.core.shape();
    const auto rows = shape[0] * shape[1] * shape[2];
#pragma omp parallel for num_threads(execution.threads)
    for (std::ptrdiff_t i = 0; i < rows; ++i) {
        const float* from = estimate.mean.get() + i * shape[3];
        float* to = out.row(i / shape[2] / shape[1], i / shape[2] % shape[1], i % shape[2]);
        for (std::ptrdiff_t x = 0; x < shape[3]; ++x) to[x] = stabiliser.inverse(from[x]);
    }
}

} // namespace denoise5d
