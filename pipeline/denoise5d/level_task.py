"""Blocks of a pyramid's level in a worker: read what is below, take the mean, write, compare.

A block of a level is whole write units, and is made tile by tile: a tile is what whole chunks of
the level below give. So no more is held than the block and a few chunks, however large its files
are. One block is read while another one is written::

    thread 1   read A | write, verify A | read C          | write, verify C ...
    thread 2            read B          | write, verify B | read D          ...
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod
from threading import Lock

import numpy as np

from denoise5d.downsample import block_mean
from denoise5d.geometry import Box
from denoise5d.layout import FLOAT32_BYTES
from denoise5d.levels import PyramidLevel
from denoise5d.store import Output, open_output
from denoise5d.writing import (
    SMALL_BYTES,
    Array,
    Checksums,
    Clock,
    PassWorker,
    Target,
    Undone,
    each,
)


@dataclass(frozen=True, slots=True)
class LevelSettings:
    """What all blocks of a level have in common.

    Attributes
    ----------
    target : Target
        Where the level goes.
    level : PyramidLevel
        Its shape and blocks, and how it is made of the level below.
    padded_bytes : int
        The largest padded block of the image in float32, which a worker's memory is measured by.
    """

    target: Target
    level: PyramidLevel
    padded_bytes: int


class LevelWorker(PassWorker):
    """What a worker does with the blocks of a level.

    Parameters
    ----------
    settings : LevelSettings
        Of the level.
    """

    def __init__(self, settings: LevelSettings) -> None:
        super().__init__(settings.target)
        self._level = settings.level
        self._padded_bytes = settings.padded_bytes
        self._writing = Lock()

    @cached_property
    def _below(self) -> Output:
        return open_output(self._target.path, self._level.number - 1)

    def _do(self, index: int, clock: Clock, seconds: float) -> Checksums | Undone:
        """Do one block; see `run`. The mean is counted with the reading."""
        core = self._level.grid[index].core
        values = np.empty(core.shape, self._output.dtype)

        def make(tile: Box) -> None:
            values[tile.relative_to(core.start).slices] = level_voxels(
                self._below, self._level, tile
            )

        each(make, list(core.tiles(self._level.tile)), self._tiles_at_once())
        clock.lap("read")
        with self._writing:
            if undone := self._undone(seconds):
                return undone
            clock.lap("wait")
            return self._written(core, values, clock)

    def _tiles_at_once(self) -> int:
        """Return how many tiles may be in work: what is read is an eighth of a block, or little."""
        source = prod(self._level.tile) * prod(self._level.step)
        few = self._padded_bytes // (8 * FLOAT32_BYTES) + SMALL_BYTES // self._output.dtype.itemsize
        return min(self._target.io_threads, max(1, few // source))


def level_voxels(below: Output, level: PyramidLevel, box: Box) -> Array:
    """Return the voxels of a box of a level, from the level below it."""
    return block_mean(below.read(level.source(box)), level.step)
