"""Boxes of voxels and blocks of an image: plain integers, no data.

A block owns its *core* and reads its *padded* box, the core grown by the *halo* and cut at the
image's border::

      image border
      ┌───────────────────────────────┐
      │   padded                      │
      │   ┌───────────────────┐       │
      │   │ halo              │       │       At a border of the image there is no halo:
      │   │   ┌───────────┐   │       │       the kernel mirrors there, and only there.
      │   │   │   core    │   │       │
      │   │   └───────────┘   │       │
      │   └───────────────────┘       │
      └───────────────────────────────┘

All coordinates are voxels in the order T, C, Z, Y, X.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import TypeAlias

AXES = "TCZYX"
NDIM = len(AXES)

Index: TypeAlias = tuple[int, int, int, int, int]
"""One integer for each of T, C, Z, Y, X."""


def as_index(values: tuple[int, ...] | list[int]) -> Index:
    """Return five integers as an `Index`; raise ValueError for any other number of them."""
    t, c, z, y, x = (int(value) for value in values)
    return t, c, z, y, x


@dataclass(frozen=True, slots=True)
class Box:
    """A half-open box of voxels: ``start <= index < stop`` on every axis.

    Attributes
    ----------
    start, stop : Index
        First voxel inside and first voxel beyond, TCZYX.
    """

    start: Index
    stop: Index

    def __post_init__(self) -> None:
        if any(b < a for a, b in zip(self.start, self.stop, strict=True)):
            raise ValueError(f"box ends before it starts: {self.start} .. {self.stop}")

    @classmethod
    def whole(cls, shape: Index) -> Box:
        """Return the box of a whole image of `shape`."""
        return cls((0, 0, 0, 0, 0), shape)

    @property
    def shape(self) -> Index:
        """Length of every axis in voxels."""
        return as_index([b - a for a, b in zip(self.start, self.stop, strict=True)])

    @property
    def voxels(self) -> int:
        """Number of voxels inside."""
        return prod(self.shape)

    @property
    def slices(self) -> tuple[slice, ...]:
        """The box as slices of an array of the whole image."""
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop, strict=True))

    def contains(self, other: Box) -> bool:
        """Tell whether every voxel of `other` is inside."""
        return all(
            a <= c and d <= b
            for a, b, c, d in zip(self.start, self.stop, other.start, other.stop, strict=True)
        )

    def grown(self, halo: Index, image_shape: Index) -> Box:
        """Return the box with `halo` voxels more on both sides, cut at the image's border."""
        start = [max(0, a - h) for a, h in zip(self.start, halo, strict=True)]
        stop = [min(n, b + h) for b, h, n in zip(self.stop, halo, image_shape, strict=True)]
        return Box(as_index(start), as_index(stop))

    def within(self, other: Box) -> Box:
        """Return what lies in both boxes; raise ValueError if they do not meet."""
        start = [max(a, b) for a, b in zip(self.start, other.start, strict=True)]
        stop = [min(a, b) for a, b in zip(self.stop, other.stop, strict=True)]
        return Box(as_index(start), as_index(stop))

    def relative_to(self, origin: Index) -> Box:
        """Return the same box in coordinates that begin at `origin`."""
        start = [a - o for a, o in zip(self.start, origin, strict=True)]
        stop = [b - o for b, o in zip(self.stop, origin, strict=True)]
        return Box(as_index(start), as_index(stop))

    def tiles(self, unit: Index) -> Iterator[Box]:
        """Yield the cells of the lattice of `unit`-sized boxes, anchored at 0, cut to this box.

        The image's write units that a core covers, for one: in C order, the last ones ragged.
        """
        if not self.voxels:
            return
        ranges = [
            range(a - a % u, b, u) for a, b, u in zip(self.start, self.stop, unit, strict=True)
        ]
        for corner in product(*ranges):
            start = [max(a, c) for a, c in zip(self.start, corner, strict=True)]
            stop = [min(b, c + u) for b, c, u in zip(self.stop, corner, unit, strict=True)]
            yield Box(as_index(start), as_index(stop))


def in_channel(box: Box, channel: int) -> Box:
    """Return the same box in one channel alone."""
    (t, _, *start), (u, _, *stop) = box.start, box.stop
    return Box(as_index((t, channel, *start)), as_index((u, channel + 1, *stop)))


_STEPS = tuple(1.1347241384015194 ** -(axis + 1) for axis in range(NDIM))
"""Steps of an additive low-discrepancy sequence in five dimensions; the root of x⁶ = x + 1."""


