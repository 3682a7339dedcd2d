"""Blocks in a worker, each from start to end: read, denoise, write, read back, compare.

While one block is in the kernel, another one is read, or written and compared. A task may run
twice, or be killed at any point: it writes whole files of its own and says nothing of its success
but by what it returns.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property
from math import inf, prod
from pathlib import Path
from time import perf_counter, time
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from denoise5d.errors import OutputError
from denoise5d.geometry import Block, BlockGrid, Box
from denoise5d.kernel import denoise_block, team_size
from denoise5d.layout import FLOAT32_BYTES
from denoise5d.ledger import BlockRecord, StageSeconds
from denoise5d.machine import peak_bytes
from denoise5d.noise import NoiseModel
from denoise5d.parameters import Parameters
from denoise5d.slurm import job_end
from denoise5d.sources import open_source
from denoise5d.store import (
    Image,
    Output,
    checksum,
    convert_dtype,
    limit_threads,
    open_output,
    read_provenance,
)

T = TypeVar("T")
R = TypeVar("R")
Array: TypeAlias = NDArray[Any]
Checksums: TypeAlias = tuple[str, ...]

BLOCKS_IN_A_WORKER = 2
"""One in the kernel, and one that is read, or written and verified, meanwhile."""

_ROOM = 1.4
"""Padded blocks in float32 that a `memory_factor` of 6 leaves beside the kernel, for any type."""

_COPIES = 3
"""Of a write unit, which zarr and the comparison make while it is written or read back."""

_SMALL_BYTES = 16 * 2**20
"""Write units of so many bytes may always be under way: the reserve has room for their copies."""

SPREAD = 1.1
"""A block may take so many times as long as the longest one known."""

END_MARGIN_SECONDS = 15
"""Before the end of a job, for what is not a block: a result on its way, processes that end."""


class Undone(StrEnum):
    """Why a block came back undone; it is then as if it had never been handed out."""

    STOPPED = "the run was stopped"
    WORKER_ENDS = "the job of its worker ends too soon"
    RUN_ENDS = "the job of the driver ends too soon"


@dataclass(frozen=True, slots=True)
class TaskSettings:
    """What all blocks of a run have in common; a worker is told once.

    Attributes
    ----------
    input_path : Path
        The image to read.
    axes, dataset : str or None
        As in `denoise5d.sources.open_source`.
    output_path : Path
        The store to write into.
    grid : BlockGrid
        All blocks.
    noise : tuple of NoiseModel
        One for each channel.
    parameters : Parameters
        Of the estimator.
    threads : int
        OpenMP threads of the kernel.
    io_threads : int
        Threads that decode and encode chunks.
    provenance : mapping or None
        What the output says of itself: another one means that it has been made anew since.
    ends : float
        When the driver's job ends, in seconds since 1970; infinite if it does not.
    """

    input_path: Path
    axes: str | None
    dataset: str | None
    output_path: Path
    grid: BlockGrid
    noise: tuple[NoiseModel, ...]
    parameters: Parameters
    threads: int
    io_threads: int
    provenance: Mapping[str, Any] | None
    ends: float = inf


class BlockWorker:
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
        limit_threads(settings.io_threads)
        self._settings = settings
        self._kernel = ThreadPoolExecutor(1, "kernel")
        self._turns: set[Future[Array | Checksums | Undone]] = set()
        self._stopping = False
        own_end = job_end()
        self._ends = inf if own_end is None else own_end - END_MARGIN_SECONDS
        self._longest = 0.0

    @cached_property
    def _image(self) -> Image:
        settings = self._settings
        return open_source(settings.input_path, axes=settings.axes, dataset=settings.dataset)

    @cached_property
    def _output(self) -> Output:
        return open_output(self._settings.output_path)

    def run(
        self, index: int, worker: str, attempt: int, *, seconds: float = 0.0
    ) -> BlockRecord | Undone:
        """Do one block, unless it could not end before its worker's job, or the driver's, does.

        Parameters
        ----------
        index : int
            Its number.
        worker : str
            Name of the worker, for the record.
        attempt : int
            Which attempt this is, from 1.
        seconds : float
            How long a block is known to take; 0 if it is not known yet.

        Returns
        -------
        BlockRecord or Undone
            A record: the block is on the disk, synced and compared. Else nothing has been done.

        Raises
        ------
        InputError
            If the input is damaged or not finite.
        OutputError
            If the output cannot be written, or does not hold what was written.
        """
        block = self._settings.grid[index]
        begin, clock = datetime.now(UTC), _Clock()
        if undone := self._undone(seconds):
            return undone
        padded = [self._image.read(block.padded)]
        clock.lap("read")
        outcome = self._turn(block, padded, clock, seconds)
        if isinstance(outcome, Undone):
            return outcome
        checksums = outcome
        if not isinstance(checksums, tuple):
            clock.lap("wait")
            checksums = self._written(block, checksums, clock)
        record = BlockRecord(
            block=index,
            worker=worker,
            job=os.environ.get("SLURM_JOB_ID"),
            start=begin.isoformat(timespec="milliseconds"),
            seconds=StageSeconds(**clock.seconds),
            peak_bytes=peak_bytes(),
            checksums=checksums,
            attempts=attempt,
        )
        self._longest = max(self._longest, record.seconds.busy)
        return record

    def stop(self) -> None:
        """Give back the blocks that are not in the kernel yet, at once; finish the others."""
        self._stopping = True
        for turn in tuple(self._turns):
            turn.cancel()

    def _undone(self, seconds: float) -> Undone | None:
        """Tell why a block must not be begun now; nothing speaks against it: None."""
        if self._stopping:
            return Undone.STOPPED
        known = max(seconds, self._longest)
        if known and time() + SPREAD * known > min(self._settings.ends, self._ends):
            sooner = self._settings.ends <= self._ends + END_MARGIN_SECONDS
            return Undone.RUN_ENDS if sooner else Undone.WORKER_ENDS
        return None

    def _turn(
        self, block: Block, padded: list[Array], clock: _Clock, seconds: float
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
        self, block: Block, padded: list[Array], clock: _Clock, seconds: float
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
        return values if self._room_beside(block, values) else self._written(block, values, clock)

    def _converted(self, values: Array) -> Array:
        """Round the whole block, plane by plane."""
        stored = np.empty(values.shape, self._output.dtype)

        def convert(plane: tuple[int, ...]) -> None:
            stored[plane] = convert_dtype(values[plane], stored.dtype)

        _each(convert, list(np.ndindex(values.shape[:3])), self._settings.io_threads)
        return stored

    def _room_beside(self, block: Block, values: Array) -> bool:
        """Tell whether a block may be written while the kernel has another one."""
        in_work = self._units_at_once(block) * prod(self._output.unit) * self._output.dtype.itemsize
        needed = values.nbytes + _COPIES * max(0, in_work - _SMALL_BYTES)
        return needed <= _ROOM * FLOAT32_BYTES * block.padded.voxels

    def _units_at_once(self, block: Block) -> int:
        """Return how many write units may be under way: an eighth of the block, or few bytes."""
        unit = prod(self._output.unit)
        few = block.core.voxels // 8 + _SMALL_BYTES // self._output.dtype.itemsize
        return min(self._settings.io_threads, max(1, few // unit))

    def _written(self, block: Block, values: Array, clock: _Clock) -> Checksums:
        """Write a block, read it back and compare."""
        self._check_output()
        output, units = self._output, list(block.core.tiles(self._output.unit))

        def computed(unit: Box) -> Array:
            part = values[unit.relative_to(block.core.start).slices]
            return convert_dtype(part, output.dtype)

        def verify(unit: Box) -> str:
            stored = output.read(unit)
            if not np.array_equal(stored, computed(unit)):
                raise OutputError(
                    f"{output.path} does not hold what was written at {unit.start} .. {unit.stop}: "
                    f"the disk or the file system is at fault; the block will be done again"
                )
            return checksum(stored)

        at_once = self._units_at_once(block)
        _each(lambda unit: output.write_unit(unit, computed(unit)), units, at_once)
        output.sync(block.core)
        clock.lap("write")
        checksums = _each(verify, units, at_once)
        clock.lap("verify")
        return tuple(checksums)

    def _check_output(self) -> None:
        """Refuse to write once a later run, which this worker may not know of, began it anew."""
        path = self._settings.output_path
        if read_provenance(path) != self._settings.provenance:
            raise OutputError(
                f"{path} is not the image that this run began any more: it was removed, or begun "
                f"anew; this worker writes nothing into it"
            )


class _Clock:
    """Seconds of one block, by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._lap = perf_counter()

    def lap(self, stage: str) -> None:
        """Count what has passed since the last lap to a stage."""
        now = perf_counter()
        self.seconds[stage] = round(self.seconds.get(stage, 0) + now - self._lap, 4)
        self._lap = now


def _each(do: Callable[[T], R], items: Sequence[T], at_once: int) -> list[R]:
    """Do something with each, in threads; return the results in order."""
    if min(at_once, len(items)) == 1:
        return [do(item) for item in items]
    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(do, items))


def probe(threads: int) -> int:
    """Return how many threads the kernel gets in this process when it asks for `threads`."""
    return team_size(threads)
