"""Truths of many kinds, in photons, that have nothing in common but the optics.

Each generator draws on a canvas a margin larger than the image, blurs it as a microscope would and
cuts the margin off, so that structures go on beyond the border. Positions are continuous and move
by `speed` voxels a frame; 0 keeps everything still. Values lie between 0 and about 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial import cKDTree

Floats: TypeAlias = NDArray[np.float32]
Shape: TypeAlias = tuple[int, int, int, int]  # T, Z, Y, X
Draw: TypeAlias = Callable[[np.random.Generator, "Canvas", float], Floats]

MARGIN = (4, 8, 8)
"""Voxels drawn beyond the image along Z, Y, X."""

BLUR = (0.7, 1.1, 1.1)
"""Standard deviation of the optics' blur in voxels along Z, Y, X."""


class Canvas:
    """Coordinates of a volume with its margin, and the empty film over it."""

    def __init__(self, shape: Shape) -> None:
        self.frames, *inner = shape
        self.margin = tuple(m if n > 1 else 0 for m, n in zip(MARGIN, inner, strict=True))
        self.size = tuple(n + 2 * m for n, m in zip(inner, self.margin, strict=True))

    def empty(self) -> Floats:
        return np.zeros((self.frames, *self.size), np.float32)

    def points(self) -> Floats:
        """All voxels of a volume as rows Z, Y, X."""
        return np.indices(self.size, np.float32).reshape(3, -1).T

    def random(self, rng: np.random.Generator, count: int) -> NDArray[np.float64]:
        return rng.uniform(0, 1, (count, 3)) * self.size

    def count(self, voxels_each: float) -> int:
        return max(1, round(float(np.prod(self.size)) / voxels_each))

    def velocities(self, rng: np.random.Generator, count: int, speed: float) -> NDArray[np.float64]:
        """Voxels a frame along Z, Y, X; slower in Z, whose planes lie further apart."""
        direction = rng.normal(size=(count, 3)) * (0.4 * (self.size[0] > 1), 1, 1)
        length = np.linalg.norm(direction, axis=1, keepdims=True) + 1e-9
        return speed * direction / length * rng.uniform(0.5, 1.5, (count, 1))

    def finish(self, film: Floats) -> Floats:
        """Blur by the optics and cut the margin off."""
        sigma = [b if n > 1 else 0 for b, n in zip(BLUR, self.size, strict=True)]
        film = gaussian_filter(film, (0, *sigma), mode="nearest", truncate=4)
        inner = [slice(m, n - m) for m, n in zip(self.margin, self.size, strict=True)]
        return np.ascontiguousarray(film[:, *inner])


def phantom(kind: str, shape: Shape, *, seed: int, speed: float) -> Floats:
    """Render a truth of `kind` (a key of `KINDS`) as T, Z, Y, X between 0 and about 1."""
    canvas = Canvas(shape)
    return canvas.finish(KINDS[kind](np.random.default_rng(seed), canvas, speed))


def blobs(rng: np.random.Generator, canvas: Canvas, speed: float) -> Floats:
    """Soft ellipsoids of many sizes and levels, grainy inside."""
    n = canvas.count(900 if canvas.size[0] > 1 else 150)
    centres, moves = canvas.random(rng, n), canvas.velocities(rng, n, speed)
    radii = rng.uniform(0.5, 1.5, (n, 1)) * rng.uniform(0.7, 1.3, (n, 3)) * (2.5, 4.5, 4.5)
    levels = rng.uniform(0.15, 1, n)
    grain = 1 + 0.3 * _field(rng, canvas.size, 1.5)
    film = canvas.empty()
    for t in range(canvas.frames):
        for centre, radius, level in zip(centres + t * moves, radii, levels, strict=True):
            box, offsets = _around(canvas, centre, 1.6 * radius)
            distance = np.sqrt(sum((o / r) ** 2 for o, r in zip(offsets, radius, strict=True)))
            np.maximum(film[t][box], level / (1 + np.exp(12 * (distance - 1))), out=film[t][box])
        film[t] *= _shifted(grain, t * moves[0])
    return film + np.float32(0.01)


def membranes(rng: np.random.Generator, canvas: Canvas, speed: float) -> Floats:
    """Thin walls between irregular cells, brighter here and dimmer there; dim cell bodies."""
    deep = canvas.size[0] > 1
    n = canvas.count(1500 if deep else 220)
    centres, moves = canvas.random(rng, n), canvas.velocities(rng, n, speed)
    scale = (2.0 if deep else 1.0, 1.0, 1.0)
    levels = rng.uniform(0.3, 1, n)
    film = canvas.empty()
    for t in range(canvas.frames):
        distances, nearest = cKDTree((centres + t * moves) * scale).query(
            canvas.points() * scale, k=2
        )
        wall = np.exp(-(((distances[:, 1] - distances[:, 0]) / 1.2) ** 2))
        light = wall * np.sqrt(levels[nearest[:, 0]] * levels[nearest[:, 1]]) + 0.04
        film[t] = light.reshape(canvas.size)
    return film


