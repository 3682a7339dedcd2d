"""The noise of a camera, ``Var y = gain · E[y] + offset``, and its estimation from the image.

One gain and one offset hold for a whole channel. They are read off the image itself::

    sample boxes ──> high-pass residual ──> cells: mean, variance, ──> bins along ──> line:
    all over T,Z,Y,X   (white noise keeps     roughness                the mean:       variance =
                        its variance)                                  smooth cells    g · mean + e

This module says what is looked at and what comes of it; `noise_cells` holds the middle of the
picture, `noise_line` its right end. Noise is taken to be white: in images that were resampled,
fused or compressed before, neighbours share theirs, and less is found than there is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot, isfinite, prod, sqrt
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from denoise5d.errors import NoiseError
from denoise5d.geometry import Box, Index, in_channel, spread_boxes
from denoise5d.noise_cells import MIN_PIXELS, SHALLOW, Cells, Residual, Samples, reference
from denoise5d.noise_line import MODEL_ERROR, Line, fit, refusal

Floats: TypeAlias = NDArray[np.float64]

MAX_VOXELS = 2**24
"""Voxels a channel is sampled with unless told otherwise."""

_DEPTH, _WIDTH = 14, 64
"""Voxels of a box along Z (or, in place of missing planes, T), and along Y and X."""

_MILD, _STEEP = 2, 4
"""Orders of the differences along Y and X; the steep ones see less structure and less noise."""

_STRUCTURE = 1.1
"""Ratio of mild to steep variances from which the mild ones are taken to see structure."""

_MAX_SCATTER = 0.5

HALF_A_PHOTON = 0.5
"""Read noise over gain of a camera of which nothing is known."""


@dataclass(frozen=True, slots=True)
class NoiseModel:
    """Noise of variance ``gain · mean + offset``.

    Attributes
    ----------
    gain : float
        Grey levels a photon, at least 0; 0 means Gaussian noise of variance `offset`.
    offset : float
        Variance at mean 0 in grey levels², often negative: read_noise² − gain · black level.
    read_noise : float
        Standard deviation in grey levels of what does not come from photons. Gain and offset do
        not tell it from the black level; it only matters to the inverse at very low counts.

    Raises
    ------
    NoiseError
        A number is not finite, a gain or read noise is negative, or there is no noise at all.
    """

    gain: float
    offset: float
    read_noise: float

    def __post_init__(self) -> None:
        values = (self.gain, self.offset, self.read_noise)
        if not all(isfinite(value) for value in values):
            raise NoiseError(f"gain, offset and read noise must be finite, got {values}")
        if self.gain < 0:
            raise NoiseError(f"noise gain must be >= 0, got {self.gain:g}")
        if self.gain == 0 and self.offset <= 0:
            raise NoiseError(f"without a gain the noise offset must be > 0, got {self.offset:g}")
        if self.read_noise < 0:
            raise NoiseError(f"read noise must be >= 0, got {self.read_noise:g}")

    @classmethod
    def gaussian(cls, sigma: float) -> NoiseModel:
        """Return noise of the standard deviation `sigma` (> 0, grey levels) everywhere."""
        if not sigma > 0:
            raise NoiseError(f"noise sigma must be > 0, got {sigma:g}")
        return cls(0.0, float(sigma) ** 2, float(sigma))

    @classmethod
    def poisson_gaussian(
        cls, gain: float, offset: float, read_noise: float | None = None
    ) -> NoiseModel:
        """Return a camera's noise; `read_noise` is half a photon, ``0.5 · gain``, if not given."""
        if not gain > 0:
            raise NoiseError(f"noise gain must be > 0, got {gain:g}; without a gain give a sigma")
        read_noise = HALF_A_PHOTON * gain if read_noise is None else read_noise
        return cls(float(gain), float(offset), float(read_noise))

    def variance(self, mean: Floats | float) -> Floats:
        """Return the variance at every mean in grey levels², at least 0."""
        line: Floats = np.maximum(self.gain * np.asarray(mean, np.float64) + self.offset, 0.0)
        return line


@dataclass(frozen=True, slots=True)
class NoiseEstimate:
    """What the image says about its noise.

    Attributes
    ----------
    model : NoiseModel
        The noise of the channel.
    gain_error, offset_error : float
        Standard errors of gain and offset, the 2 % included that the method itself may be wrong.
        They go together: a line with a larger gain has a smaller offset, so that its variances
        are better known than its offset. Without a gain, 0 and the variance's.
    cells : int
        Cells that the fit rests on.
    means, variances : ndarray of float64, shape (n,)
        The points that the line was fitted to, in grey levels and grey levels².
    scatter : float
        Typical relative distance of the points from the line.
    sampled : Cells
        All cells, also those with structure and those that are clipped; means in grey levels.
    """

    model: NoiseModel
    gain_error: float
    offset_error: float
    cells: int
    means: Floats
    variances: Floats
    scatter: float
    sampled: Cells


