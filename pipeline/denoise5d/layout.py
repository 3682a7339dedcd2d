"""How the output is cut into files, and what memory there is to write them.

A chunk is the unit of compression, a shard is one file of many chunks. A *write unit* is what one
file holds: a shard, or a chunk where there are no shards. Pure integers, no I/O.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor, log, prod
from typing import Literal, TypeAlias

from denoise5d.errors import PlanError
from denoise5d.geometry import BlockGrid, Index, as_index
from denoise5d.shapes import BLOCKS_A_WORKER

OutputFormat: TypeAlias = Literal["ome-zarr-0.5", "ome-zarr-0.4"]
"""A version of OME-Zarr: 0.5 is stored as Zarr v3, 0.4 as Zarr v2, which knows no shards."""

FLOAT32_BYTES = 4

_BLOSC_BYTES = 2**31 - 17  # what the codec of OME-Zarr 0.4 can take at a time

_CHUNK_VOXELS = 2**20  # an automatic chunk holds this to just below twice as much
_SMALLEST_CHUNK_VOXELS = 2**15
_SMALLEST_CHUNK_LENGTH = 32
_MOST_FILES = 4096  # automatic shards grow until the output is no more than this

TIME, SPATIAL = (0,), (4, 3, 2)
"""The axes that chunks, shards and blocks grow along."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How the output is cut into files.

    Attributes
    ----------
    chunks : Index
        Shape of a chunk, the unit of compression, in voxels.
    shards : Index or None
        Shape of a shard, a file of many chunks, in voxels: a whole multiple of `chunks` on every
        axis. None: a file for each chunk.
    format : {"ome-zarr-0.5", "ome-zarr-0.4"}
        How the files are written.

    Raises
    ------
    PlanError
        If a length is below 1, a shard is no whole number of chunks, or the format has no shards.
    """

    chunks: Index
    shards: Index | None = None
    format: OutputFormat = "ome-zarr-0.5"

    def __post_init__(self) -> None:
        if self.shards is not None and self.format == "ome-zarr-0.4":
            raise PlanError(
                f"output.shards must be auto or null with output.format ome-zarr-0.4, which has no "
                f"shards, got {list(self.shards)}"
            )
        for key, shape in (("chunks", self.chunks), ("shards", self.shards)):
            if shape is not None and min(shape) < 1:
                raise PlanError(f"output.{key} must be at least 1 on every axis, got {list(shape)}")
        if self.shards is not None and any(
            s % c for s, c in zip(self.shards, self.chunks, strict=True)
        ):
            raise PlanError(
                f"output.shards must be a whole multiple of output.chunks on every axis, got "
                f"shards {list(self.shards)} of chunks {list(self.chunks)}. "
                f"Change one of them, or leave one of them to `auto`."
            )

    def check_bytes(self, itemsize: int) -> None:
        """Raise PlanError if a chunk of so many bytes a voxel is more than its codec can take."""
        size = prod(self.chunks) * itemsize
        if self.format == "ome-zarr-0.4" and size > _BLOSC_BYTES:
            raise PlanError(
                f"output.chunks must be less than 2 GiB with output.format ome-zarr-0.4, got "
                f"{list(self.chunks)}, which are {size / 2**30:.2f} GiB; make output.chunks smaller"
            )

    @property
    def write_unit(self) -> Index:
        """Shape of what one file holds, in voxels."""
        return self.shards or self.chunks

    def write_units(self, image_shape: Index) -> int:
        """Return the number of write units, or files of voxels, that an image of a shape takes."""
        return _units(image_shape, self.write_unit)

    @property
    def metadata_files(self) -> int:
        """Number of files of metadata of an array, and as many of the whole image."""
        return 1 if self.format == "ome-zarr-0.5" else 2

    def folders(self, image_shape: Index) -> int:
        """Return the number of folders that these files lie in: a level for each axis but X."""
        counts = [-(-n // u) for n, u in zip(image_shape, self.write_unit, strict=True)]
        return sum(prod(counts[:depth]) for depth in range(1, len(counts)))


@dataclass(frozen=True, slots=True)
class Budget:
    """What there is to work with.

    Attributes
    ----------
    workers : int
        Blocks in work at the same time.
    threads : int
        Threads of one kernel.
    memory_bytes : int
        Memory that one worker may have, in bytes.
    memory_factor : float
        Memory of a task over the bytes of its padded block in float32.
    reserve_bytes : int
        Fixed part of a worker's memory: interpreter, libraries, scratch space, in bytes.
    """

    workers: int
    threads: int
    memory_bytes: int
    memory_factor: float
    reserve_bytes: int

    def __post_init__(self) -> None:
        if min(self.workers, self.threads) < 1 or self.memory_factor <= 0:
            raise ValueError(f"impossible budget: {self}")

    @property
    def padded_voxels(self) -> int:
        """Voxels of the largest padded block that fits; 0 if the reserve alone does not."""
        room = self.memory_bytes - self.reserve_bytes
        return max(0, floor(room / (FLOAT32_BYTES * Fraction(self.memory_factor))))

    def bytes_needed(self, padded_voxels: int) -> int:
        """Return the memory in bytes of a worker whose largest padded block has so many voxels."""
        scaled = ceil(FLOAT32_BYTES * Fraction(self.memory_factor) * padded_voxels)
        return scaled + self.reserve_bytes


def choose_layout(
    image_shape: Index,
    halo: Index,
    *,
    chunks: Index | None,
    shards: Index | None,
    shards_auto: bool,
    output_format: OutputFormat = "ome-zarr-0.5",
    budget: Budget,
) -> Layout:
    """Return the layout of the output, choosing what the YAML leaves to `auto`.

    Automatic chunks are compact and hold one to two million voxels of one time point and channel,
    fewer if the image is so small that the workers would not get several each. Automatic shards
    double from one chunk until the output has at most 4096 files, as long as a padded shard
    takes no more than a quarter of a worker's memory and every worker can have several.

    Parameters
    ----------
    image_shape, halo : Index
        In voxels.
    chunks : Index or None
        Shape of a chunk in voxels; None chooses.
    shards : Index or None
        Shape of a shard in voxels; None: no shards, unless `shards_auto`.
    shards_auto : bool
        Choose the shards; the format must have them.
    output_format : {"ome-zarr-0.5", "ome-zarr-0.4"}
        How the files are written.
    budget : Budget
        Workers and their memory.

    Raises
    ------
    PlanError
        If `shards` is given and no whole multiple of `chunks`.
    """
    auto = chunks or _auto_chunks(image_shape, halo, budget)
    if shards_auto:
        return Layout(auto, _auto_shards(image_shape, halo, auto, budget), output_format)
    if shards is not None and chunks is None:
        auto = as_index([_nearest_divisor(s, c) for s, c in zip(shards, auto, strict=True)])
    return Layout(auto, shards, output_format)


def _auto_chunks(image_shape: Index, halo: Index, budget: Budget) -> Index:
    a_share = prod(image_shape) // (BLOCKS_A_WORKER * budget.workers)
    most = min(2 * _CHUNK_VOXELS - 1, max(_SMALLEST_CHUNK_VOXELS, a_share))
    small = [min(n, _SMALLEST_CHUNK_LENGTH) for n in image_shape[2:]]
    chunks = as_index([1, 1, *small])
    while larger := doubled(chunks, image_shape, SPATIAL):
        if prod(larger) > most or not _is_modest(larger, image_shape, halo, budget):
            break
        chunks = larger
    return as_index([_evened(n, c) for n, c in zip(image_shape, chunks, strict=True)])


def _evened(length: int, chunk: int) -> int:
    """Return the least multiple of 16 that takes no more chunks: 288 is 2 x 144, not 256 + 32."""
    even = -(-length // -(-length // chunk))
    return min(chunk, -(-even // 16) * 16)


def _auto_shards(image_shape: Index, halo: Index, chunks: Index, budget: Budget) -> Index | None:
    covering = as_index([-(-n // c) * c for n, c in zip(image_shape, chunks, strict=True)])
    fewest = BLOCKS_A_WORKER * budget.workers
    shards = chunks
    while _units(image_shape, shards) > _MOST_FILES:
        # Time last: a shard of one time point is what other programs like to read.
        larger = doubled(shards, covering, SPATIAL) or doubled(shards, covering, TIME)
        if larger is None or _units(image_shape, larger) < fewest:
            break
        if not _is_modest(larger, image_shape, halo, budget):
            break
        shards = larger
    return None if shards == chunks else shards


def doubled(shape: Index, limit: Index, axes: Sequence[int]) -> Index | None:
    """Double the shortest of `axes` (the first of equals) that is below its limit, up to that."""
    growing = [axis for axis in axes if shape[axis] < limit[axis]]
    if not growing:
        return None
    axis = min(growing, key=lambda i: shape[i])
    lengths = list(shape)
    lengths[axis] = min(2 * lengths[axis], limit[axis])
    return as_index(lengths)


def _is_modest(shape: Index, image_shape: Index, halo: Index, budget: Budget) -> bool:
    """Tell whether a padded box of `shape` takes at most a quarter of a worker's memory."""
    padded = prod(BlockGrid(image_shape, shape, halo).largest_padded)
    return 4 * padded <= budget.padded_voxels


def _nearest_divisor(number: int, wanted: int) -> int:
    """Return the divisor of `number` whose ratio to `wanted` is closest to 1."""
    divisors = [d for d in range(1, number + 1) if number % d == 0]
    return min(divisors, key=lambda d: abs(log(d / wanted)))


def _units(image_shape: Index, unit: Index) -> int:
    return prod(-(-n // u) for n, u in zip(image_shape, unit, strict=True))