def filaments(rng: np.random.Generator, canvas: Canvas, speed: float) -> Floats:
    """Long curved threads, bright and dim ones, that drift and bend."""
    n = canvas.count(5000 if canvas.size[0] > 1 else 700)
    steps = 2 * max(canvas.size)
    turn = np.cumsum(rng.normal(0, 0.05, (n, steps)), 1) + rng.uniform(0, 2 * np.pi, (n, 1))
    tilt = rng.uniform(-0.25, 0.25, (n, 1)) * (canvas.size[0] > 1)
    step = 0.5 * np.stack([np.broadcast_to(tilt, turn.shape), np.sin(turn), np.cos(turn)], -1)
    path = np.cumsum(step, 1) + canvas.random(rng, n)[:, None]
    moves, levels = canvas.velocities(rng, n, speed), rng.uniform(0.1, 1, n)
    film = canvas.empty()
    for t in range(canvas.frames):
        _splat(film[t], path + t * moves[:, None], np.broadcast_to(levels[:, None], turn.shape))
    bright = 2.5 if canvas.size[0] > 1 else 0.9
    return np.minimum(bright * film, 3) + np.float32(0.01)


def texture(rng: np.random.Generator, canvas: Canvas, speed: float) -> Floats:
    """Roughness at three scales at once on a ramp from dark to bright, drifting as a whole."""
    move = canvas.velocities(rng, 1, speed)[0]
    field = sum(s**0.5 * _field(rng, canvas.size, s) for s in (1.0, 3.0, 9.0))
    ramp = np.linspace(0.05, 1, canvas.size[2], dtype=np.float32)
    return np.stack(
        [
            ramp * np.clip(0.55 + 0.1 * _shifted(field, t * move), 0.02, 1)
            for t in range(canvas.frames)
        ]
    )


def empty(rng: np.random.Generator, canvas: Canvas, speed: float) -> Floats:
    """Next to nothing: a faint haze that fades away, and one bright grainy body in a corner."""
    film = canvas.empty()
    z, y, x = np.indices(canvas.size, np.float32)
    haze = 0.02 + 0.02 * np.exp(-x / (0.5 * canvas.size[2]))
    body = 0.8 + 0.2 * _field(rng, canvas.size, 2)
    size = np.array(canvas.size)
    centre, move = size * (0.5, 0.3, 0.3), canvas.velocities(rng, 1, speed)[0]
    radius = np.maximum(size * (0.3, 0.16, 0.16), 1)
    for t in range(canvas.frames):
        at = centre + t * move
        offsets = ((a - c) / r for a, c, r in zip((z, y, x), at, radius, strict=True))
        distance = np.sqrt(sum(o**2 for o in offsets))
        film[t] = haze + _shifted(body, t * move) / (1 + np.exp(12 * (distance - 1)))
    return film


def shells(rng: np.random.Generator, canvas: Canvas, speed: float) -> Floats:
    """Hollow spheres of thin walls, touching and overlapping, that move and grow."""
    n = canvas.count(2500 if canvas.size[0] > 1 else 300)
    centres, moves = canvas.random(rng, n), canvas.velocities(rng, n, speed)
    radii, growth = rng.uniform(3, 9, n), 1 + 0.02 * speed * rng.uniform(-1, 1, n)
    levels, walls = rng.uniform(0.15, 1, n), rng.uniform(0.5, 1.2, n)
    flat = (0.6, 1.0, 1.0)  # planes lie further apart than pixels
    film = canvas.empty()
    for t in range(canvas.frames):
        for i, centre in enumerate(centres + t * moves):
            radius = radii[i] * growth[i] ** t
            box, offsets = _around(canvas, centre, (radius + 4) * np.array(flat))
            distance = np.sqrt(sum((o / f) ** 2 for o, f in zip(offsets, flat, strict=True)))
            film[t][box] += levels[i] * np.exp(-(((distance - radius) / walls[i]) ** 2))
    return np.minimum(film, 1.5) + np.float32(0.01)


def puncta(rng: np.random.Generator, canvas: Canvas, speed: float) -> Floats:
    """Spots no larger than the optics' blur, walking about on a smooth uneven background."""
    n = canvas.count(1200 if canvas.size[0] > 1 else 130)
    walk = np.cumsum([canvas.velocities(rng, n, speed) for _ in range(canvas.frames)], 0)
    centres, levels = canvas.random(rng, n), rng.uniform(0.1, 1, n)
    background = 0.08 + 0.03 * _field(rng, canvas.size, 8)
    film = canvas.empty()
    strength = 16.0 if canvas.size[0] > 1 else 8.0
    for t in range(canvas.frames):
        _splat(film[t], centres + walk[t], strength * levels)
    return film + np.maximum(background, 0.02)


