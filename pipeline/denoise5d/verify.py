"""Whether an output is what its run wrote, and what its input gives.

::

    open_begun     YAML and ledger are of one run; the metadata are what it wrote
    check_units    every write unit of every done block decodes and has its checksum
    check_places   small boxes, computed anew from the input alone, are the same bit for bit
    check_levels   and boxes of the pyramid, computed anew from the level below

Nothing is written, and no more is held than a few write units or one place. A run may be at work
meanwhile: what is done stays as it is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from math import prod
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from denoise5d.begun import BegunPass, BegunRun, box_words
from denoise5d.budget import io_threads
from denoise5d.errors import InputError, PlanError, WrongOutputError
from denoise5d.geometry import AXES, Block, Box, as_index
from denoise5d.kernel import (
    denoise_block,
    reach,
)
from denoise5d.ledger import Ledger
from denoise5d.level_task import level_voxels
from denoise5d.machine import GIB, this_machine
from denoise5d.store import checksum, convert_dtype

T = TypeVar("T")
R = TypeVar("R")
Array: TypeAlias = NDArray[Any]

Progress: TypeAlias = Callable[[float, float], None]
"""Is told how much is done, and of how much."""

CORNER, FACE, ANYWHERE, BLOCK = "block corners", "block faces", "anywhere", "whole blocks"
"""Kinds of places: where most blocks meet, where two do, all others, and with approximate halo."""

_AROUND = (1, 0, 2, 8, 8)
"""A place reaches so many voxels to either side of its middle, TCZYX; it is in one channel."""

_COPIES = 3
"""Of a write unit, which zarr and the checksum make."""

_UNITS_BYTES = GIB
"""What all write units under way may take together, unless a single one takes more."""


@dataclass(frozen=True, slots=True)
class Units:
    """The write units that were checked.

    Attributes
    ----------
    blocks, level_blocks : int
        How many, of the image and of all levels of its pyramid.
    units : int
        How many, of both.
    voxel_bytes : int
        Bytes of their voxels, decoded.
    """

    blocks: int
    level_blocks: int
    units: int
    voxel_bytes: int


def check_units(run: BegunRun, progress: Progress) -> Units:
    """Decode every write unit of every block that is done, and compare it with its checksum.

    Parameters
    ----------
    run : BegunRun
        The run.
    progress : callable
        Is told after each unit how many blocks are checked, and of how many.

    Raises
    ------
    WrongOutputError
        For the first unit that is not as the ledger says.
    """
    unit_bytes = prod(run.output.unit) * run.output.dtype.itemsize
    room = max(1, _UNITS_BYTES // (_COPIES * unit_bytes))
    at_once = min(io_threads(this_machine().cpus), room)
    done = [part.ledger.done_count for part in run.passes]
    units = voxel_bytes = 0
    with ThreadPoolExecutor(at_once) as pool:
        listed = chain.from_iterable(_listed(part, sum(done[: part.level])) for part in run.passes)
        for blocks, size in _ahead(pool, _check_unit, listed, at_once):
            units, voxel_bytes = units + 1, voxel_bytes + size
            progress(blocks, sum(done))
    return Units(done[0], sum(done[1:]), units, voxel_bytes)


@dataclass(frozen=True, slots=True)
class _Unit:
    part: BegunPass
    block: int
    box: Box
    checksum: str
    blocks: float  # that are checked once it is


def _listed(part: BegunPass, before: int) -> Iterator[_Unit]:
    """Yield the units of all blocks of a pass that are done, as its ledger is read."""
    known = (r for r in part.ledger.records() if part.ledger.is_done(r.block))
    for blocks, record in enumerate(known, before):
        boxes = list(part.grid[record.block].core.tiles(part.output.unit))
        if len(boxes) != len(record.checksums):
            raise WrongOutputError(
                f"{part.ledger.path}: {part.words(record.block)} has {len(boxes)} write units, got "
                f"{len(record.checksums)} checksums. {part.again(record.block)}"
            )
        for number, (box, expected) in enumerate(zip(boxes, record.checksums, strict=True), 1):
            yield _Unit(part, record.block, box, expected, blocks + number / len(boxes))


def _check_unit(unit: _Unit) -> tuple[float, int]:
    """Check one unit; return the blocks checked with it, and its bytes."""
    output = unit.part.output
    file = output.file(unit.box)
    what = f"{file}, a write unit of {unit.part.words(unit.block)} ({box_words(unit.box)})"
    way_out = unit.part.again(unit.block)
    try:
        stored = output.read(unit.box)
    except InputError as error:
        raise WrongOutputError(
            f"{what}, cannot be decoded: {error.__cause__}. {way_out}"
        ) from error
    found = checksum(stored)
    if found != unit.checksum:
        missing = "" if file.exists() else ", since there is no such file"
        raise WrongOutputError(
            f"{what}, must have the checksum {unit.checksum} that the ledger says, got "
            f"{found}{missing}. {way_out}"
        )
    return unit.blocks, stored.nbytes


def _ahead(pool: Executor, do: Callable[[T], R], items: Iterable[T], at_once: int) -> Iterator[R]:
    """Yield what comes of each item, in order; only so many are under way at a time."""
    waiting: deque[Any] = deque()
    for item in items:
        waiting.append(pool.submit(do, item))
        if len(waiting) > at_once:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


@dataclass(frozen=True, slots=True)
class Place:
    """A box that is computed anew.

    Attributes
    ----------
    kind : str
        `CORNER`, `FACE`, `ANYWHERE` or `BLOCK`.
    box : Box
        What is computed.
    padded : Box
        What is read for it.
    parts : tuple of Box
        What is compared: the parts of `box` in blocks that are done.
    """

    kind: str
    box: Box
    padded: Box
    parts: tuple[Box, ...]


def choose_places(run: BegunRun, count: int, rng: np.random.Generator) -> list[Place]:
    """Choose what to compute anew: half of it around block corners, a quarter around faces.

    With an approximate halo the cuts show, and what can be compared is whole blocks.

    Parameters
    ----------
    run : BegunRun
        With at least one block done, unless `count` is 0.
    count : int
        How many at most: none is chosen twice.
    rng : numpy.random.Generator
        Chooses.
    """
    grid, done = run.job.plan.grid, _done(run.ledger)
    if not done.size:
        return []
    if not run.job.plan.exact_halo:
        chosen = rng.choice(done, min(count, done.size), replace=False)
        return [_whole_block(run, grid[int(index)]) for index in chosen]
    kinds = [CORNER if 2 * k < count else FACE if 4 * k < 3 * count else ANYWHERE
             for k in range(count)]  # fmt: skip
    blocks = (grid[int(index)] for index in rng.choice(done, count))
    places = [_place(run, block, kind, rng) for block, kind in zip(blocks, kinds, strict=True)]
    return list(dict.fromkeys(places))  # there may be few corners


def _done(ledger: Ledger) -> NDArray[np.int64]:
    return np.fromiter(ledger.done(), np.int64, ledger.done_count)


def _place(run: BegunRun, block: Block, kind: str, rng: np.random.Generator) -> Place:
    """Choose a place of a kind, in a block and in what it meets there."""
    grid, core = run.job.plan.grid, block.core
    ends = zip(core.start, core.stop, grid.image_shape, strict=True)
    faces = [[p for p in (a, b) if 0 < p < n] for a, b, n in ends]
    faces[1] = []  # channels know nothing of each other
    seams = [axis for axis, found in enumerate(faces) if found]
    if kind == FACE and seams:
        seams = [int(rng.choice(seams))]
    middle = rng.integers(core.start, core.stop).tolist()
    for axis in seams if kind != ANYWHERE else ():
        middle[axis] = int(rng.choice(faces[axis]))
    stop = as_index([m + (a or 1) for m, a in zip(middle, _AROUND, strict=True)])
    start = as_index([max(0, m - a) for m, a in zip(middle, _AROUND, strict=True)])
    box = Box(start, as_index([min(s, n) for s, n in zip(stop, grid.image_shape, strict=True)]))
    parts = [p for p in box.tiles(grid.block_shape) if run.ledger.is_done(grid.index_of(p.start))]
    padded = box.grown(reach(run.job.parameters), grid.image_shape)
    return Place(kind if seams else ANYWHERE, box, padded, tuple(parts))


def _whole_block(run: BegunRun, block: Block) -> Place:
    return Place(BLOCK, block.core, block.padded, tuple(block.core.tiles(run.output.unit)))


def check_places(run: BegunRun, places: list[Place], progress: Progress) -> int:
    """Compute places from the input alone and compare them with the output, bit for bit.

    Returns
    -------
    int
        Voxels that were compared.

    Raises
    ------
    WrongOutputError
        For the first voxel that differs.
    InputError
        If the input is damaged.
    PlanError
        If a whole block, of an approximate halo, does not fit this machine.
    """
    needed, machine = run.job.plan.bytes_per_worker, this_machine()
    if needed > machine.memory_bytes and any(place.kind == BLOCK for place in places):
        raise PlanError(
            f"with an approximate halo whole blocks are computed anew, which takes up to "
            f"{needed / GIB:.2f} GiB, and this machine has {machine.memory_bytes / GIB:.2f} GiB: "
            f"verify on a node of the cluster, or with --places 0 (checksums only)"
        )
    for number, place in enumerate(places, 1):
        _check_place(run, place, machine.cpus)
        progress(number, len(places))
    return sum(part.voxels for place in places for part in place.parts)


def _check_place(run: BegunRun, place: Place, threads: int) -> None:
    values = denoise_block(
        run.image.read(place.padded),
        padded_origin=place.padded.start,
        core=place.box,
        image_shape=run.job.plan.grid.image_shape,
        noise=run.noise,
        parameters=run.job.parameters,
        threads=threads,
    )
    for part in place.parts:
        computed = values[part.relative_to(place.box.start).slices]
        expected = convert_dtype(computed, run.output.dtype)
        _compare(run.passes[0], part, expected)


def check_levels(
    run: BegunRun, count: int, rng: np.random.Generator, progress: Progress
) -> tuple[int, int]:
    """Compute boxes of the levels anew from the level below, and compare them bit for bit.

    Parameters
    ----------
    run : BegunRun
        There need be no level.
    count : int
        How many boxes at most, in any level.
    rng : numpy.random.Generator
        Chooses.
    progress : callable
        Is told how many are done, and of how many.

    Returns
    -------
    boxes, voxels : int
        That were compared.

    Raises
    ------
    WrongOutputError
        For the first voxel that differs.
    """
    begun = [(part, _done(part.ledger)) for part in run.levels if part.ledger.done_count]
    voxels, count = 0, count if begun else 0
    for number in range(count):
        part, done = begun[rng.integers(len(begun))]
        level = run.job.plan.levels[part.level - 1]
        tiles = list(part.grid[int(rng.choice(done))].core.tiles(level.tile))
        box = tiles[rng.integers(len(tiles))]
        below = run.passes[part.level - 1].output
        _compare(part, box, level_voxels(below, level, box))
        voxels += box.voxels
        progress(number + 1, count)
    return count, voxels


def _compare(part: BegunPass, box: Box, expected: Array) -> None:
    """Raise what tells of the first voxel of a box that differs, if there is one."""
    found = part.output.read(box)
    differing = np.argwhere(_bits(expected) != _bits(found))
    if not len(differing):
        return
    first = tuple(int(i) for i in differing[0])
    voxel = as_index([a + i for a, i in zip(box.start, first, strict=True)])
    block = part.grid.index_of(voxel)
    source = "the level below" if part.level else "the input"
    raise WrongOutputError(
        f"{part.output.file(Box(voxel, voxel))}: voxel {AXES} {voxel} of {part.words(block)} must "
        f"be {expected[first]}, computed anew from {source}, got {found[first]}; {len(differing)} "
        f"of {box.voxels} voxels differ in this place ({box_words(box)}). If its checksum is "
        f"right, {source} has changed since the run, or a processor was at fault. Put back "
        f"{source} as it was, or if it is: {part.again(block)}"
    )


def _bits(values: Array) -> Array:
    """Return the values as integers: every bit counts, and NaN equals itself."""
    return values.view(f"u{values.dtype.itemsize}")
