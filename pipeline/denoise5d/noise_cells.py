"""Mean, variance and roughness of small cells of an image.

The variance is that of a residual, a product of differences along every axis. What optics has
blurred is smooth along each of them, so that every factor makes it smaller again, while white noise
keeps its variance. What is left of fine structure shows in the roughness, the same residual of the
image at half the size. Its noise is all but independent of the residual's: choosing smooth cells
does not choose those where the noise happens to be low.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import comb, prod
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Samples: TypeAlias = NDArray[Any]
Quad: TypeAlias = tuple[int, int, int, int]

_SIDE, _DEPTH = 8, 4
"""Voxels of a cell along Y and X, and along Z (or T, where Z is shallow)."""

SHALLOW = 8
"""With fewer planes than this, cells (and sampled boxes) are long in time instead of deep."""

MIN_PIXELS = 16
"""Along Y and X no differences are taken on an axis shorter than this."""

_REACH = 5.0
"""Standard deviations beyond which a cell counts for nothing."""


class Cells(NamedTuple):
    """Small boxes of voxels, one entry a cell.

    Attributes
    ----------
    mean : ndarray
        Mean above the floor, every voxel weighted as in the variance: the line holds between the
        two whatever the signal does inside the cell.
    variance : ndarray
        Mean square of the residual.
    rough : ndarray
        The same of the halved image, scaled so that white noise gives its variance here too.
    low, high : ndarray
        Share of voxels at the floor and at the ceiling.
    """

    mean: Floats
    variance: Floats
    rough: Floats
    low: Floats
    high: Floats

    @property
    def number(self) -> int:
        """How many cells these are."""
        return int(self.mean.size)

    def where(self, chosen: NDArray[np.bool_]) -> Cells:
        """Return the chosen cells."""
        return Cells(*(column[chosen] for column in self))


class Residual(NamedTuple):
    """How the residual is taken, and the cells in which it is gathered.

    Attributes
    ----------
    orders : tuple of 4 int
        Order of the differences along T, Z, Y, X; 0 where an axis is too short.
    cell : tuple of 4 int
        Voxels of a cell.
    """

    orders: Quad
    cell: Quad

    @classmethod
    def of(cls, shape: Sequence[int], order: int) -> Residual:
        """Return the residual of `order` along Y and X for samples of at least `shape`."""
        t, z, y, x = shape
        flat_t, flat_z = (2 if n >= 3 else 0 for n in (t, z))
        deep = (1, min(_DEPTH, z - flat_z)) if z >= SHALLOW else (min(_DEPTH, t - flat_t), 1)
        orders = (flat_t, flat_z, order if y >= MIN_PIXELS else 0, order if x >= MIN_PIXELS else 0)
        return cls(
            orders, (*deep, _SIDE if y >= MIN_PIXELS else 1, _SIDE if x >= MIN_PIXELS else 1)
        )

    def cells(self, sample: Samples, floor: float, ceiling: float) -> Cells:
        """Return all whole cells of a sample, 4-D TZYX; means are counted from `floor`."""
        data = (sample.astype(np.float64) - floor).astype(np.float32)
        halved, half_cell, margin, pixels = data, list(self.cell), [0, 0, 0, 0], 1.0
        for axis in (2, 3):
            if self.orders[axis]:
                halved = _halve(halved, axis)
                half_cell[axis] //= 2
                margin[axis] = self.orders[axis] // 2  # where the halved image's residual begins
                pixels *= 2
        square = self.differences(data)[_from(margin)] ** 2
        rough = np.float32(pixels) * self.differences(halved) ** 2
        lengths = zip(square.shape, self.cell, rough.shape, half_cell, strict=True)
        counts = [min(n // a, m // b) for n, a, m, b in lengths]
        centre = sample[_from([m + o // 2 for m, o in zip(margin, self.orders, strict=True)])]
        return Cells(
            _averages(self.differences(data, power=2)[_from(margin)], self.cell, counts),
            _averages(square, self.cell, counts),
            _averages(rough, half_cell, counts),
            _averages(centre == floor, self.cell, counts),
            _averages(centre == ceiling, self.cell, counts),
        )

    def differences(self, data: Samples, power: int = 1) -> Samples:
        """Filter along every axis with the coefficients of the differences, raised to `power`.

        Their squares sum to 1: power 1 keeps the variance of white noise, and power 2 gives the
        mean that this variance belongs to.
        """
        for axis, order in enumerate(self.orders):
            taps = np.array([(-1) ** k * comb(order, k) for k in range(order + 1)], np.float64)
            taps = (taps / np.sqrt(np.sum(taps**2))) ** power
            lines = np.moveaxis(data, axis, 0)
            length = len(lines) - order
            total = np.float32(taps[0]) * lines[:length]
            for k in range(1, order + 1):
                total += np.float32(taps[k]) * lines[k : k + length]
            data = np.moveaxis(total, 0, axis)
        return data


def _from(start: Sequence[int]) -> tuple[slice, ...]:
    """Return the slices that begin at `start`."""
    return tuple(slice(a, None) for a in start)


def _halve(data: Samples, axis: int) -> Samples:
    """Return the means of neighbouring pairs along `axis`."""
    lines = np.moveaxis(data, axis, 0)[: data.shape[axis] // 2 * 2]
    return np.moveaxis(np.float32(0.5) * (lines[0::2] + lines[1::2]), 0, axis)


def _averages(data: Samples, cell: Sequence[int], counts: Sequence[int]) -> Floats:
    """Return the means of the first `counts` cells along every axis, flat."""
    inside = tuple(slice(0, n * c) for n, c in zip(counts, cell, strict=True))
    split = [length for pair in zip(counts, cell, strict=True) for length in pair]
    means: Floats = data[inside].reshape(split).mean(axis=(1, 3, 5, 7), dtype=np.float64)
    return means.ravel()


class Reference(NamedTuple):
    """What cells of white noise of variance 1 look like: measured, in the place of formulas.

    Attributes
    ----------
    level : float
        Trusted mean of their variances.
    spread : float
        Standard deviation over mean of the variances' cube roots, which are nearly normal.
    rough : float
        Roughness that one cell in twenty exceeds.
    """

    level: float
    spread: float
    rough: float


@lru_cache
def reference(residual: Residual) -> Reference:
    """Put white noise through the residual and measure it."""
    deep = [2 * n + o if n + o > 1 else 1 for o, n in zip(*residual, strict=True)][:2]
    wide = [order > 0 for order in residual.orders[2:]]
    side = int((2**19 / prod(deep)) ** (1 / sum(wide)))
    shape = (*deep, *(side if long else 1 for long in wide))
    noise = np.random.default_rng(0).standard_normal(shape, np.float32)
    cells = residual.cells(noise, 0.0, np.inf)
    roots = np.cbrt(cells.variance)
    spread = float(roots.std() / roots.mean())
    level, _ = trusted_mean(cells.variance, spread)
    return Reference(level, spread, float(np.quantile(cells.rough, 0.95)))


def trusted_mean(variances: Floats, spread: float) -> tuple[float, Floats]:
    """Return the mean of `variances` without outliers, and the weights it was taken with.

    What lies out is judged on the cube roots, of a known relative `spread`. The mean is that of the
    variances themselves: it stays right in cells where few voxels carry all of the noise.
    """
    roots = np.cbrt(variances)
    middle = float(np.median(roots))
    for _ in range(5):
        weights = np.clip(1 - ((roots / middle - 1) / (_REACH * spread)) ** 2, 0, None) ** 2
        if not weights.any():  # two distant halves: neither is preferred
            weights = np.ones_like(roots)
        middle = float(np.average(roots, weights=weights))
    return float(np.average(variances, weights=weights)), weights
