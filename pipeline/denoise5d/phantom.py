"""Synthetic images with a known truth: a light-sheet embryo, its camera, and simpler structures.

The embryo is analytic: every voxel follows from its coordinates. Any box of an image of any size
can be rendered alone, in memory proportional to the box, and equals the same box of the whole::

    lattice of cells ──> nearest and second nearest nucleus ──> nuclei, membranes, haze ──> blur
    (jittered, moving)   (in a window around each nucleus)      (times the light sheet)     (optics)

Intensities of the truth are photons; `camera` turns them into grey levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from denoise5d.geometry import Box, Index

Floats: TypeAlias = NDArray[np.float32]

_SPACING = np.array([7.0, 14.0, 14.0])
"""Distance of neighbouring cells in voxels along Z, Y, X: planes lie further apart than pixels."""

_BLUR = (0.8, 1.2, 1.2)
"""Standard deviation of the optics' blur in voxels along Z, Y, X."""

_WINDOW = 1.5
"""A cell is looked at within this many spacings of its nucleus."""

_MIXTURE = ((1.0, 0.3), (0.12, 1.0))
"""Weights of nuclei and membranes in even and in odd channels."""


@dataclass(frozen=True, slots=True)
class Embryo:
    """An ellipsoid of moving cells with two cavities in an empty, dark volume.

    Attributes
    ----------
    shape : Index
        Shape of the whole image, TCZYX. With one plane it is a section through the middle.
    seed : int
        Two embryos of the same shape and seed are the same.
    peak : float
        Photons in the brightest nuclei, about.
    background : float
        Photons outside the embryo.
    """

    shape: Index
    seed: int = 0
    peak: float = 200.0
    background: float = 0.2

    def render(self, box: Box) -> Floats:
        """Return the true photons in `box`.

        Parameters
        ----------
        box : Box
            Any part of the image.

        Returns
        -------
        ndarray of float32, shape ``box.shape``
            Photons; the same values whichever box a voxel is rendered with.

        Raises
        ------
        ValueError
            The box is not inside the image.
        """
        if not Box.whole(self.shape).contains(box):
            raise ValueError(f"box {box.start} .. {box.stop} is not inside {self.shape}")
        out = np.empty(box.shape, np.float32)
        cells = _cells(self)
        for i, t in enumerate(range(box.start[0], box.stop[0])):
            nuclei, membranes, haze = _structures(self, cells.at(t), box)
            for j, c in enumerate(range(box.start[1], box.stop[1])):
                a, b = _MIXTURE[c % len(_MIXTURE)]
                light = np.float32(a) * nuclei + np.float32(b) * membranes + haze
                out[i, j] = self.background + self.peak * _trimmed_blur(light)
        return out


def embryo(shape: Index, *, seed: int = 0, peak: float = 200.0, background: float = 0.2) -> Floats:
    """Return a whole `Embryo` as photons, float32 of `shape`."""
    return Embryo(shape, seed, peak, background).render(Box.whole(shape))


def camera(
    truth: NDArray[np.floating],
    *,
    gain: float = 3.92,
    black: float = 100.0,
    read_noise: float = 2.0,
    seed: int | Sequence[int] = 0,
) -> NDArray[np.uint16]:
    """Photograph a truth: ``gain · Poisson(truth) + black + read_noise · Normal``.

    The variance is ``gain · mean + offset`` with ``offset = read_noise² − gain · black``; the
    defaults are those of the light-sheet embryo, gain 3.92 and offset −388.

    Parameters
    ----------
    truth : ndarray of float
        Photons, any shape.
    gain, black, read_noise : float
        Grey levels a photon, grey level of the dark, and standard deviation in grey levels.
    seed : int or sequence of int
        Give every part of a larger image its own, such as ``(seed, t, c)``.

    Returns
    -------
    ndarray of uint16
        Grey levels, rounded and clipped.
    """
    rng = np.random.default_rng(seed)
    out = np.empty(truth.shape, np.uint16)
    for part in np.ndindex(truth.shape[:-2]):
        photons = rng.poisson(truth[part])
        grey = gain * photons + rng.normal(black, read_noise, photons.shape)
        out[part] = np.clip(np.rint(grey), 0, 65535)
    return out


def texture(shape: Index, *, seed: int = 0, grain: float = 2.0, peak: float = 200.0) -> Floats:
    """Return a rough texture on a bright-to-dark ramp along X: photons, float32 of `shape`.

    Parameters
    ----------
    shape : Index
        Shape of the image, TCZYX.
    seed : int
        Seed of the texture.
    grain : float
        Standard deviation in voxels of the blur that makes the texture from white noise.
    peak : float
        Photons at the bright end.
    """
    rng = np.random.default_rng(seed)
    field = rng.standard_normal(shape, np.float32)
    for axis in (0, 2, 3, 4):
        if shape[axis] > 1:
            field = _blur(field, axis, grain, wrap=True)
    field *= np.float32(0.25 / max(float(field.std()), 1e-6))
    ramp = np.linspace(0.05, 1.0, shape[-1], dtype=np.float32)
    return np.float32(peak) * ramp * np.clip(1 + field, 0, None)


