"""Blocks in a worker, each from start to end: read, denoise, write, read back, compare.

While one block is in the kernel, another one is read, or written and compared. A task may run
twice, or be killed at any point: it writes whole files of its own and says nothing of its success
but by what it returns.
"""

from __future__ import annotations

from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from denoise5d.geometry import Block, BlockGrid
from denoise5d.kernel import denoise_block, team_size
from denoise5d.layout import FLOAT32_BYTES
from denoise5d.noise import NoiseModel
from denoise5d.parameters import Parameters
from denoise5d.sources import open_source
from denoise5d.store import Image, convert_dtype, limit_threads
from denoise5d.writing import Array, Checksums, Clock, PassWorker, Target, Undone, each

BLOCKS_IN_A_WORKER = 2
"""One in the kernel, and one that is read, or written and verified, meanwhile."""

_ROOM = 1.4
"""Padded blocks in float32 that a `memory_factor` of 6 leaves beside the kernel, for any type."""


@dataclass(frozen=True, slots=True)
class TaskSettings:
    """What all blocks of a run have in common; a worker is told once.

    Attributes
    ----------
    input_path : Path
        The image to read.
    axes, dataset : str or None
        As in `denoise5d.sources.open_source`.
    target : Target
        Where the result goes.
    grid : BlockGrid
        All blocks.
    noise : tuple of NoiseModel
        One for each channel.
    parameters : Parameters
        Of the estimator.
    threads : int
        OpenMP threads of the kernel.
    """

    input_path: Path
    axes: str | None
    dataset: str | None
    target: Target
    grid: BlockGrid
    noise: tuple[NoiseModel, ...]
    parameters: Parameters
    threads: int


class BlockWorker(PassWorker):
    """What a worker does with its blocks: one in the kernel, another one beside it.

    As many threads call `run` as blocks may be in the worker::

        thread 1   read A | kernel A         | write, verify A | read C | wait     | kernel C ...
        thread 2            read B | wait    | kernel B                 | write, verify B     ...

    All kernels run in one thread, which is what makes it one at a time. OpenMP keeps a team for
    each thread that ever asked for one, and this way it keeps one.

    Parameters
    ----------
    settings : TaskSettings
        Of the run.
    """

    def __init__(self, settings: TaskSettings) -> None:
        super().__init__(settings.target)
        limit_threads(settings.target.io_threads)
        self._settings = settings
        self._kernel = ThreadPoolExecutor(1, "kernel")
        self._turns: set[Future[Array | Checksums | Undone]] = set()

    @cached_property
    def _image(self) -> Image:
        settings = self._settings
        return open_source(settings.input_path, axes=settings.axes, dataset=settings.dataset)

    def _do(self, index: int, clock: Clock, seconds: float) -> Checksums | Undone:
        """Do one block; see `run`."""
        block = self._settings.grid[index]
        padded = [self._image.read(block.padded)]
        clock.lap("read")
        outcome = self._turn(block, padded, clock, seconds)
        if isinstance(outcome, Undone | tuple):
            return outcome
        clock.lap("wait")
        return self._written(block.core, outcome, clock)

    def stop(self) -> None:
        """Give back the blocks that are not in the kernel yet, at once; finish the others."""
        super().stop()
        for turn in tuple(self._turns):
            turn.cancel()

    def _turn(
        self, block: Block, padded: list[Array], clock: Clock, seconds: float
    ) -> Array | Checksums | Undone:
        """Wait for the kernel, and denoise what is in `padded`, unless its time is up by then."""
        turn = self._kernel.submit(self._denoise, block, padded, clock, seconds)
        self._turns.add(turn)
        if self._stopping:
            turn.cancel()
        try:
            return turn.result()
        except CancelledError:
            return Undone.STOPPED
        finally:
            self._turns.discard(turn)
            del turn  # an error in it holds this frame: together they would keep the input

    def _denoise(
        self, block: Block, padded: list[Array], clock: Clock, seconds: float
    ) -> Array | Checksums | Undone:
        """Denoise, and also write if that finds no room beside the next kernel."""
        if undone := self._undone(seconds):
            return undone
        clock.lap("wait")
        settings = self._settings
        values: Array = denoise_block(
            padded.pop(),  # which is then nobody's, and freed with the kernel's own memory
            padded_origin=block.padded.start,
            core=block.core,
            image_shape=settings.grid.image_shape,
            noise=settings.noise,
            parameters=settings.parameters,
            threads=settings.threads,
        )
        if self._output.dtype.itemsize < FLOAT32_BYTES:  # smaller before the next kernel begins
            values = self._converted(values)
        clock.lap("kernel")
        if self._room_beside(block, values):
            return values
        return self._written(block.core, values, clock)

    def _converted(self, values: Array) -> Array:
        """Round the whole block, plane by plane."""
        stored = np.empty(values.shape, self._output.dtype)

        def convert(plane: tuple[int, ...]) -> None:
            stored[plane] = convert_dtype(values[plane], stored.dtype)

        each(convert, list(np.ndindex(values.shape[:3])), self._target.io_threads)
        return stored

    def _room_beside(self, block: Block, values: Array) -> bool:
        """Tell whether a block may be written while the kernel has another one."""
        needed = values.nbytes + self._copied_bytes(block.core)
        return needed <= _ROOM * FLOAT32_BYTES * block.padded.voxels


def probe(threads: int) -> int:
    """Return how many threads the kernel gets in this process when it asks for `threads`."""
    return team_size(threads)
