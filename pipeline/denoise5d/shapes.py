"""The search for the best shape of a block: plain integers in, a shape out.

The expected wall time of an image cut into blocks is::

    time ~ (rounds - 1) * (padded voxels of a block, on average) + (those of the largest block)

with ``rounds = ceil(blocks / workers)``: for equal blocks ``redundancy * rounds / blocks``. Large
blocks have little redundancy, but fewer blocks than workers leave some of these idle, and a ragged
last block leaves the others waiting for the largest.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate, product
from math import prod
from typing import NamedTuple

from denoise5d.geometry import BlockGrid, Index, as_index, padded_lengths

BLOCKS_A_WORKER = 4
"""Blocks that every worker should get: what is lost with one block is then little."""

_MORE_BLOCKS_MAY_COST = 1.1
_OUTWARDS = (4, 3, 2, 0)  # the axes of a block that may be grown, the innermost first


def fastest_shape(
    image_shape: Index, unit: Index, halo: Index, *, room: int, workers: int
) -> Index | None:
    """Return the shape of least expected wall time among those that fit.

    Shapes of at least `BLOCKS_A_WORKER` blocks a worker are preferred where that costs less than a
    tenth. Of equally fast shapes that of fewer blocks is taken, then the one that needs least
    memory, then the one that is cut along the outer axes.

    Parameters
    ----------
    image_shape, unit, halo : Index
        Image, write unit and halo in voxels.
    room : int
        Voxels of the largest padded block that fits a worker.
    workers : int
        Blocks in work at the same time.

    Returns
    -------
    Index or None
        Shape of a core: whole write units, or the image's length, on every axis; one write unit
        along C, since channels are denoised one by one. None: no shape fits.
    """
    outer, inner = _outer_and_inner(image_shape, unit, halo)
    best = _fastest(outer, inner, room, workers, 1)
    if best is None:
        return None
    many = _fastest(outer, inner, room, workers, BLOCKS_A_WORKER * workers)
    if many and many.time(workers) < _MORE_BLOCKS_MAY_COST * best.time(workers):
        best = many
    return as_index(best.lengths)


def largest_shape(image_shape: Index, unit: Index, halo: Index, *, room: int) -> Index | None:
    """Return a shape of most voxels that fits: no axis but C could be longer by a write unit.

    Parameters and result are those of `fastest_shape`.
    """
    outer, inner = _outer_and_inner(image_shape, unit, halo)
    inner.sort(key=lambda split: prod(split.lengths), reverse=True)
    first_fits = [
        (a, next((b for b in inner if a.largest * b.largest <= room), None)) for a in outer
    ]
    fitting = [as_index((*a.lengths, *b.lengths)) for a, b in first_fits if b is not None]
    if not fitting:
        return None
    shape = max(fitting, key=lambda lengths: (prod(lengths), lengths))
    for axis in _OUTWARDS:
        while shape[axis] < image_shape[axis]:
            lengths = list(shape)
            lengths[axis] += unit[axis]
            grown = as_index([min(b, n) for b, n in zip(lengths, image_shape, strict=True)])
            if prod(BlockGrid(image_shape, grown, halo).largest_padded) > room:
                break
            shape = grown
    return shape


class _Split(NamedTuple):
    """One way to cut one axis, or several together, into blocks of equal length."""

    lengths: tuple[int, ...]  # of a core, axis by axis
    blocks: int
    padded: int  # voxels of all padded blocks together
    largest: int  # voxels of the largest padded block

    def time(self, workers: int) -> float:
        """Return the expected wall time, in voxels of all workers together; >= `padded`."""
        rounds = -(-self.blocks // workers)
        voxels = (rounds - 1) * self.padded + self.largest * self.blocks
        return workers * voxels / self.blocks  # one division: equal times are equal floats


def _fastest(
    outer: list[_Split], inner: list[_Split], room: int, workers: int, fewest: int
) -> _Split | None:
    """Return the fastest of all pairs that fit `room` and make `fewest` blocks or more.

    Of equally fast ones that with fewer blocks, then the one that needs least memory, then the one
    that is cut along the outer axes. No time is below the padded voxels: with `inner` sorted by
    these, a search ends where they exceed the best time found.
    """
    by_size = sorted(inner, key=lambda split: split.largest)
    sizes = [split.largest for split in by_size]
    least_up_to = list(accumulate(((split.padded, split.blocks) for split in by_size), min))
    best: tuple[float, int, int, _Split] | None = None
    for a in outer:
        fitting = bisect_right(sizes, room // a.largest)
        if not fitting:
            continue
        padded, blocks = least_up_to[fitting - 1]
        if best and (float(a.padded * padded), a.blocks * blocks) > best[:2]:
            continue
        for b in inner:
            if best and (float(a.padded * b.padded), a.blocks * b.blocks) > best[:2]:
                break
            if a.largest * b.largest <= room and a.blocks * b.blocks >= fewest:
                pair = _together(a, b)
                found = (pair.time(workers), pair.blocks, pair.largest, pair)
                best = min(best, found) if best else found
    return best[3] if best else None


def _outer_and_inner(
    image_shape: Index, unit: Index, halo: Index
) -> tuple[list[_Split], list[_Split]]:
    """Return all ways to cut T, C and Z, and all to cut Y and X, the least redundant first.

    Channels are denoised one by one: there is nothing to gain from several of them in a block.
    """
    t, c, z, y, x = (_splits(*numbers) for numbers in zip(image_shape, unit, halo, strict=True))
    outer = [_together(*splits) for splits in product(t, c[-1:], z)]
    inner = [_together(*splits) for splits in product(y, x)]
    for splits in (outer, inner):
        splits.sort(key=lambda split: (split.padded, split.blocks, split))
    return outer, inner


def _splits(length: int, unit: int, halo: int) -> list[_Split]:
    """Return the even ways to cut an axis into blocks of whole write units, longest first.

    Of all lengths that lead to the same number of blocks only the shortest is of interest. Lengths
    closer than 15 % to the one before are left out: so an axis of thousands of units has some
    dozens, and one of up to about 30 units has them all.
    """
    units = -(-length // unit)
    splits, size = [], units
    while True:
        core = min(size * unit, length)
        splits.append(_Split((core,), -(-length // core), *padded_lengths(length, core, halo)))
        if size == 1:
            return splits
        at_most = min(size - 1, int(size / 1.15))
        size = -(-units // -(-units // at_most))


def _together(*splits: _Split) -> _Split:
    lengths, blocks, padded, largest = zip(*splits, strict=True)
    return _Split(sum(lengths, ()), prod(blocks), prod(padded), prod(largest))
