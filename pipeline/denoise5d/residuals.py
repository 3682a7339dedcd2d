"""What was taken away: whether the residual, noisy minus denoised, is the noise and nothing else.

Everything is in units of the noise: z = (noisy − denoised) / σ, with the σ of the model at the
denoised grey level. Of pure noise z has mean 0 and variance 1, no voxel knows its neighbour, and
means of many voxels are as small where there is structure as elsewhere. The denoised image depends
on the noise a little: a mean of N voxels keeps 1/N of a voxel's own noise, so that the variance of
z is 1 − 1/N. It has a part of the noise's local means, too, so that means of z are a little smaller
than those of white noise.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from denoise5d.noise import NoiseModel

Floats: TypeAlias = NDArray[np.float64]
Volume: TypeAlias = NDArray[Any]

AXES = "TZYX"
"""Order of the axes of what is given here."""

CELL = 4
"""Pixels of a cell along Y and X."""

LAGS = 3
"""Neighbours up to so many voxels away are compared."""

_BINS = 12
"""Grey levels are looked at in so many parts of equally many cells."""

_PARTS = 10
"""Structure is looked at in so many parts of equally many cells."""

_MOST_Z, _STEP_Z = 6.0, 0.2
"""The histogram of z reaches to both sides of 0 so far, in bins of this width."""


@dataclass(frozen=True, slots=True)
class ResidualStatistics:
    """The residual of one channel, in units of the noise.

    Attributes
    ----------
    voxels : int
        That were looked at.
    left_out : float
        Share of the voxels in cells of one value, as masking leaves them, or where the model gives
        no noise.
    mean, variance : float
        Of z.
    levels, level_means, level_variances : ndarray, shape (bins,)
        Mean grey level of parts of the cells, and mean and variance of z in each.
    correlations : dict of str to tuple of float
        For each axis longer than 1, the correlation with the neighbour 1, 2, ... voxels away.
    edges, density : ndarray
        Histogram of z, as a density.
    structures, structure_ratios : ndarray, shape (parts,)
        Typical contrast in cells of 4 x 4 pixels, in units of the noise, from the flattest tenth of
        the cells to the one with most structure; and variance of the mean of z over a cell there,
        over what white noise of the same variance would leave. Below 1 without structure.
    """

    voxels: int
    left_out: float
    mean: float
    variance: float
    levels: Floats
    level_means: Floats
    level_variances: Floats
    correlations: dict[str, tuple[float, ...]]
    edges: Floats
    density: Floats
    structures: Floats
    structure_ratios: Floats


@dataclass(frozen=True, slots=True)
class _Cells:
    """One entry a cell: mean grey level, mean of z and z², contrast over σ."""

    level: Floats
    mean: Floats
    square: Floats
    contrast: Floats


def residual_statistics(
    pairs: Iterable[tuple[Volume, Volume]], noise: NoiseModel
) -> ResidualStatistics | None:
    """Look at the residual of one channel.

    Parameters
    ----------
    pairs : iterable of (noisy, denoised), 4-D TZYX
        Parts of the channel; one pair is held at a time.
    noise : NoiseModel
        That the image was denoised with.

    Returns
    -------
    ResidualStatistics or None
        None if hardly a voxel can be judged: an image narrower than a cell, or all of one value.
    """
    seen = 0
    parts: list[_Cells] = []
    products = np.zeros((len(AXES), LAGS, 2))
    edges: Floats = np.arange(-_MOST_Z, _MOST_Z + _STEP_Z / 2, _STEP_Z)
    counts = np.zeros(len(edges) - 1)
    for noisy, denoised in pairs:
        z, sound = standardised(noisy, denoised, noise)
        seen += sound.size
        _add_products(products, z, sound)
        counts += np.histogram(z[sound], edges)[0]
        parts.append(_cells(z, sound, denoised, noise))
    cells = _Cells(*(np.concatenate([getattr(p, f) for p in parts]) for f in _Cells.__slots__))
    if cells.level.size < max(_BINS, _PARTS):
        return None
    return _statistics(cells, products, edges, counts, seen)


def standardised(
    noisy: Volume, denoised: Volume, noise: NoiseModel
) -> tuple[Floats, NDArray[np.bool_]]:
    """Return z, 0 where it says nothing, and where it says something: TZYX, whole cells only."""
    y, x = (n // CELL * CELL for n in noisy.shape[2:])
    before, after = (a[:, :, :y, :x].astype(np.float64) for a in (noisy, denoised))
    variance = noise.variance(after)
    cells = _in_cells(before)
    varied = cells.max(axis=(3, 5)) > cells.min(axis=(3, 5))
    whole = np.repeat(np.repeat(varied, CELL, axis=2), CELL, axis=3)
    sound = whole & (variance > 0)
    z: Floats = np.divide(before - after, np.sqrt(variance), out=np.zeros_like(after), where=sound)
    return z, sound


def _in_cells(volume: Volume) -> Volume:
    """Return a view (t, z, rows, CELL, columns, CELL)."""
    t, z, y, x = volume.shape
    return volume.reshape(t, z, y // CELL, CELL, x // CELL, CELL)


def _cells(z: Floats, sound: NDArray[np.bool_], denoised: Volume, noise: NoiseModel) -> _Cells:
    """Return the cells all of whose voxels say something."""
    after = _in_cells(denoised[:, :, : z.shape[2], : z.shape[3]].astype(np.float64))
    whole = _in_cells(sound).all(axis=(3, 5))
    inside = _in_cells(z)
    level = after.mean(axis=(3, 5))[whole]
    contrast = after.std(axis=(3, 5))[whole] / np.sqrt(np.maximum(noise.variance(level), 1e-12))
    return _Cells(
        level,
        inside.mean(axis=(3, 5))[whole],
        (inside**2).mean(axis=(3, 5))[whole],
        contrast,
    )


def _add_products(products: Floats, z: Floats, sound: NDArray[np.bool_]) -> None:
    """Add, for each axis and lag, the sum of products with the neighbour, and their number."""
    for axis in range(len(AXES)):
        for lag in range(1, min(LAGS, z.shape[axis] - 1) + 1):
            head = tuple(slice(None, -lag) if a == axis else slice(None) for a in range(len(AXES)))
            tail = tuple(slice(lag, None) if a == axis else slice(None) for a in range(len(AXES)))
            products[axis, lag - 1] += (
                float(np.sum(z[head] * z[tail])),
                np.count_nonzero(sound[head] & sound[tail]),
            )


def _statistics(
    cells: _Cells, products: Floats, edges: Floats, counts: Floats, seen: int
) -> ResidualStatistics:
    mean, square = float(cells.mean.mean()), float(cells.square.mean())
    by_level = np.array_split(np.argsort(cells.level, kind="stable"), _BINS)
    by_contrast = np.array_split(np.argsort(cells.contrast, kind="stable"), _PARTS)
    means = np.array([cells.mean[part].mean() for part in by_level])
    squares = np.array([cells.square[part].mean() for part in by_level])
    return ResidualStatistics(
        voxels=seen,
        left_out=1 - cells.level.size * CELL**2 / seen,
        mean=mean,
        variance=square - mean**2,
        levels=np.array([cells.level[part].mean() for part in by_level]),
        level_means=means,
        level_variances=squares - means**2,
        correlations={
            axis: tuple(float(total / n / square) for total, n in products[i] if n)
            for i, axis in enumerate(AXES)
            if products[i, 0, 1]
        },
        edges=edges,
        density=counts / max(1.0, counts.sum()) / _STEP_Z,
        structures=np.array([np.median(cells.contrast[part]) for part in by_contrast]),
        structure_ratios=np.array(
            [CELL**2 * np.mean(cells.mean[p] ** 2) / np.mean(cells.square[p]) for p in by_contrast]
        ),
    )
