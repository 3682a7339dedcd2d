"""Slabs from a source to the new image, in this process or in several."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from denoise5d.errors import StoppedEarlyError
from denoise5d.geometry import BlockGrid
from denoise5d.slabs import Slab
from denoise5d.sources import open_source
from denoise5d.store import Image, Output, limit_threads, open_output

_ENCODERS = 2
"""Threads of a process that compress, so that writing does not wait for one core alone."""


@dataclass(frozen=True, slots=True)
class Copying:
    """What all slabs of a conversion have in common.

    Attributes
    ----------
    source : Path
        The image to read.
    axes, dataset : str or None
        As in `denoise5d.sources.open_source`.
    target : Path
        The new image.
    slabs : BlockGrid
        How it is cut; a slab is of one channel.
    """

    source: Path
    axes: str | None
    dataset: str | None
    target: Path
    slabs: BlockGrid


class _Copier:
    """Source and target in one process, opened with the first slab."""

    def __init__(self, copying: Copying) -> None:
        self._copying = copying

    @cached_property
    def _image(self) -> Image:
        copying = self._copying
        return open_source(copying.source, axes=copying.axes, dataset=copying.dataset)

    @cached_property
    def _output(self) -> Output:
        return open_output(self._copying.target)

    def copy(self, number: int) -> Slab:
        """Copy a slab; it is on the disk when this returns."""
        box = self._copying.slabs[number].core
        values = self._image.read(box)
        for unit in box.tiles(self._output.unit):
            self._output.write_unit(unit, values[unit.relative_to(box.start).slices])
        self._output.sync(box)
        # fmin and fmax do not see NaN
        lowest, highest = np.fmin.reduce(values, axis=None), np.fmax.reduce(values, axis=None)
        if np.isnan(lowest):
            lowest, highest = np.inf, -np.inf
        return Slab(number, box.start[1], float(lowest), float(highest))


def copied(copying: Copying, numbers: Sequence[int], workers: int) -> Iterator[Slab]:
    """Copy slabs, and yield each when it is on the disk.

    Parameters
    ----------
    copying : Copying
        Source and target.
    numbers : sequence of int
        Of the slabs.
    workers : int
        Processes; this one alone if it is 1.

    Raises
    ------
    InputError
        The source is damaged.
    OutputError
        The target cannot be written.
    StoppedEarlyError
        A process died.
    """
    workers = min(workers, len(numbers))
    if workers > 1:
        yield from _copied_by_processes(copying, numbers, workers)
    else:
        yield from map(_Copier(copying).copy, numbers)


def _copied_by_processes(copying: Copying, numbers: Sequence[int], workers: int) -> Iterator[Slab]:
    """Copy slabs in processes; after an error those in work are finished, and yielded too."""
    context = multiprocessing.get_context("spawn")  # a fork would copy locks that threads hold
    pool = ProcessPoolExecutor(workers, context, _begin, (copying,))
    try:
        with _deaf_to_ctrl_c():
            futures: list[Future[Slab]] = [pool.submit(_copy, number) for number in numbers]
        error: Exception | None = None
        for future in as_completed(futures):
            try:
                yield future.result()
            except CancelledError:
                continue
            except Exception as first:  # raised below, when what is in work has ended
                if error is None:
                    error = first
                    for waiting in futures:
                        waiting.cancel()
        if isinstance(error, BrokenProcessPool):
            raise StoppedEarlyError(
                "a process of the conversion died, perhaps for lack of memory: run the same "
                "command again to go on, with fewer --workers if it happens again"
            ) from error
        if error is not None:
            raise error
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Start processes inside that never know Ctrl-C, which a terminal sends to all."""
    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if main else None
    try:
        yield
    finally:
        if main:
            signal.signal(signal.SIGINT, before)


_copier: _Copier | None = None  # of this process, if it is one of the pool's


def _begin(copying: Copying) -> None:
    """Make a process of the pool ready."""
    global _copier
    threading.Thread(target=_end_with_parent, daemon=True).start()
    logging.disable()  # what there is to say of the source, the parent has said
    limit_threads(_ENCODERS)
    _copier = _Copier(copying)


def _end_with_parent() -> None:
    """End this process when its parent is killed: nobody would tell it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGKILL)


def _copy(number: int) -> Slab:
    assert _copier is not None
    return _copier.copy(number)
