"""What speaks against an estimate of the noise: where the model of a camera does not hold.

An estimate can be precise and wrong. Most of all where neighbours share their noise: an image that
was shifted by half a pixel shows a tenth of the gain it had, with points that lie on a line as if
drawn with a ruler.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from denoise5d.noise import NoiseEstimate
from denoise5d.noise_cells import Cells, Floats, Residual, Samples
from denoise5d.noise_line import CUT_CELL

_SHARED = 1.5
"""Roughness over variance; 1 for white noise, above 2 after any interpolation."""

_BINS = 8
"""Parts of the cells by their mean; the one with the least structure counts."""

_PATTERN = 1.3
"""Variance of the mean of planes over that of independent planes, in a quarter of the cells."""

_MIN_PLANES = 8
_SIDE = 16
"""Pixels of a cell along Y and X in which a fixed pattern is looked for."""

_NEAR = 8
"""Standard deviations of noise within which the smallest value is a clipped black level."""

_FEW_CELLS, _VAGUE, _SCATTER = 300, 0.2, 0.2


def doubts(estimate: NoiseEstimate, samples: Sequence[Samples]) -> list[str]:
    """Return what speaks against an estimate, a sentence or two each; empty if nothing does.

    Parameters
    ----------
    estimate : NoiseEstimate
        As `estimate_channel` gave it.
    samples : sequence of ndarray, 4-D TZYX
        What it was given.
    """
    return [*_clipped(estimate, samples), *_correlated(estimate, samples), *_weak(estimate)]


def _clipped(estimate: NoiseEstimate, samples: Sequence[Samples]) -> list[str]:
    """Look for cells without noise, or with a part of it."""
    cells, model = estimate.sampled, estimate.model
    floor = min(float(sample.min()) for sample in samples)
    ceiling = max(float(sample.max()) for sample in samples)
    constant = cells.variance == 0
    low, high = ((share > CUT_CELL) & ~constant for share in (cells.low, cells.high))
    dark = float(estimate.means.min())
    variance = float(model.variance(dark))
    counts = abs(model.gain * floor + model.offset) < 0.25 * variance  # photons, no black level
    near = dark - floor < _NEAR * sqrt(variance)  # else it is the rim of a masked region
    found = []
    if constant.any():
        found.append(
            f"{_percent(constant)} of the cells hold one value only, as stitching, cropping or "
            f"masking leave it. They are left out here; a run denoises them like all others."
        )
    if low.any() and near and not counts:
        found.append(
            f"The black level is clipped: {_percent(low)} of the cells have voxels at the "
            f"smallest value, {floor:g}. They are left out here; in a run the dark comes out too "
            f"bright, since half of its noise is missing. Raise the camera's offset next time."
        )
    if high.any():
        found.append(
            f"Saturated: {_percent(high)} of the cells have voxels at the largest value, "
            f"{ceiling:g}. They are left out here, and no denoising brings back what is cut off."
        )
    return found


def _correlated(estimate: NoiseEstimate, samples: Sequence[Samples]) -> list[str]:
    """Look for noise that voxels share: with their neighbours, or with other planes."""
    found = []
    shared = shared_noise(estimate.sampled)
    if shared > _SHARED:
        found.append(
            f"Neighbours share their noise (at half the size there is {shared:.1f} times what "
            f"white noise leaves): the image was resampled, fused, smoothed, deconvolved or "
            f"compressed, and less noise is found than there is. Denoise the raw data, or give "
            f"the numbers of the camera."
        )
    pattern = fixed_pattern(samples)
    if pattern is not None and pattern > _PATTERN:
        found.append(
            f"A fixed pattern: the mean of all planes is {pattern:.1f} times as noisy as "
            f"independent noise would leave it, so pixels or columns differ in offset or gain. "
            f"It stays in the result as structure: subtract a dark image first."
        )
    return found


def _weak(estimate: NoiseEstimate) -> list[str]:
    """Look for a fit that says little."""
    found, model = [], estimate.model
    if estimate.cells < _FEW_CELLS:
        found.append(
            f"The fit rests on {estimate.cells} cells only: the image is small, or "
            f"full of structure."
        )
    if model.gain == 0:
        found.append(
            "No gain is to be seen: the noise is taken to be the same everywhere. A camera's has "
            "a gain; to see it, the image must have darker and brighter places."
        )
    elif 2 * estimate.gain_error > _VAGUE * model.gain:
        found.append(
            f"The gain is known to within {200 * estimate.gain_error / model.gain:.0f} % only: "
            f"there are few grey levels to tell it from."
        )
    if estimate.scatter > _SCATTER:
        found.append(
            f"The points lie {100 * estimate.scatter:.0f} % off the line: the variance does not "
            f"follow the mean as a camera's does, or structure hides it."
        )
    return found


def cut_off(samples: Sequence[Samples]) -> str:
    """Say how many voxels lie at the ends of the grey levels, which may leave no noise to estimate.

    Empty if they are few, or all voxels have one value.
    """
    floor = min(float(sample.min()) for sample in samples)
    ceiling = max(float(sample.max()) for sample in samples)
    total = sum(sample.size for sample in samples)
    if floor == ceiling:
        return ""
    causes = (
        (floor, "smallest", "a black level that is clipped, or masked or stitched regions"),
        (ceiling, "largest", "saturation"),
    )
    found = []
    for value, end, cause in causes:
        share = sum(np.count_nonzero(sample == value) for sample in samples) / total
        if share > CUT_CELL:
            found.append(
                f"{100 * share:.0f} % of the voxels have the {end} value, {value:g}: {cause}"
            )
    return "; ".join(found)


def shared_noise(cells: Cells) -> float:
    """Return how much more noise there is at half the size than white noise would leave, about 1.

    Structure makes cells rougher, too. So the smallest ratio counts, of parts by the mean.
    """
    sound = (cells.variance > 0) & (cells.low <= CUT_CELL) & (cells.high <= CUT_CELL)
    rough, variance = (column[sound] for column in (cells.rough, cells.variance))
    if rough.size < _BINS:
        return 1.0
    parts = np.array_split(np.argsort(cells.mean[sound]), _BINS)
    return min(float(np.median(rough[part]) / np.median(variance[part])) for part in parts)


def fixed_pattern(samples: Sequence[Samples]) -> float | None:
    """Return how much noise the mean of all planes has, over what independent planes leave.

    About 1 without a pattern. Differences along Y and X, of both or one (a pattern of rows or
    columns has no others), are free of what optics has blurred; the lower quartile of all cells is
    free of the rest, but for structure everywhere that is as fine as pixels and never changes.

    Returns
    -------
    float or None
        None with fewer than 8 planes in T and Z, or hardly a cell.
    """
    shape = [min(lengths) for lengths in zip(*(s.shape for s in samples), strict=True)]
    if shape[0] * shape[1] < _MIN_PLANES or min(shape[2:]) < 2 * _SIDE:
        return None
    orders = ((0, 0, 0, 4), (0, 0, 4, 0), (0, 0, 2, 2))
    found = [np.concatenate([_ratios(s, order) for s in samples]) for order in orders]
    return max(float(np.quantile(ratios, 0.25)) for ratios in found if ratios.size)


def _ratios(sample: Samples, orders: tuple[int, int, int, int]) -> Floats:
    """Return, for each cell, the variance of the planes' mean over that of independent planes."""
    residual = Residual(orders, (1, 1, _SIDE, _SIDE))
    total: Floats = np.zeros([n - o for n, o in zip(sample.shape, orders, strict=True)][2:])
    square = np.zeros_like(total)
    for t, z in np.ndindex(sample.shape[:2]):  # plane by plane: no copy of the whole
        plane = sample[t : t + 1, z : z + 1].astype(np.float64)
        part = residual.differences(plane)[0, 0]
        total += part
        square += part**2
    above, below = _cell_means(total**2), _cell_means(square)
    ratios: Floats = above[below > 0] / below[below > 0]
    return ratios


def _cell_means(plane: Samples) -> Floats:
    y, x = (n // _SIDE for n in plane.shape)
    cells = plane[: y * _SIDE, : x * _SIDE].reshape(y, _SIDE, x, _SIDE)
    means: Floats = cells.mean(axis=(1, 3), dtype=np.float64).ravel()
    return means


def _percent(chosen: NDArray[np.bool_]) -> str:
    share = float(np.mean(chosen))
    return "under 0.1 %" if share < 0.001 else f"{100 * share:.1f} %"