def filaments(shape: Index, *, seed: int = 0, count: int = 40, peak: float = 200.0) -> Floats:
    """Return curved threads that drift in time on a dark ground: photons, float32 of `shape`.

    Parameters
    ----------
    shape : Index
        Shape of the image, TCZYX.
    seed : int
        Seed of the threads.
    count : int
        Number of threads.
    peak : float
        Photons in the brightest threads, about.
    """
    rng = np.random.default_rng(seed)
    size = np.array(shape[2:], float)
    s = np.linspace(-1, 1, 4 * max(shape))[:, None]
    out = np.zeros(shape, np.float32)
    for _ in range(count):
        middle, slope, bend, drift = rng.uniform(-0.5, 0.5, (4, 3)) * size
        level = rng.uniform(0.3, 1)
        for t in range(shape[0]):
            line = size / 2 + middle + s * slope + s * s * bend + 0.02 * t * drift
            at = np.rint(line).astype(int)
            at = at[np.all((at >= 0) & (at < size), axis=1)]
            out[t, :, *at.T] = level
    for axis, sigma in zip((2, 3, 4), _BLUR, strict=True):
        if shape[axis] > 1:
            out = _blur(out, axis, sigma, wrap=True)
    out *= np.float32(peak / max(float(out.max()), 1e-6))
    return out + np.float32(0.01 * peak)


@dataclass(frozen=True, slots=True)
class _Cells:
    """Cells at one time, or (from `_cells`) at rest, as arrays with one row a cell.

    Attributes
    ----------
    centres, radii : ndarray, shape (n, 3)
        Centres and semi-axes of the nuclei in voxels Z, Y, X.
    levels : ndarray, shape (n,)
        Brightness of the nuclei, at most 1.
    waves : ndarray, shape (n, 3, 4)
        Three waves of chromatin a nucleus: Z, Y, X in radians a voxel, and the phase.
    sway : ndarray, shape (n, 3)
        Phases of the cell's own movement.
    middle : ndarray, shape (3,)
        Centre of the embryo, about which it turns.
    """

    centres: NDArray[np.float64]
    radii: NDArray[np.float64]
    levels: NDArray[np.float64]
    waves: NDArray[np.float64]
    sway: NDArray[np.float64]
    middle: NDArray[np.float64]

    def at(self, t: int) -> _Cells:
        """Return the cells at frame `t`: the embryo turns slowly and each cell sways."""
        angle = 0.004 * t
        cos, sin = np.cos(angle), np.sin(angle)
        turned = (self.centres - self.middle) @ np.array([[1, 0, 0], [0, cos, sin], [0, -sin, cos]])
        sway = 0.12 * _SPACING * np.sin(0.35 * t + self.sway)
        return replace(self, centres=self.middle + turned + sway)


def _body(shape: Index) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the embryo's centre and semi-axes in voxels, Z, Y, X."""
    size = np.array(shape[2:], float)
    semi = size * np.array([0.42, 0.36, 0.43])
    if shape[2] == 1:
        semi[0] = 4 * _SPACING[0]
    return (size - 1) / 2, semi


@lru_cache(maxsize=1)
def _cells(embryo: Embryo) -> _Cells:
    """Return all cells at rest: a jittered lattice in the body, outside its two cavities."""
    rng = np.random.default_rng(embryo.seed)
    middle, semi = _body(embryo.shape)
    reach = np.ceil(semi / _SPACING).astype(int)
    lattice = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in reach), indexing="ij"), -1)
    away = (lattice.reshape(-1, 3) + 0.0) * _SPACING
    away[:, 2] += _SPACING[2] / 2 * (lattice[..., 1].ravel() % 2)
    away += _SPACING * rng.uniform(-0.3, 0.3, away.shape)
    place = away / semi
    inside = np.linalg.norm(place, axis=1) < 0.95
    inside &= np.linalg.norm((place - [0, 0.05, -0.4]) / [0.5, 0.4, 0.3], axis=1) > 1
    inside &= np.linalg.norm((place - [0, 0.0, 0.45]) / [0.4, 0.3, 0.2], axis=1) > 1
    away = away[inside]
    n = len(away)
    waves = rng.normal(0, 1, (n, 3, 4)) * [*(8.0 / _SPACING), np.pi]
    return _Cells(
        centres=middle + away,
        radii=_SPACING * rng.uniform(0.28, 0.42, (n, 3)),
        levels=rng.uniform(0.35, 1.0, n),
        waves=waves,
        sway=rng.uniform(0, 2 * np.pi, (n, 3)),
        middle=middle,
    )