def muscle(rng: np.random.Generator, canvas: Canvas, speed: float) -> Floats:
    """Fibres with fine cross-stripes whose period and direction change from place to place."""
    size = canvas.size
    y = np.arange(size[1], dtype=np.float32)[:, None] + 4 * _field(rng, size, 10)
    x = np.arange(size[2], dtype=np.float32) + 5 * _field(rng, size, 10)
    fibres = 0.5 + 0.5 * np.tanh(4 * np.cos(2 * np.pi * y / 17))
    period = 6 + _field(rng, size, 12)
    level = np.clip(0.6 + 0.25 * _field(rng, size, 10), 0.1, None)
    frames = []
    for t in range(canvas.frames):
        stripes = 0.5 + 0.5 * np.cos(2 * np.pi * (x + speed * t) / period)
        frames.append((level * fibres * (0.15 + 0.85 * stripes)).astype(np.float32) + 0.02)
    return np.stack(frames)


def cytoplasm(rng: np.random.Generator, canvas: Canvas, speed: float) -> Floats:
    """Flat cells of different levels with sharp outlines and dark gaps, sliding past each other."""
    deep = canvas.size[0] > 1
    n = canvas.count(3500 if deep else 400)
    centres, moves = canvas.random(rng, n), canvas.velocities(rng, n, speed)
    levels = rng.uniform(0.05, 1, n).astype(np.float32)
    scale = (2.0 if deep else 1.0, 1.0, 1.0)
    warp = np.stack([3 * _field(rng, canvas.size, 5) for _ in range(3)], -1).reshape(-1, 3)
    points = (canvas.points() + warp * (deep, 1, 1)) * scale
    film = canvas.empty()
    for t in range(canvas.frames):
        distances, nearest = cKDTree((centres + t * moves) * scale).query(points, k=2)
        inside = distances[:, 1] - distances[:, 0] > 1.5
        film[t] = np.where(inside, levels[nearest[:, 0]], 0.02).reshape(canvas.size)
    return film


KINDS: dict[str, Draw] = {
    draw.__name__: draw
    for draw in (
        blobs, membranes, filaments, texture, empty, shells, puncta, muscle, cytoplasm
    )
}  # fmt: skip


def _field(rng: np.random.Generator, size: tuple[int, ...], grain: float) -> Floats:
    """Return a smooth random field of mean 0 and deviation 1; it repeats at the borders."""
    sigma = [0 if n == 1 else grain * (0.6 if axis == 0 else 1) for axis, n in enumerate(size)]
    field = gaussian_filter(rng.standard_normal(size, np.float32), sigma, mode="wrap")
    return (field - field.mean()) / max(float(field.std()), 1e-6)


def _shifted(field: Floats, by: NDArray[np.float64]) -> Floats:
    """Move a field by parts of a voxel; what leaves it enters on the other side."""
    if not np.any(by):
        return field
    steps = [np.arange(n) - b for n, b in zip(field.shape, by, strict=True)]
    grid = np.stack(np.meshgrid(*steps, indexing="ij"))
    return map_coordinates(field, grid, order=3, mode="grid-wrap").astype(np.float32)


def _around(
    canvas: Canvas, centre: NDArray[np.float64], reach: NDArray[np.float64]
) -> tuple[tuple[slice, ...], list[NDArray[np.float64]]]:
    """Return the box of voxels within `reach` of a point, and their offsets from it."""
    low = np.clip(np.floor(centre - reach).astype(int), 0, canvas.size)
    high = np.clip(np.ceil(centre + reach).astype(int) + 1, low, canvas.size)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    steps = [np.arange(s.start, s.stop) - c for s, c in zip(box, centre, strict=True)]
    if canvas.size[0] == 1:
        steps[0] *= 0  # a section through the middle of everything
    return box, list(np.meshgrid(*steps, indexing="ij"))


def _splat(volume: Floats, points: NDArray[np.float64], values: NDArray[np.float64]) -> None:
    """Add `values` at `points`, each shared by the eight voxels (or four pixels) around it."""
    points, values = points.reshape(-1, 3).copy(), values.ravel()
    if volume.shape[0] == 1:
        points[:, 0] = 0
    base = np.floor(points).astype(int)
    part = points - base
    for corner in np.ndindex(2, 2, 2):
        at = base + corner
        share = values * np.prod(np.where(corner, part, 1 - part), axis=1)
        keep = np.all((at >= 0) & (at < volume.shape), axis=1)
        np.add.at(volume, tuple(at[keep].T), share[keep])
