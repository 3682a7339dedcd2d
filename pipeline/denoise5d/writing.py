"""What the blocks of all passes have in common: they end in time, are written and compared."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
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
from denoise5d.geometry import Box
from denoise5d.machine import peak_bytes
from denoise5d.records import BlockRecord, StageSeconds
from denoise5d.slurm import job_end
from denoise5d.store import Output, checksum, convert_dtype, open_output, read_provenance

T = TypeVar("T")
R = TypeVar("R")
Array: TypeAlias = NDArray[Any]
Checksums: TypeAlias = tuple[str, ...]

_COPIES = 3
"""Of a write unit, which zarr and the comparison make while it is written or read back."""

SMALL_BYTES = 16 * 2**20
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
class Target:
    """Where the blocks of a pass are written.

    Attributes
    ----------
    path : Path
        The store.
    level : int
        Of the pyramid; 0 is the image.
    io_threads : int
        Threads that decode and encode chunks.
    provenance : mapping or None
        What the output says of itself: another one means that it has been made anew since.
    ends : float
        When the driver's job ends, in seconds since 1970; infinite if it does not.
    """

    path: Path
    level: int
    io_threads: int
    provenance: Mapping[str, Any] | None
    ends: float = inf


class PassWorker(ABC):
    """What a worker does with the blocks of one pass; several threads call `run`.

    Parameters
    ----------
    target : Target
        Where they go.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._stopping = False
        own_end = job_end()
        self._ends = inf if own_end is None else own_end - END_MARGIN_SECONDS
        self._longest = 0.0

    @cached_property
    def _output(self) -> Output:
        return open_output(self._target.path, self._target.level)

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
            If what is read is damaged or not finite.
        OutputError
            If the output cannot be written, or does not hold what was written.
        """
        begin, clock = datetime.now(UTC), Clock()
        if undone := self._undone(seconds):
            return undone
        outcome = self._do(index, clock, seconds)
        if isinstance(outcome, Undone):
            return outcome
        record = BlockRecord(
            block=index,
            worker=worker,
            job=os.environ.get("SLURM_JOB_ID"),
            start=begin.isoformat(timespec="milliseconds"),
            seconds=StageSeconds(**{"kernel": 0.0} | clock.seconds),
            peak_bytes=peak_bytes(),
            checksums=outcome,
            attempts=attempt,
        )
        self._longest = max(self._longest, record.seconds.busy)
        return record

    @abstractmethod
    def _do(self, index: int, clock: Clock, seconds: float) -> Checksums | Undone:
        """Do one block; see `run`."""

    def stop(self) -> None:
        """Give back, at once, the blocks that have not come far yet; finish the others."""
        self._stopping = True

    def _undone(self, seconds: float) -> Undone | None:
        """Tell why a block must not be begun now; nothing speaks against it: None."""
        if self._stopping:
            return Undone.STOPPED
        known = max(seconds, self._longest)
        if known and time() + SPREAD * known > min(self._target.ends, self._ends):
            sooner = self._target.ends <= self._ends + END_MARGIN_SECONDS
            return Undone.RUN_ENDS if sooner else Undone.WORKER_ENDS
        return None

    def _units_at_once(self, core: Box) -> int:
        """Return how many write units may be under way: an eighth of the block, or few bytes."""
        unit = prod(self._output.unit)
        few = core.voxels // 8 + SMALL_BYTES // self._output.dtype.itemsize
        return min(self._target.io_threads, max(1, few // unit))

    def _copied_bytes(self, core: Box) -> int:
        """Return what zarr and the comparison take of memory while a block is written."""
        in_work = self._units_at_once(core) * prod(self._output.unit) * self._output.dtype.itemsize
        return _COPIES * max(0, in_work - SMALL_BYTES)

    def _written(self, core: Box, values: Array, clock: Clock) -> Checksums:
        """Write a block, read it back and compare."""
        self._check_output()
        output, units = self._output, list(core.tiles(self._output.unit))

        def computed(unit: Box) -> Array:
            part = values[unit.relative_to(core.start).slices]
            return convert_dtype(part, output.dtype)

        def verify(unit: Box) -> str:
            stored = output.read(unit)
            if not np.array_equal(stored, computed(unit)):
                raise OutputError(
                    f"{output.path} does not hold what was written at {unit.start} .. {unit.stop}: "
                    f"the disk or the file system is at fault; the block will be done again"
                )
            return checksum(stored)

        at_once = self._units_at_once(core)
        each(lambda unit: output.write_unit(unit, computed(unit)), units, at_once)
        output.sync(core)
        clock.lap("write")
        checksums = each(verify, units, at_once)
        clock.lap("verify")
        return tuple(checksums)

    def _check_output(self) -> None:
        """Refuse to write once a later run, which this worker may not know of, began it anew."""
        path = self._target.path
        if read_provenance(path) != self._target.provenance:
            raise OutputError(
                f"{path} is not the image that this run began any more: it was removed, or begun "
                f"anew; this worker writes nothing into it"
            )


class Clock:
    """Seconds of one block, by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._lap = perf_counter()

    def lap(self, stage: str) -> None:
        """Count what has passed since the last lap to a stage."""
        now = perf_counter()
        self.seconds[stage] = round(self.seconds.get(stage, 0) + now - self._lap, 4)
        self._lap = now


def each(do: Callable[[T], R], items: Sequence[T], at_once: int) -> list[R]:
    """Do something with each, in threads; return the results in order."""
    if min(at_once, len(items)) == 1:
        return [do(item) for item in items]
    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(do, items))