def sample_boxes(image_shape: Index, channel: int, *, max_voxels: int = MAX_VOXELS) -> list[Box]:
    """Return boxes of one channel, spread evenly over T, Z, Y and X.

    Parameters
    ----------
    image_shape : Index
        Shape of the image, TCZYX.
    channel : int
        The channel to sample.
    max_voxels : int
        Upper bound of the voxels in all boxes together; one box, of at most 57344, there always is.

    Returns
    -------
    list of Box
        The whole channel if it is small enough; else boxes of one shape, the same ones for the
        same arguments. They may overlap.
    """
    t, _, z, y, x = image_shape
    if t * z * y * x <= max_voxels:
        return [Box((0, channel, 0, 0, 0), (t, channel + 1, z, y, x))]
    deep = (1, 1, min(z, _DEPTH)) if z >= SHALLOW else (min(t, _DEPTH // z), 1, z)
    lengths = (*deep, min(y, _WIDTH), min(x, _WIDTH))
    spread = spread_boxes((t, 1, z, y, x), lengths, max(1, max_voxels // prod(lengths)))
    return [in_channel(box, channel) for box in spread]


def estimate_channel(samples: Sequence[Samples]) -> NoiseEstimate:
    """Estimate the noise of one channel.

    Parameters
    ----------
    samples : sequence of ndarray, 4-D TZYX
        Parts of the channel, of any integer or floating type; `sample_boxes` says which.

    Returns
    -------
    NoiseEstimate
        The line and what it was fitted to; a Gaussian model if no gain is to be seen. The same
        for the same samples in any order, up to rounding.

    Raises
    ------
    NoiseError
        The samples do not tell the noise, or tell something that cannot be; the message says what.
    ValueError
        There are no samples, or one of them has other axes than four.
    """
    floor, ceiling = _range(samples)
    shape = [min(lengths) for lengths in zip(*(s.shape for s in samples), strict=True)]
    if max(shape[2:]) < MIN_PIXELS:
        raise refusal(
            f"Y or X must have {MIN_PIXELS} pixels at least, got {shape[2]} and {shape[3]}"
        )
    residuals = (Residual.of(shape, order) for order in (_STEEP, _MILD))
    fits = (_fit(samples, floor, ceiling, residual) for residual in residuals)
    (steep, steep_cells), (mild, mild_cells) = fits
    ratio = float(np.median(mild.expected(steep.means) / steep.expected(steep.means)))
    line, cells = (steep, steep_cells) if ratio > _STRUCTURE else (mild, mild_cells)
    model = _model(line, floor)
    gain_error = hypot(line.gain_error, MODEL_ERROR * line.gain) if model.gain else 0.0
    level_error = hypot(line.level_error, MODEL_ERROR * line.level)
    return NoiseEstimate(
        model,
        gain_error,
        hypot(level_error, gain_error * (line.centre + floor)),
        line.cells,
        line.means + floor,
        line.variances,
        line.scatter,
        cells._replace(mean=cells.mean + floor),
    )


def _range(samples: Sequence[Samples]) -> tuple[float, float]:
    """Return the smallest and the largest value of all samples, or refuse them."""
    if not samples or any(sample.ndim != 4 or sample.size == 0 for sample in samples):
        raise ValueError("samples must be one or more arrays with the axes T, Z, Y, X")
    bad = sum(int(np.count_nonzero(~np.isfinite(s))) for s in samples if s.dtype.kind == "f")
    if bad:
        raise NoiseError(
            f"{bad} of the sampled voxels are NaN or infinite; replace them by numbers"
        )
    floor = min(float(sample.min()) for sample in samples)
    ceiling = max(float(sample.max()) for sample in samples)
    if floor == ceiling:
        raise refusal(f"every sampled voxel has the value {floor:g}")
    return floor, ceiling


def _fit(
    samples: Sequence[Samples], floor: float, ceiling: float, residual: Residual
) -> tuple[Line, Cells]:
    """Fit the line to the cells of all samples; return these, too."""
    parts = [residual.cells(sample, floor, ceiling) for sample in samples]
    cells = Cells(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
    return fit(cells.where(cells.variance > 0), reference(residual)), cells


def _model(line: Line, floor: float) -> NoiseModel:
    """Turn the line into a model, or refuse what no camera does."""
    if line.scatter > _MAX_SCATTER:
        raise refusal(
            f"the variance does not follow the mean, it scatters by {line.scatter:.0%} of the line"
        )
    fall = -line.gain * float(np.ptp(line.means))
    if line.gain < -3 * line.gain_error and fall > 0.1 * line.level:
        raise refusal(f"the variance falls with the mean, with a gain of {line.gain:.3g}")
    if line.gain < 2 * line.gain_error:
        return NoiseModel.gaussian(sqrt(line.level))
    darkest = float(line.at(line.means.min()))
    if darkest <= 0:
        raise refusal(f"the line gives a variance of {darkest:.3g} where the image is darkest")
    return NoiseModel.poisson_gaussian(line.gain, float(line.at(-floor)))