def _structures(embryo: Embryo, cells: _Cells, box: Box) -> tuple[Floats, Floats, Floats]:
    """Return nuclei, membranes and haze in a ZYX box grown by the blur's radius, before blurring.

    The box may reach beyond the image: the phantom goes on there, so that its border is no edge.
    """
    halo = np.array([_radius(sigma) for sigma in _BLUR])
    start, stop = np.array(box.start[2:]) - halo, np.array(box.stop[2:]) + halo
    grid = [np.arange(a, b, dtype=np.float32) for a, b in zip(start, stop, strict=True)]
    nuclei = np.zeros(tuple(stop - start), np.float32)
    first = np.full_like(nuclei, _WINDOW)
    second = np.full_like(nuclei, _WINDOW)
    low = np.floor(cells.centres - _WINDOW * _SPACING).astype(int)
    high = np.ceil(cells.centres + _WINDOW * _SPACING).astype(int) + 1
    for i in np.flatnonzero(np.all((high > start) & (low < stop), axis=1)):
        begin, end = np.maximum(low[i], start) - start, np.minimum(high[i], stop) - start
        window = tuple(slice(a, b) for a, b in zip(begin, end, strict=True))
        z, y, x = (axis[s] for axis, s in zip(grid, window, strict=True))
        offsets = (z - cells.centres[i, 0], y - cells.centres[i, 1], x - cells.centres[i, 2])
        distance = np.sqrt(_squares(offsets, _SPACING))
        nearest, further = first[window], second[window]
        np.minimum(further, np.maximum(nearest, distance), out=further)
        np.minimum(nearest, distance, out=nearest)
        nucleus = _soft(np.sqrt(_squares(offsets, cells.radii[i])), 1.0, 0.06)
        nucleus *= np.float32(cells.levels[i]) * _chromatin(offsets, cells.waves[i])
        np.maximum(nuclei[window], nucleus, out=nuclei[window])
    middle, semi = _body(embryo.shape)
    place = np.sqrt(_squares([a - m for a, m in zip(grid, middle, strict=True)], semi))
    sheet = _sheet(grid, middle, semi)
    wall = np.exp(-(((second - first) / np.float32(0.09)) ** 2)) * _soft(first, 0.8, 0.04)
    return nuclei * sheet, np.float32(0.6) * wall * sheet, 0.04 * _soft(place, 1.0, 0.05) * sheet


def _squares(offsets: Sequence[NDArray[np.float64]], scale: NDArray[np.float64]) -> Floats:
    """Return the squared length of ``offset / scale`` on the ZYX grid of three offset vectors."""
    z, y, x = (((o / s) ** 2).astype(np.float32) for o, s in zip(offsets, scale, strict=True))
    total: Floats = z[:, None, None] + y[:, None] + x
    return total


def _soft(distance: Floats, edge: float, width: float) -> Floats:
    """Return 1 below `edge` and 0 above it, with a soft step of `width`."""
    step: Floats = 1 / (1 + np.exp(np.clip((distance - np.float32(edge)) / width, -30, 30)))
    return step.astype(np.float32)


def _chromatin(offsets: Sequence[NDArray[np.float64]], waves: NDArray[np.float64]) -> Floats:
    """Return a nucleus's texture, between about 0.6 and 1.2: three plane waves."""
    total = np.zeros([len(o) for o in offsets], np.float32)
    for *frequency, phase in waves:
        z, y, x = (np.exp(1j * f * o) for f, o in zip(frequency, offsets, strict=True))
        plane = np.exp(1j * phase) * z[:, None, None] * (y[:, None] * x)
        total += plane.real.astype(np.float32)
    return np.float32(0.9) + np.float32(0.12) * total


def _sheet(
    grid: Sequence[Floats], middle: NDArray[np.float64], semi: NDArray[np.float64]
) -> Floats:
    """Return how much light arrives: less with depth (Z) and with the way through (X)."""
    depth = np.exp(-0.35 * (1 + (grid[0] - middle[0]) / semi[0]))
    along = np.exp(-0.2 * (1 + (grid[2] - middle[2]) / semi[2]))
    light: Floats = (depth[:, None, None] * along).astype(np.float32)
    return light


def _radius(sigma: float) -> int:
    """Return the radius in voxels at which a Gaussian of `sigma` is cut off."""
    return int(np.ceil(3 * sigma))


def _blur(field: Floats, axis: int, sigma: float, *, wrap: bool) -> Floats:
    """Blur along `axis`, around the border or (``wrap=False``) shorter by a radius on each side."""
    radius = _radius(sigma)
    if wrap:
        width = [(0, 0)] * field.ndim
        width[axis] = (radius, radius)
        field = np.pad(field, width, mode="wrap")
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel = (kernel / kernel.sum()).astype(np.float32)
    moved = np.moveaxis(field, axis, 0)
    length = moved.shape[0] - 2 * radius
    out = np.zeros((length, *moved.shape[1:]), np.float32)
    for k, weight in enumerate(kernel):
        out += weight * moved[k : k + length]
    return np.moveaxis(out, 0, axis)


def _trimmed_blur(light: Floats) -> Floats:
    """Blur by the optics and trim the radius that `_structures` added."""
    for axis, sigma in enumerate(_BLUR):
        light = _blur(light, axis, sigma, wrap=False)
    return light
