"""What is measured of a result, given the truth: numbers and curves, no pictures.

Arrays are TCZYX with one channel unless said otherwise; results and truths in grey levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, maximum_filter

from cases import Noise

Array: TypeAlias = NDArray[Any]
Floats: TypeAlias = NDArray[np.float64]


def psnr(result: Array, truth: Array) -> float:
    """Return the peak signal-to-noise ratio in dB; the peak is the truth's range."""
    error = float(np.mean((result.astype(np.float64) - truth) ** 2))
    return float(10 * np.log10(_range(truth) ** 2 / error))


def ssim(result: Array, truth: Array) -> float:
    """Return the mean structural similarity of all planes.

    Wang et al. 2004: Gaussian window of 1.5 pixels cut off at 5, K 0.01 and 0.03.
    """
    x, y = result.astype(np.float64), truth.astype(np.float64)
    sigma = (0, 0, 0, 1.5, 1.5)

    def mean(a: Floats) -> Floats:
        return gaussian_filter(a, sigma, truncate=3.5)

    mx, my = mean(x), mean(y)
    vx, vy, both = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    c1, c2 = (0.01 * _range(truth)) ** 2, (0.03 * _range(truth)) ** 2
    similar = (2 * mx * my + c1) * (2 * both + c2)
    similar /= (mx * mx + my * my + c1) * (vx + vy + c2)
    inner = [slice(5, -5) if n > 10 else slice(None) for n in truth.shape[-2:]]
    return float(similar[..., inner[0], inner[1]].mean())


def flicker(result: Array, truth: Array) -> float:
    """Return how restless the error is in time: RMS of its steps from frame to frame over sqrt 2.

    In grey levels. White noise of deviation s has the flicker s, an error that stays has none.
    """
    error = result.astype(np.float64) - truth
    return float(np.sqrt(np.mean(np.diff(error, axis=0) ** 2) / 2))


def brightness(result: Array, truth: Array, black: float, photon: float, levels: int = 8) -> float:
    """Return the largest relative error of the mean light at any of `levels` levels.

    Levels are those of the truth's surroundings (blurred by 4 voxels), as many voxels in each:
    sorted by the truth itself, flattened peaks would count; sorted by the result, noise that is
    left. Light counts from the grey level `black`, in the dark relative to one `photon`.
    """
    sigma = [0, 0] + [4 if n > 1 else 0 for n in truth.shape[2:]]
    order = np.argsort(gaussian_filter(truth, sigma), axis=None, kind="stable")
    light = truth.ravel().astype(np.float64)[order] - black
    ours = result.ravel().astype(np.float64)[order] - black
    parts = zip(np.array_split(ours, levels), np.array_split(light, levels), strict=True)
    return max(abs(float((a - b).mean())) / max(float(b.mean()), photon) for a, b in parts)


def border_error(cut: Array, whole: Array, truth: Array, axes: Sequence[int], reach: int) -> Floats:
    """Return how much larger the error is near a border than where there is none.

    The same voxels are compared twice: `cut` is the result of an image that ends here, `whole` that
    of an image that goes on (cut to the same box afterwards).

    Parameters
    ----------
    axes : sequence of int
        Distances are those to the nearest border across one of these axes.
    reach : int
        Distances looked at: 0 .. reach - 1.

    Returns
    -------
    ndarray of float64, shape (reach,)
        Ratio of the mean squares at each distance, 1 if the border does no harm.
    """
    distance = np.full(truth.shape, max(truth.shape))
    for axis in axes:
        n = truth.shape[axis]
        along = np.minimum(np.arange(n), np.arange(n)[::-1])
        distance = np.minimum(distance, np.expand_dims(along, [a for a in range(5) if a != axis]))
    ends, goes_on = ((a.astype(np.float64) - truth) ** 2 for a in (cut, whole))
    rings = (distance == d for d in range(reach))
    return np.array([ends[ring].mean() / goes_on[ring].mean() for ring in rings])


