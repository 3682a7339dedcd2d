"""From shape, halo, layout and memory to blocks: pure integers, nothing read, nothing allocated.

The rules, in the order in which they are applied:

* a core is a whole number of the output's *write units* (shards, or chunks without shards) on every
  axis, or reaches the image's end there: no two tasks ever write into the same file;
* a worker needs ``memory_factor`` x the largest padded block in float32 plus a fixed reserve;
* among the shapes that fit, the one of least expected wall time is taken (`denoise5d.shapes`).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor, prod
from typing import Any

from denoise5d.errors import PlanError
from denoise5d.geometry import BlockGrid, Index, as_index
from denoise5d.layout import FLOAT32_BYTES, Budget, Layout, choose_layout
from denoise5d.levels import PyramidLevel
from denoise5d.shapes import fastest_shape, largest_shape

__all__ = ["Budget", "Layout", "Plan", "choose_layout", "make_plan"]

_FOLDERS = 4  # image, array, "c", and beside them that of the run
_RUN_FILES = 2  # ledger and lock


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will do. Blocks are computed from their number: ten million cost nothing.

    Attributes
    ----------
    grid : BlockGrid
        The blocks.
    layout : Layout
        How the output is cut into files.
    budget : Budget
        Workers and their memory.
    exact_halo : bool
        Whether the halo is the kernel's whole reach. With any other the result is approximate: it
        depends on how the image is cut into blocks.
    levels : tuple of PyramidLevel
        Made when all blocks are done, each of the one before it.
    """

    grid: BlockGrid
    layout: Layout
    budget: Budget
    exact_halo: bool
    levels: tuple[PyramidLevel, ...] = ()

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return len(self.grid)

    @property
    def rounds(self) -> int:
        """How often every worker gets a block."""
        return -(-self.blocks // self.budget.workers)

    @property
    def redundancy(self) -> float:
        """Padded voxels over core voxels, at least 1."""
        return self.grid.redundancy

    @property
    def padded_bytes(self) -> int:
        """Bytes of the largest padded block in float32."""
        return FLOAT32_BYTES * prod(self.grid.largest_padded)

    @property
    def bytes_per_worker(self) -> int:
        """Bytes that one worker needs, the reserve included."""
        return self.budget.bytes_needed(prod(self.grid.largest_padded))

    @property
    def write_units(self) -> int:
        """Number of files of voxels of the image."""
        return self.layout.write_units(self.grid.image_shape)

    @property
    def files(self) -> int:
        """Number of files: the write units, also of the levels, and a few of metadata."""
        return self.image_files + sum(level.files for level in self.levels)

    @property
    def image_files(self) -> int:
        """Number of files of the image alone, and of the run."""
        return self.write_units + 2 * self.layout.metadata_files + _RUN_FILES

    @property
    def image_inodes(self) -> int:
        """Number of these files and their folders."""
        return self.image_files + self.layout.folders(self.grid.image_shape) + _FOLDERS

    @property
    def inodes(self) -> int:
        """Number of all files and folders, which a file system may have no more of."""
        return self.image_inodes + sum(level.inodes for level in self.levels)

    def image_bytes(self, itemsize: int) -> int:
        """Return the bytes of the image alone, uncompressed, at `itemsize` bytes a voxel."""
        return prod(self.grid.image_shape) * itemsize

    def output_bytes(self, itemsize: int) -> int:
        """Return the bytes of the image and its levels, uncompressed."""
        return self.image_bytes(itemsize) + sum(level.voxels for level in self.levels) * itemsize

    def to_json(self) -> dict[str, Any]:
        """Return the plan as a dict of plain values, keys with their unit."""
        layout, budget = self.layout, self.budget
        return {
            "format": layout.format,
            "image_shape": list(self.grid.image_shape),
            "block_shape": list(self.grid.block_shape),
            "block_counts": list(self.grid.counts),
            "largest_padded_shape": list(self.grid.largest_padded),
            "halo": list(self.grid.halo),
            "exact_halo": self.exact_halo,
            "blocks": self.blocks,
            "workers": budget.workers,
            "threads": budget.threads,
            "rounds": self.rounds,
            "redundancy": self.redundancy,
            "memory_factor": budget.memory_factor,
            "reserve_bytes": budget.reserve_bytes,
            "memory_bytes": budget.memory_bytes,
            "bytes_per_worker": self.bytes_per_worker,
            "chunks": list(layout.chunks),
            "shards": None if layout.shards is None else list(layout.shards),
            "levels": [
                {"shape": list(level.shape), "factors": list(level.factors), "files": level.files}
                for level in self.levels
            ],
            "files": self.files,
        }


def make_plan(
    image_shape: Index,
    *,
    layout: Layout,
    halo: Index,
    exact_halo: bool,
    block_shape: Index | None,
    budget: Budget,
) -> Plan:
    """Cut the image into blocks that fit a worker.

    Parameters
    ----------
    image_shape : Index
        In voxels.
    layout : Layout
        How the output is cut into files.
    halo : Index
        Voxels read around a core on both sides.
    exact_halo : bool
        Whether `halo` is the kernel's whole reach.
    block_shape : Index or None
        Shape of a core in voxels; None takes the shape of least expected wall time.
    budget : Budget
        Workers and their memory.

    Raises
    ------
    PlanError
        If `block_shape` is no whole number of write units, or if the blocks do not fit the memory.
    """

    def plan_of(shape: Index) -> Plan:
        return Plan(BlockGrid(image_shape, shape, halo), layout, budget, exact_halo)

    unit, room = layout.write_unit, budget.padded_voxels
    if block_shape is None:
        shape = fastest_shape(image_shape, unit, halo, room=room, workers=budget.workers)
        if shape is None:
            raise _nothing_fits(plan_of(_cut(unit, image_shape)))
        return plan_of(shape)
    _check_whole_units(block_shape, image_shape, unit)
    plan = plan_of(_cut(block_shape, image_shape))
    if plan.bytes_per_worker > budget.memory_bytes:
        largest = largest_shape(image_shape, unit, halo, room=room)
        if largest is None:
            raise _nothing_fits(plan_of(_cut(unit, image_shape)))
        raise _too_large(plan, plan_of(largest))
    return plan


def _cut(shape: Index, image_shape: Index) -> Index:
    return as_index([min(b, n) for b, n in zip(shape, image_shape, strict=True)])


def _check_whole_units(block_shape: Index, image_shape: Index, unit: Index) -> None:
    """Raise PlanError unless every length is whole write units or covers the axis."""
    if min(block_shape) < 1:
        raise PlanError(f"blocks.shape must be at least 1 on every axis, got {list(block_shape)}")
    triples = list(zip(block_shape, image_shape, unit, strict=True))
    if all(b % u == 0 or b >= n for b, n, u in triples):
        return
    near = [n if b >= n else min(n, max(1, round(b / u)) * u) for b, n, u in triples]
    raise PlanError(
        f"blocks.shape must be whole multiples of the output's write unit {list(unit)} (its shard, "
        f"or its chunk without shards) or cover the axis, got {list(block_shape)}. "
        f"The nearest that is: {near}; or change output.shards or output.chunks."
    )


def _too_large(plan: Plan, largest: Plan) -> PlanError:
    return PlanError(
        f"blocks.shape {list(plan.grid.block_shape)} {_needs(plan)}. "
        f"The largest shape that fits: {list(largest.grid.block_shape)}. Take that or `auto`, "
        f"raise cluster.memory (fewer cluster.workers leave more for each), "
        f"or lower blocks.memory_factor."
    )


def _nothing_fits(plan: Plan) -> PlanError:
    return PlanError(
        f"not even one write unit {list(plan.layout.write_unit)} with its halo "
        f"{list(plan.grid.halo)} fits: a block of it {_needs(plan)}. Raise cluster.memory (fewer "
        f"cluster.workers leave more for each), make output.shards (or output.chunks) smaller, "
        f"or lower blocks.memory_factor."
    )


def _needs(plan: Plan) -> str:
    """Return both numbers; rounded apart, so that they differ in print too."""
    budget = plan.budget
    needed = ceil(plan.bytes_per_worker / 2**30 * 100) / 100
    given = floor(budget.memory_bytes / 2**30 * 100) / 100
    reserve = budget.reserve_bytes / 2**30
    return (
        f"needs {needed:.2f} GiB a worker (blocks.memory_factor {budget.memory_factor:g} x the "
        f"padded block {list(plan.grid.largest_padded)} in float32 + {reserve:.2f} GiB), "
        f"but a worker has {given:.2f} GiB"
    )
