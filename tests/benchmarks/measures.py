"""What is measured of a result, given the truth: numbers and curves, no pictures.

Arrays are TCZYX with one channel unless said otherwise; results and truths in grey levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from cases import Noise
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

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


def brightness(
    result: Array, truth: Array, black: float, levels: int = 10
) -> tuple[Floats, Floats]:
    """Return mean photons-to-be of result over truth, for as many levels of the result.

    Voxels are sorted by the *result* into bins of equal number, since sorting by the truth would
    show how peaks are flattened, not whether the inverse transform is biased. Light counts from
    the grey level `black`.

    Returns
    -------
    level, ratio : ndarray of float64, shape (levels,)
        Mean light of the truth in each bin in grey levels, and the ratio.
    """
    order = np.argsort(result, axis=None, kind="stable")
    parts = [part for part in np.array_split(order, levels) if part.size]
    light = truth.ravel().astype(np.float64) - black
    ours = result.ravel().astype(np.float64) - black
    level = np.array([light[part].mean() for part in parts])
    return level, np.array([ours[part].mean() for part in parts]) / level


def border_error(result: Array, truth: Array, reach: int = 24) -> Floats:
    """Return the RMS error at distances 0, 1, .. from the nearest border in y and x.

    Relative to that of the voxels that are at least `reach` from it; shape (reach,).
    """
    height, width = truth.shape[-2:]
    y, x = np.arange(height), np.arange(width)
    distance = np.minimum(
        np.minimum(y, height - 1 - y)[:, None], np.minimum(x, width - 1 - x)[None]
    )
    square = ((result.astype(np.float64) - truth) ** 2).mean(axis=(0, 1, 2))
    inside = square[distance >= reach].mean()
    rows = [square[distance == d].mean() for d in range(reach)]
    return np.sqrt(np.array(rows) / inside)


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


def lattice_pattern(result: Array, truth: Array, period: int = 4) -> float:
    """Return the energy of the error at a lattice's frequencies over that at their neighbours.

    1 without a pattern. Spectra along y and along x are looked at, averaged over all lines, at
    1 / period and its multiples up to the highest frequency; neighbours are those 2 to 6 steps of
    the discrete spectrum away.
    """
    error = result.astype(np.float64) - truth
    found = []
    for axis in (3, 4):
        usable = truth.shape[axis] // period * period
        lines = np.moveaxis(error, axis, -1)[..., :usable]
        power = (np.abs(np.fft.rfft(lines)) ** 2).reshape(-1, usable // 2 + 1).mean(0)
        step = usable // period
        for peak in range(step, usable // 2 + 1, step):
            away = [peak + sign * k for k in range(2, 7) for sign in (-1, 1)]
            around = [power[k] for k in away if 0 < k < len(power)]
            found.append(power[peak] / np.mean(around))
    return float(max(found))


def contrast_kept(result: Array, truth: Array, background: float, share: float = 0.02) -> float:
    """Return how much of the contrast of structures is left: the slope of result over truth.

    A regression over the `share` of voxels that stand out most from the truth's smooth part, so
    that thin and small structures count and flat ones do not. 1: all of it, 0: wiped out.
    `background` is the blur in voxels that makes the smooth part.
    """
    sigma = [0, 0] + [background if n > 1 else 0 for n in truth.shape[2:]]
    fine = truth.astype(np.float64) - gaussian_filter(truth.astype(np.float64), sigma)
    ours = result.astype(np.float64) - gaussian_filter(result.astype(np.float64), sigma)
    chosen = fine >= np.quantile(fine, 1 - share)
    return float(np.sum(fine[chosen] * ours[chosen]) / np.sum(fine[chosen] ** 2))


def mean_of(values: Sequence[float | None]) -> float | None:
    """Return the mean, None if any value is missing or there is none."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None


def _range(truth: Array) -> float:
    return float(truth.max()) - float(truth.min())