def stable_residual(image: Array, result: Array, noise: Noise) -> Floats:
    """Return image minus result in units of the noise expected there; should look like white noise.

    The result, not the truth, says how much noise is expected, as with real data.
    """
    if noise.sigma:
        variance: Any = noise.sigma**2
    else:
        floor = 0.25 * noise.gain**2
        variance = np.maximum(noise.gain * result.astype(np.float64) + noise.offset, floor)
    return (image.astype(np.float64) - result) / np.sqrt(variance)


def autocorrelation(field: Array, lags: int = 4) -> dict[str, list[float]]:
    """Return the correlation of a field with itself, at lags 1 .. along each axis that has them."""
    centred = field.astype(np.float64) - field.mean()
    variance = float(np.mean(centred**2))
    found: dict[str, list[float]] = {}
    for axis, name in enumerate("TCZYX"):
        if field.shape[axis] > lags:
            moved = np.moveaxis(centred, axis, 0)
            found[name] = [
                float(np.mean(moved[lag:] * moved[:-lag])) / variance for lag in range(1, lags + 1)
            ]
    return found


def lattice_pattern(result: Array, truth: Array, stride: Sequence[int]) -> float:
    """Return the energy of the error at a lattice's frequencies over that at their neighbours.

    1 without a pattern, up to chance; the largest of all axes and frequencies is returned.

    Parameters
    ----------
    stride : sequence of int
        Period of the lattice on each axis; axes with a period of 1, or shorter than 8 periods, have
        no pattern to see. Frequencies are 1 / period and its multiples, neighbours those 2 to 4
        steps of the discrete spectrum away.
    """
    error = result.astype(np.float64) - truth
    found = [1.0]
    for axis, period in enumerate(stride):
        count = truth.shape[axis] // period
        if period == 1 or count < 8:
            continue
        lines = np.moveaxis(error, axis, -1)[..., : count * period]
        power = (np.abs(np.fft.rfft(lines)) ** 2).reshape(-1, count * period // 2 + 1).mean(0)
        for peak in range(count, len(power), count):
            near = [peak + sign * k for k in (2, 3, 4) for sign in (-1, 1)]
            found.append(power[peak] / np.mean([power[k] for k in near if k < len(power)]))
    return float(max(found[1:], default=1.0))


def lattice_phase(result: Array, truth: Array, stride: Sequence[int]) -> float:
    """Return the RMS error of the worst place in a lattice's cell over that of all; 1 if equal.

    `stride` is the lattice's period on each axis; each axis is looked at alone.
    """
    square = (result.astype(np.float64) - truth) ** 2
    found = [1.0]
    for axis, period in enumerate(stride):
        count = truth.shape[axis] // period
        if period > 1 and count > 1:
            along = np.moveaxis(square, axis, 0)[: count * period].reshape(count, period, -1)
            places = along.mean(axis=(0, 2))
            found.append(float(np.sqrt(places.max() / places.mean())))
    return max(found)


def contrast_kept(result: Array, truth: Array) -> tuple[float, float]:
    """Return how much of the contrast of small structures is left: of dim ones, of bright ones.

    At every peak of a plane of the truth, by how much it rises above its surroundings (blurred by 4
    pixels): the slope of the result's rise over the truth's. 1: all of it, 0: wiped out. Peaks
    lower than a twentieth of the highest do not count; the dim ones are the lower half of the rest.
    """
    rise, ours = (
        a - gaussian_filter(a, (0, 0, 0, 4, 4))
        for a in (truth.astype(np.float64), result.astype(np.float64))
    )
    peak = (rise == maximum_filter(rise, (1, 1, 1, 3, 3))) & (rise > 0.05 * rise.max())
    dim = peak & (rise <= np.median(rise[peak]))

    def slope(at: NDArray[np.bool_]) -> float:
        return float(np.sum(rise[at] * ours[at]) / np.sum(rise[at] ** 2))

    return slope(dim), slope(peak & ~dim)


def mean_of(values: Sequence[float | None]) -> float | None:
    """Return the mean, None if any value is missing or there is none."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None


def _range(truth: Array) -> float:
    return float(truth.max()) - float(truth.min())
