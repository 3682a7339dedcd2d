"""The levels of a pyramid: how each is made of the one below it. Pure numbers, no I/O.

Level 0 is the image itself. A voxel of a further level is the mean of up to eight voxels below it,
two along each axis that is halved; at an odd end, of those that are there::

    below   | 0 1 | 2 3 | 4 |      scale x 2, and half a voxel of the old ones further
    level   |  0  |  1  | 2 |

Y and X are halved together until neither is longer than 256 voxels, T and C never. Z is halved only
where voxels would otherwise be finer in Z than in Y and X, and only if that brings the two closer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, TypeAlias

from denoise5d.geometry import BlockGrid, Box, Index, as_index
from denoise5d.layout import SPATIAL, TIME, Layout, doubled

Scales: TypeAlias = tuple[float, ...]
"""One number for each of T, C, Z, Y, X."""

SMALLEST_LENGTH = 256
"""A level whose Y and X are no longer has none above it: a viewer shows it as a whole."""

_FOLDERS = 2  # of the array, and "c" in it

_TILE_VOXELS = 2**20
"""A tile is made of up to so many voxels at a time, so that a call of zarr is worth its while."""

_BLOCK_VOXELS = 2**22
"""A block grows up to so many voxels, so that it takes longer than its way to a worker and back."""


@dataclass(frozen=True, slots=True)
class PyramidLevel:
    """One level above the image.

    Attributes
    ----------
    number : int
        From 1; the name of its array.
    below : Index
        Shape of the level below, in its voxels.
    step : Index
        Voxels below that make one here, 1 or 2 on each axis.
    factors : Index
        Voxels of the image that make one here.
    layout : Layout
        How it is cut into files.
    block_shape : Index
        What a worker makes at a time: whole write units.
    tile : Index
        What is made at a time of that: of whole chunks below, so that each is decoded once; of
        several where they are small.
    """

    number: int
    below: Index
    step: Index
    factors: Index
    layout: Layout
    block_shape: Index
    tile: Index

    @property
    def shape(self) -> Index:
        """Shape in voxels: half of those below, rounded up, on the axes that are halved."""
        return _divided(self.below, self.step)

    @property
    def grid(self) -> BlockGrid:
        """Its blocks."""
        return BlockGrid(self.shape, self.block_shape, (0, 0, 0, 0, 0))

    @property
    def header(self) -> dict[str, Any]:
        """What the ledger of a level says of it, as JSON gives it back; another one is not it."""
        layout = self.layout
        return {
            "blocks": len(self.grid),
            "level": self.number,
            "image_shape": list(self.shape),
            "block_shape": list(self.block_shape),
            "step": list(self.step),
            "chunks": list(layout.chunks),
            "shards": None if layout.shards is None else list(layout.shards),
        }

    @property
    def voxels(self) -> int:
        """Number of its voxels."""
        return prod(self.shape)

    @property
    def files(self) -> int:
        """Number of its files: the write units, those of metadata, and a ledger."""
        return self.layout.write_units(self.shape) + self.layout.metadata_files + 1

    @property
    def inodes(self) -> int:
        """Number of these files and their folders."""
        return self.files + self.layout.folders(self.shape) + _FOLDERS

    def source(self, box: Box) -> Box:
        """Return the voxels below that make the voxels of a box."""
        start = [a * s for a, s in zip(box.start, self.step, strict=True)]
        ends = zip(box.stop, self.step, self.below, strict=True)
        return Box(as_index(start), as_index([min(b * s, n) for b, s, n in ends]))

    def scales(self, scales: Scales) -> Scales:
        """Return the distances of voxels, from those of the image."""
        return tuple(s * f for s, f in zip(scales, self.factors, strict=True))

    def translations(self, scales: Scales, translations: Scales | None) -> Scales:
        """Return where its first voxel is: in the middle of those of the image that make it."""
        begins = translations or (0.0,) * len(scales)
        axes = zip(begins, scales, self.factors, strict=True)
        return tuple(t + (f - 1) / 2 * s for t, s, f in axes)


def make_levels(
    image_shape: Index, scales: Scales, *, layout: Layout, core_voxels: int
) -> tuple[PyramidLevel, ...]:
    """Return the levels of an image, each made of the one before it; there may be none.

    Parameters
    ----------
    image_shape : Index
        In voxels.
    scales : tuple of float
        Distances of voxels, TCZYX; those of Z, Y and X are compared as they are.
    layout : Layout
        Of the image. A level has the same chunks and shards, cut where it is smaller.
    core_voxels : int
        Of a block of the image: no block of a level has more, unless its write unit does.
    """
    levels: list[PyramidLevel] = []
    shape, factors, chunks = image_shape, as_index([1] * 5), layout.chunks
    while max(shape[3:]) > SMALLEST_LENGTH:
        step = _step(shape, [s * f for s, f in zip(scales, factors, strict=True)])
        below, shape = shape, _divided(shape, step)
        factors = as_index([f * s for f, s in zip(factors, step, strict=True)])
        own = _clipped(layout, shape)
        block = _grown(own.write_unit, shape, min(_BLOCK_VOXELS, core_voxels))
        whole = [c // s if c % s == 0 else c for c, s in zip(chunks, step, strict=True)]
        tile = _grown(as_index(whole), block, _TILE_VOXELS // prod(step))
        levels.append(PyramidLevel(len(levels) + 1, below, step, factors, own, block, tile))
        chunks = own.chunks
    return tuple(levels)


def _step(shape: Index, scales: Sequence[float]) -> Index:
    """Return how many voxels of a level make one of the next, on each axis."""
    y, x = (2 if n > 1 else 1 for n in shape[3:])
    depth, height, width = scales[2], scales[3] * y, scales[4] * x
    # Twice as deep, a voxel must be closer to as wide as it is deep: 2 z / xy < xy / z.
    z = 2 if shape[2] > 1 and 2 * depth**2 < abs(height * width) else 1
    return 1, 1, z, y, x


def _divided(shape: Index, step: Index) -> Index:
    return as_index([-(-n // s) for n, s in zip(shape, step, strict=True)])


def _clipped(layout: Layout, shape: Index) -> Layout:
    """Return a layout whose chunks and shards are no larger than they need be for a shape."""
    chunks = as_index([min(c, n) for c, n in zip(layout.chunks, shape, strict=True)])
    if layout.shards is None:
        return replace(layout, chunks=chunks)
    lengths = zip(layout.shards, chunks, shape, strict=True)
    shards = as_index([min(s, -(-n // c) * c) for s, c, n in lengths])
    return replace(layout, chunks=chunks, shards=shards)


def _grown(unit: Index, shape: Index, most: int) -> Index:
    """Return as many whole units of a shape as have at most so many voxels, or a single one."""
    covering = as_index([-(-n // u) * u for n, u in zip(shape, unit, strict=True)])
    grown = unit
    while larger := doubled(grown, covering, SPATIAL) or doubled(grown, covering, TIME):
        if prod(larger) > most:
            break
        grown = larger
    return grown
