// The patch-based non-local estimator of Boulanger et al. (IEEE TMI 2010), offset by offset.
#pragma once

#include "denoise5d/denoise.hpp"
#include "denoise5d/stabilise.hpp"

#include <cstdint>
#include <memory>

namespace denoise5d {

// An estimate of the stabilised data on a box of the image.
struct Estimate {
    Box box;
    Index strides{};
    std::unique_ptr<float[]> mean; // with kLane floats more at its end, for vectors to read
    std::unique_ptr<std::uint16_t[]> variance; // in units of 1 / 65535: it never exceeds 1

    [[nodiscard]] std::ptrdiff_t at(std::ptrdiff_t t, std::ptrdiff_t z, std::ptrdiff_t y) const {
        return (t - box.start[0]) * strides[0] + (z - box.start[1]) * strides[1] +
               (y - box.start[2]) * strides[2] - box.start[3];
    }
};

// The stabilised data of `box` and `margin` voxels around it, mirrored at the image's border.
void load_stabilised(const Input& input, const BlockPlace& place, const Box& box,
                     const Index& margin, const Stabiliser& stabiliser, const Loops& loops,
                     float* out);

// Runs all iterations. For n = 1 .. N with windows W_n, from the guide u = Y and variance v = 1:
//
//   Q_d(x) = sum over the patch at x of (u(x) - u(x+d))^2 (1/v(x) + 1/v(x+d)) / 4
//   w_d(x) = max(0, 1 - max(0, Q / threshold - flat) / width)^8,       d in W_n
//   W_d(x) = sum of w_d over the patch at x       (every patch votes for all of its voxels)
//   u'(x)  = sum_d W_d Y(x+d) / sum_d W_d,        v'(x) = sum_d W_d^2 / (sum_d W_d)^2
//
// Q reads mirrored data beyond the image; patches are centred inside, and only data inside are
// averaged. A voxel takes u' where it lies in all earlier confidence intervals u +- rho sqrt(v)
// and v' < v; the first that does not stops the voxel (Lepski's rule). The result covers `target`.
Estimate run_safir(const Input& input, const BlockPlace& place, const Box& target,
                   const Stabiliser& stabiliser, const SafirParameters& parameters,
                   const Execution& execution);

// The voxels around a voxel that the iterations read.
Index safir_reach(const SafirParameters& parameters);

// Floats of scratch that each thread needs.
std::size_t safir_floats(const SafirParameters& parameters, const Index& shape);

} // namespace denoise5d
