"""The line through the cells' means and variances."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import NamedTuple

import numpy as np

from denoise5d.errors import NoiseError
from denoise5d.noise_cells import Cells, Floats, Reference, trusted_mean

_BINS = 64
_MIN_CELLS = 100
_MIN_IN_BIN = 8

_SMOOTH = 0.4
"""Share of the cells of a bin that is kept however rough they are."""

CUT_CELL, _CUT_BIN = 0.05, 0.02
"""Share of voxels at the floor or ceiling above which a cell, or a whole bin, is left out."""

MODEL_ERROR = 0.02
"""Relative error granted to every point, so that none of them decides alone."""

_ROUNDS = 6


class Line(NamedTuple):
    """``variance = level + gain · (mean − centre)``, with means counted from the floor.

    Attributes
    ----------
    gain, gain_error : float
        Slope and its standard error.
    centre, level, level_error : float
        The point that the line turns about, and its variance's standard error.
    means, variances : ndarray of float64, shape (n,)
        The points it was fitted to.
    cells : int
        Cells that the points stand for.
    """

    gain: float
    gain_error: float
    centre: float
    level: float
    level_error: float
    means: Floats
    variances: Floats
    cells: int

    def at(self, mean: Floats | float) -> Floats:
        """Return the variance at every mean; it may be negative."""
        line: Floats = self.level + self.gain * (np.asarray(mean, np.float64) - self.centre)
        return line

    def expected(self, mean: Floats) -> Floats:
        """Return the variance at every mean, kept above a third of the smallest point's."""
        line: Floats = np.maximum(self.at(mean), self.variances.min() / 3)
        return line

    @property
    def scatter(self) -> float:
        """Typical relative distance of the points from the line."""
        return _typical(self.variances / self.expected(self.means) - 1)


def refusal(reason: str) -> NoiseError:
    """Return the error that tells `reason` and what to do instead."""
    return NoiseError(
        f"the noise cannot be estimated: {reason}; "
        "give noise: {gain: ..., offset: ...} or {sigma: ...} instead of auto"
    )


def fit(cells: Cells, reference: Reference) -> Line:
    """Fit the cells that neither floor nor ceiling has cut, or refuse.

    Voxels at the floor may be honest, though: photons counted on a black level of 0. Then, and not
    for clipped noise, the line through all cells comes down to no variance at the floor.
    """
    if cells.number < _MIN_CELLS:
        raise refusal(f"{cells.number} cells hold noise, at least {_MIN_CELLS} are needed")
    bins = _bins(cells)
    whole = _uncut(bins, [b.high for b in bins])
    clear = _uncut(bins, [np.maximum(b.low, b.high) for b in bins])
    if len(clear) < len(whole) and _count(whole) >= _MIN_CELLS:
        line = _through(whole, reference)
        if abs(line.at(0.0)) < 0.25 * line.at(line.means[0]):
            return line
    if _count(clear) < _MIN_CELLS:
        raise refusal(
            f"{_count(clear)} of {cells.number} cells are free of voxels clipped at the smallest "
            f"value or saturated at the largest, at least {_MIN_CELLS} are needed"
        )
    return _through(clear, reference)


def _count(bins: Sequence[Cells]) -> int:
    return sum(cells.number for cells in bins)


def _bins(cells: Cells) -> list[Cells]:
    """Sort the cells by their mean into bins narrow in rank as well as in grey levels."""
    number = min(_BINS, cells.number // (2 * _MIN_IN_BIN))
    low, high = cells.mean.min(), cells.mean.max()
    rank = np.searchsorted(np.sort(cells.mean), cells.mean) / cells.number
    place = (cells.mean - low) / max(high - low, np.finfo(np.float64).tiny)
    label = np.minimum((0.5 * (rank + place) * number).astype(int), number - 1)
    return [cells.where(label == i) for i in range(number)]


def _uncut(bins: Sequence[Cells], cut: Sequence[Floats]) -> list[Cells]:
    """Leave out cells, and whole bins, with too large a share of `cut` voxels.

    A bin goes as a whole, as choosing its uncut cells would choose those of the least noise.
    """
    kept = [
        cells.where(share <= CUT_CELL)
        for cells, share in zip(bins, cut, strict=True)
        if share.size and share.mean() <= _CUT_BIN
    ]
    return [cells for cells in kept if cells.number >= _MIN_IN_BIN]


def _through(bins: Sequence[Cells], reference: Reference) -> Line:
    """Fit the line, then again with the cells that are smooth and plausible in its light."""
    line = _line([_point(cells, None, reference) for cells in bins], None)
    for _ in range(_ROUNDS):
        line = _line([_point(cells, line, reference) for cells in bins], line)
    return line


class _Point(NamedTuple):
    mean: float
    variance: float
    error: float  # of the variance, relative
    cells: int


def _point(cells: Cells, line: Line | None, reference: Reference) -> _Point:
    """Return the point that a bin's smooth cells make, compared with the line so far."""
    expected = np.ones_like(cells.mean) if line is None else line.expected(cells.mean)
    rough = cells.rough / expected
    limit = float(np.quantile(rough, _SMOOTH))
    smooth = rough <= (limit if line is None else max(limit, reference.rough))
    ratio = cells.variance[smooth] / expected[smooth]
    level, weights = trusted_mean(ratio, reference.spread)
    mean = float(np.average(cells.mean[smooth], weights=weights))
    base = float(np.average(expected[smooth], weights=weights))
    error = 3 * reference.spread / sqrt(ratio.size)  # the spread is that of cube roots
    return _Point(mean, base * level / reference.level, error, ratio.size)


def _line(points: Sequence[_Point], before: Line | None) -> Line:
    """Fit a line by Huber's weights; the points' errors are relative to the line before."""
    means, variances, errors, cells = np.array(points, np.float64).T
    scale = variances if before is None else before.expected(means)
    weights = 1 / ((errors**2 + MODEL_ERROR**2) * scale**2)
    trust = np.ones_like(means)
    for _ in range(20):
        both = weights * trust
        centre, level = (float(np.average(a, weights=both)) for a in (means, variances))
        lever = both * (means - centre)
        spread = float(lever @ (means - centre))
        gain = float(lever @ (variances - level)) / spread if spread > 0 else 0.0
        away = np.abs(variances - level - gain * (means - centre)) * np.sqrt(weights)
        typical = max(_typical(away), 0.5)
        trust = np.minimum(1, 1.5 * typical / np.maximum(away, 1e-12))
    unit = max(typical, 1.0)
    gain_error = unit / sqrt(spread) if spread > 0 else np.inf
    level_error = unit / sqrt(float(both.sum()))
    return Line(gain, gain_error, centre, level, level_error, means, variances, int(cells.sum()))


def _typical(values: Floats) -> float:
    """Return a robust standard deviation about 0."""
    return 1.4826 * float(np.median(np.abs(values)))
