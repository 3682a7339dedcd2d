"""One block, start to end, in a worker: read, denoise, write, read back, compare.

A task may run twice, or be killed at any point: it writes whole files of its own and says nothing
of its success but by what it returns.
"""

from __future__ import annotations

import os
import resource
import sys
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from denoise5d.errors import OutputError
from denoise5d.geometry import Block, Index
from denoise5d.kernel import (
    denoise_block,
    team_size,
)
from denoise5d.ledger import BlockRecord, StageSeconds
from denoise5d.noise import NoiseModel
from denoise5d.parameters import (
    Parameters,
)
from denoise5d.store import (
    Image,
    Output,
    checksum,
    convert_dtype,
    limit_threads,
    open_image,
    open_output,
)


@dataclass(frozen=True, slots=True)
class TaskSettings:
    """What all blocks of a run have in common; small, and sent with each of them.

    Attributes
    ----------
    input_path : Path
        The image to read.
    axes, dataset : str or None
        As in `denoise5d.store.open_image`.
    output_path : Path
        The store to write into.
    image_shape : Index
        Shape of the whole image in voxels.
    noise : tuple of NoiseModel
        One for each channel.
    parameters : Parameters
        Of the estimator.
    threads : int
        OpenMP threads of the kernel.
    io_threads : int
        Threads that decode and encode chunks.
    """

    input_path: Path
    axes: str | None
    dataset: str | None
    output_path: Path
    image_shape: Index
    noise: tuple[NoiseModel, ...]
    parameters: Parameters
    threads: int
    io_threads: int


def run_block(settings: TaskSettings, block: Block, worker: str, attempt: int) -> BlockRecord:
    """Do one block.

    Parameters
    ----------
    settings : TaskSettings
        Of the run.
    block : Block
        Which voxels.
    worker : str
        Name of the worker, for the record.
    attempt : int
        Which attempt this is, from 1.

    Returns
    -------
    BlockRecord
        The block is on the disk, synced and compared, when this returns.

    Raises
    ------
    InputError
        If the input is damaged or not finite.
    OutputError
        If the output cannot be written, or does not hold what was written.
    """
    begin = datetime.now(UTC).isoformat(timespec="milliseconds")
    image, output = _opened(settings)
    marks = [perf_counter()]
    padded = image.read(block.padded)
    marks.append(perf_counter())
    result = denoise_block(
        padded,
        padded_origin=block.padded.start,
        core=block.core,
        image_shape=settings.image_shape,
        noise=settings.noise,
        parameters=settings.parameters,
        threads=settings.threads,
    )
    del padded
    marks.append(perf_counter())
    _write(output, block, result)
    marks.append(perf_counter())
    checksums = _verify(output, block, result)
    marks.append(perf_counter())
    read, kernel, write, verify = np.diff(marks).round(4).tolist()
    return BlockRecord(
        block=block.index,
        worker=worker,
        job=os.environ.get("SLURM_JOB_ID"),
        start=begin,
        seconds=StageSeconds(read=read, kernel=kernel, write=write, verify=verify),
        peak_bytes=peak_bytes(),
        checksums=checksums,
        attempts=attempt,
    )


def probe(threads: int) -> int:
    """Return how many threads the kernel gets in this process when it asks for `threads`."""
    return team_size(threads)


def peak_bytes() -> int:
    """Return the largest memory that this process has ever held, in bytes."""
    with suppress(OSError):  # Linux: what `getrusage` tells began with the parent's peak
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _opened(settings: TaskSettings) -> tuple[Image, Output]:
    limit_threads(settings.io_threads)
    return (
        _open_image(settings.input_path, settings.axes, settings.dataset),
        _open_output(settings.output_path),
    )


@lru_cache(maxsize=1)
def _open_image(path: Path, axes: str | None, dataset: str | None) -> Image:
    return open_image(path, axes=axes, dataset=dataset)


@lru_cache(maxsize=1)
def _open_output(path: Path) -> Output:
    return open_output(path)


def _write(output: Output, block: Block, result: NDArray[np.float32]) -> None:
    for unit in block.core.tiles(output.unit):
        output.write_unit(unit, result[unit.relative_to(block.core.start).slices])
    output.sync(block.core)


def _verify(output: Output, block: Block, result: NDArray[np.float32]) -> tuple[str, ...]:
    """Compare what the disk holds with what was computed, one write unit at a time."""
    checksums = []
    for unit in block.core.tiles(output.unit):
        stored = output.read(unit)
        expected = convert_dtype(result[unit.relative_to(block.core.start).slices], output.dtype)
        if not np.array_equal(stored, expected):
            raise OutputError(
                f"{output.path} does not hold what was written at {unit.start} .. {unit.stop}: "
                f"the disk or the file system is at fault; the block will be done again"
            )
        checksums.append(checksum(stored))
    return tuple(checksums)