def spread_boxes(image_shape: Index, lengths: Index, count: int) -> list[Box]:
    """Return boxes of one shape, spread evenly over an image by a low-discrepancy sequence.

    Parameters
    ----------
    image_shape, lengths : Index
        Of the image and of each box, in voxels; no box is longer than the image.
    count : int
        How many; they may overlap, and in a small image be equal.
    """
    places = [n - length + 1 for n, length in zip(image_shape, lengths, strict=True)]
    boxes = []
    for k in range(count):
        start = [int((0.5 + k * s) % 1 * n) for s, n in zip(_STEPS, places, strict=True)]
        stop = [a + length for a, length in zip(start, lengths, strict=True)]
        boxes.append(Box(as_index(start), as_index(stop)))
    return boxes


@dataclass(frozen=True, slots=True)
class Block:
    """One task's share of the image.

    Attributes
    ----------
    index : int
        Number of the block in C order of the grid, from 0.
    core : Box
        The voxels that the block owns and writes.
    padded : Box
        The voxels that it reads: the core and its halo.
    """

    index: int
    core: Box
    padded: Box


@dataclass(frozen=True, slots=True)
class BlockGrid:
    """All blocks of an image, each computed from its number: ten million cost nothing.

    Attributes
    ----------
    image_shape : Index
        Shape of the image in voxels.
    block_shape : Index
        Shape of a core in voxels; the last ones on an axis may be shorter.
    halo : Index
        Voxels read around the core on both sides.
    """

    image_shape: Index
    block_shape: Index
    halo: Index

    def __post_init__(self) -> None:
        if min(self.image_shape) < 1 or min(self.block_shape) < 1 or min(self.halo) < 0:
            raise ValueError(f"impossible grid: {self}")

    @property
    def counts(self) -> Index:
        """Number of blocks along every axis."""
        pairs = zip(self.image_shape, self.block_shape, strict=True)
        return as_index([-(-n // b) for n, b in pairs])

    def __len__(self) -> int:
        return prod(self.counts)

    def __getitem__(self, index: int) -> Block:
        if not 0 <= index < len(self):
            raise IndexError(f"block {index} of {len(self)}")
        rest, cell = index, [0] * NDIM
        for axis in reversed(range(NDIM)):
            rest, cell[axis] = divmod(rest, self.counts[axis])
        start = [c * b for c, b in zip(cell, self.block_shape, strict=True)]
        sizes = zip(start, self.block_shape, self.image_shape, strict=True)
        core = Box(as_index(start), as_index([min(n, a + b) for a, b, n in sizes]))
        return Block(index, core, core.grown(self.halo, self.image_shape))

    def index_of(self, voxel: Index) -> int:
        """Return the number of the block that owns a voxel of the image."""
        index = 0
        for place, length, count in zip(voxel, self.block_shape, self.counts, strict=True):
            index = index * count + place // length
        return index

    def __iter__(self) -> Iterator[Block]:
        return (self[index] for index in range(len(self)))

    @property
    def largest_padded(self) -> Index:
        """Shape of the largest padded box, axis by axis."""
        return as_index([largest for _, largest in self._padded_lengths()])

    @property
    def padded_voxels(self) -> int:
        """Voxels read by all blocks together."""
        return prod(total for total, _ in self._padded_lengths())

    @property
    def redundancy(self) -> float:
        """Padded voxels over core voxels, at least 1."""
        return self.padded_voxels / prod(self.image_shape)

    def _padded_lengths(self) -> Iterator[tuple[int, int]]:
        axes = zip(self.image_shape, self.block_shape, self.halo, strict=True)
        return (padded_lengths(n, b, h) for n, b, h in axes)


def padded_lengths(length: int, block: int, halo: int) -> tuple[int, int]:
    """Return the sum and the maximum of the padded lengths of all blocks along one axis.

    In closed form, so that an axis of a million blocks costs what an axis of one does.

    Parameters
    ----------
    length, block, halo : int
        Length of the axis, of a core and of the halo, in voxels.

    Returns
    -------
    total, largest : int
        In voxels; at least `length`, and at most `length`.
    """
    count = -(-length // block)
    # Block i begins at max(0, i * block - halo): the sum over the blocks that do not begin at 0 ...
    first = min(count, halo // block + 1)
    begins = _sum_of_range(first, count) * block - (count - first) * halo
    # ... and ends at min(length, (i + 1) * block + halo): short of the end by `gap` - i * block.
    gap = length - block - halo
    short = max(0, -(-gap // block))
    ends = length * count - (gap * short - _sum_of_range(0, short) * block)

    # The padded length is concave in the start of the core and has its maximum where the halo
    # just is not cut, on the left or on the right: one of the two blocks beside it is the largest.
    peak = max(0, min(halo, gap)) // block
    starts = [min(i, count - 1) * block for i in (peak, peak + 1)]
    largest = max(min(length, a + block + halo) - max(0, a - halo) for a in starts)
    return ends - begins, largest


def _sum_of_range(start: int, stop: int) -> int:
    """Return the sum of the integers ``start <= i < stop``, for ``0 <= start <= stop``."""
    return (stop - start) * (start + stop - 1) // 2
