// The refinement of a pilot by linear combinations of similar patches: NL-Ridge (Herbreteau &
// Kervrann 2022), of the laboratory that ND-SAFIR came from.
#pragma once

#include "denoise5d/denoise.hpp"
#include "denoise5d/safir.hpp"
#include "denoise5d/stabilise.hpp"

namespace denoise5d {

// Refines `pilot` once. For every reference patch, on a lattice anchored to the image, the `group`
// patches of the pilot that are most like it within `search` are the columns of X (n voxels each),
// and the data there the columns of Y; both less the mean m of the pilot's reference patch. Then
//
//   Theta = (X^T X + n I)^-1 X^T X = I - n (X^T X + n I)^-1,     estimate = m + Y Theta
//
// is the best linear combination of the noisy patches if the pilot is true (the noise has variance
// 1 here), and each patch is added back with weight 1 / (|column of Theta|^2 + 1 / group). The
// result covers `target`, which the pilot exceeds by 2 (search + patch) or the image's border.
Estimate run_ridge(const Input& input, const BlockPlace& place, const Box& target,
                   const Estimate& pilot, const Stabiliser& stabiliser,
                   const RidgeParameters& parameters, const Execution& execution);

// What one round reads around a voxel.
Index ridge_reach(const RidgeParameters& parameters);

// Floats of scratch that each thread needs.
std::size_t ridge_floats(const RidgeParameters& parameters);

} // namespace denoise5d
