"""Dask arrays: one task a block, which takes the chunks that its padded box meets.

::

    source   chunk  chunk  chunk  chunk  chunk  chunk     whatever computes them
               └──────┴──┬───┴──┐ └──┬───┴──────┘
                         │      └──┐ │
    result             block      block                   the same box as in the whole image

Neighbouring blocks take the same chunks, so that no chunk is computed twice and none is sent in
parts. With the exact halo a block comes out as if the whole image had been in memory.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, pairwise, product
from math import gcd, isnan
from threading import Condition
from typing import Any, TypeAlias, TypeVar

import numpy as np
from dask.array.core import Array
from dask.base import compute, tokenize
from dask.delayed import Delayed
from dask.graph_manipulation import clone
from dask.highlevelgraph import HighLevelGraph
from numpy.typing import NDArray

from denoise5d.arguments import is_whole
from denoise5d.arrays import check_axes, from_tczyx, to_tczyx, voxel_type
from denoise5d.errors import InputError, RefusedError
from denoise5d.geometry import AXES, Block, BlockGrid, Box, Index, as_index
from denoise5d.kernel import denoise_block, reach
from denoise5d.machine import available_cpus
from denoise5d.noise import NoiseEstimate, NoiseModel, estimate_channel, sample_boxes
from denoise5d.parameters import Parameters
from denoise5d.shapes import fastest_shape

Key: TypeAlias = tuple[str | int, ...]
Graph: TypeAlias = dict[Key, Any]
T = TypeVar("T")

MAX_VOXELS = 2**25
"""Voxels of a padded block unless told otherwise: 128 MiB in float32."""

_UNIT = 64
"""Voxels of the parts of chunks that blocks are made of where they are not whole ones, or fewer."""

_WHOLE_CHUNKS_MAY_COST = 1.2
"""Voxels read by blocks of whole chunks over those read by the best ones, at most."""


class _Threads:
    """The threads of this process, which the kernels and estimates that run in it share.

    Each takes memory while it runs. So those wait that would have no thread.
    """

    def __init__(self) -> None:
        self._changed = Condition()
        self._taken = 0

    @contextmanager
    def take(self, threads: int, of: int) -> Iterator[None]:
        """Wait until so many `of` all threads are free; one caller may always go on."""
        with self._changed:
            self._changed.wait_for(lambda: self._taken == 0 or self._taken + threads <= of)
            self._taken += threads
        try:
            yield
        finally:
            with self._changed:
                self._taken -= threads
                self._changed.notify_all()


_threads = _Threads()


@dataclass(frozen=True, slots=True)
class _Cut:
    """Puts a box of the image together from the chunks that it meets.

    Attributes
    ----------
    box : Box
        What is wanted.
    starts : tuple of tuple of int
        Where the chunks begin along each of TCZYX; they come in C order of these.
    axes : str
        The axes of a chunk.
    dtype : numpy.dtype
        Type of the box.
    """

    box: Box
    starts: tuple[tuple[int, ...], ...]
    axes: str
    dtype: np.dtype[Any]

    def __call__(self, chunks: Sequence[NDArray[Any]]) -> NDArray[Any]:
        out = np.empty(self.box.shape, self.dtype)
        with np.errstate(over="ignore"):  # too large for float32: infinite, which is refused
            for chunk, corner in zip(chunks, product(*self.starts), strict=True):
                part = to_tczyx(np.asarray(chunk), self.axes)
                start = np.maximum(corner, self.box.start)
                stop = np.minimum(np.add(corner, part.shape), self.box.stop)
                met = Box(as_index(start.tolist()), as_index(stop.tolist()))
                inside = met.relative_to(as_index(corner)).slices
                out[met.relative_to(self.box.start).slices] = part[inside]
        return out


@dataclass(frozen=True, slots=True)
class _Source:
    """A dask array, seen as an image TCZYX."""

    array: Array
    axes: str

    @property
    def dtype(self) -> np.dtype[Any]:
        return voxel_type(self.array.dtype)

    @property
    def chunks(self) -> tuple[tuple[int, ...], ...]:
        own = dict(zip(self.axes, self.array.chunks, strict=True))
        return tuple(own.get(axis, (1,)) for axis in AXES)

    @property
    def shape(self) -> Index:
        return as_index([sum(lengths) for lengths in self.chunks])

    def cut(self, box: Box) -> tuple[_Cut, list[Key]]:
        """Return what puts a box together, and the keys of the chunks that it takes."""
        met, starts = [], []
        for lengths, first, beyond in zip(self.chunks, box.start, box.stop, strict=True):
            edges = list(accumulate(lengths, initial=0))
            spans = enumerate(pairwise(edges))
            met.append([i for i, (a, b) in spans if max(a, first) < min(b, beyond)])
            starts.append(tuple(edges[i] for i in met[-1]))
        keys: list[Key] = [(self.array.name, *_in_order(cell, self.axes)) for cell in product(*met)]
        return _Cut(box, tuple(starts), self.axes, self.dtype), keys


def denoise(
    array: Array,
    axes: str | None,
    *,
    noise: Callable[[int], list[NoiseModel] | None],
    parameters: Callable[[Index], Parameters],
    chunks: Sequence[int] | None,
    threads: int | None,
) -> Array:
    """Return the denoised array, float32, of which nothing is computed yet.

    Parameters
    ----------
    array : dask.array.Array
        The image.
    axes : str
        The name of every axis.
    noise : callable
        Gives the noise for a number of channels; None: estimate it when the result is computed.
    parameters : callable
        Gives the parameters for the image's shape, TCZYX.
    chunks : sequence of int, optional
        Lengths of the result's chunks in the order of `axes`.
    threads : int, optional
        Threads of a kernel; all that the process has unless given. As many kernels run at the
        same time as have threads.
    """
    source = _source(array, axes)
    shape = source.shape
    models, wanted = noise(shape[1]), parameters(shape)
    halo = reach(wanted)
    grid = BlockGrid(shape, _block_shape(source, halo, chunks), halo)
    token = tokenize(array.name, source.axes, models, wanted, grid.block_shape, threads)
    name, dependencies = f"denoise5d-{token}", [array]
    graph: Graph = {}
    known: Sequence[NoiseModel | Key] | None = models
    if known is None:
        sampled, graph, known = _estimates(source, token, _model_of)
        dependencies.append(sampled)
    for block in grid:
        cut, taken = source.cut(block.padded)
        channels = range(block.core.start[1], block.core.stop[1])
        needed = [known[c] if c in channels else None for c in range(shape[1])]
        work = partial(_denoised, cut, block, shape, wanted, threads)
        graph[name, *_place(grid, block, source.axes)] = (work, taken, needed)
    layers = HighLevelGraph.from_collections(name, graph, dependencies=dependencies)
    lengths = _in_order(_core_lengths(grid), source.axes)
    return Array(layers, name, lengths, meta=np.empty(0, np.float32))


def estimate_noise(array: Array, axes: str | None) -> list[NoiseEstimate]:
    """Return the noise of each channel; computes the chunks that the sample boxes meet."""
    source = _source(array, axes)
    token = tokenize(array.name, source.axes)
    sampled, graph, keys = _estimates(source, token, _estimate_of)
    name = f"denoise5d-estimates-{token}"
    layers = HighLevelGraph.from_collections(name, graph, dependencies=[sampled])
    return list(compute(*(Delayed(key, layers, layer=name) for key in keys)))


def _source(array: Array, axes: str | None) -> _Source:
    """Return a dask array as an image; raise InputError where it is none that can be denoised."""
    if not isinstance(array, Array):
        raise InputError(
            "dask's experimental array.query-planning is on, which denoise5d does not know; "
            "switch it off before dask.array is imported"
        )
    if any(isnan(n) for n in array.shape):
        raise InputError(
            f"the image must have a known shape, got {array.shape}; array.compute_chunk_sizes() "
            f"finds it out"
        )
    source = _Source(array, check_axes(axes, array.shape))
    voxel_type(array.dtype)
    return source


def _block_shape(source: _Source, halo: Index, chunks: Sequence[int] | None) -> Index:
    """Return the shape of a core: what is asked for, or what reads little twice and fits."""
    shape = source.shape
    if chunks is not None:
        return _asked_for(chunks, source)
    t, _, z, y, x = (max(lengths) for lengths in source.chunks)
    largest = (t, 1, z, y, x)  # channels are denoised one by one: several in a block gain nothing
    parts = as_index([gcd(n, _UNIT) for n in largest])
    whole, free = (
        fastest_shape(shape, unit, halo, room=MAX_VOXELS, workers=1) for unit in (largest, parts)
    )
    if free is None:
        return parts
    if whole is None:
        return free
    voxels = [BlockGrid(shape, block, halo).padded_voxels for block in (whole, free)]
    return whole if voxels[0] <= _WHOLE_CHUNKS_MAY_COST * voxels[1] else free


def _asked_for(chunks: Sequence[int], source: _Source) -> Index:
    axes, shape = source.axes, source.array.shape
    if len(chunks) != len(axes) or not all(c == -1 or is_whole(c, 1, sys.maxsize) for c in chunks):
        raise RefusedError(
            f"chunks must be a length of 1 or more voxels for each of {axes}, or -1 for the whole "
            f"axis, got {chunks}"
        )
    lengths = [n if c == -1 else min(int(c), n) for c, n in zip(chunks, shape, strict=True)]
    own = dict(zip(axes, lengths, strict=True))
    return as_index([own.get(axis, 1) for axis in AXES])


def _estimates(
    source: _Source, token: str, work: Callable[[Sequence[NDArray[Any]]], Any]
) -> tuple[Array, Graph, list[Key]]:
    """Return tasks that estimate the noise, the array they sample, and one key for each channel.

    A large image is sampled all over. Its sampled chunks are computed for that alone: were they
    shared with the blocks, they would all wait in memory until their blocks' turn has come.
    """
    shape = source.shape
    boxes = {channel: sample_boxes(shape, channel) for channel in range(shape[1])}
    if any(len(sample) > 1 for sample in boxes.values()):
        source = _Source(clone(source.array, seed=token), source.axes)
    graph: Graph = {}
    keys: list[Key] = []
    for channel, sample in boxes.items():
        parts: list[Key] = []
        for number, box in enumerate(sample):
            parts.append((f"denoise5d-sample-{token}", channel, number))
            graph[parts[-1]] = source.cut(box)
        keys.append((f"denoise5d-noise-{token}", channel))
        graph[keys[-1]] = (work, parts)
    return source.array, graph, keys


def _estimate_of(samples: Sequence[NDArray[Any]]) -> NoiseEstimate:
    there = _threads_here()
    with _threads.take(there, there):
        return estimate_channel([sample[:, 0] for sample in samples])


def _model_of(samples: Sequence[NDArray[Any]]) -> NoiseModel:
    return _estimate_of(samples).model


def _denoised(
    cut: _Cut,
    block: Block,
    image_shape: Index,
    parameters: Parameters,
    threads: int | None,
    chunks: Sequence[NDArray[Any]],
    noise: Sequence[NoiseModel],
) -> NDArray[np.float32]:
    """Denoise one block: what a task of the result does."""
    there = _threads_here()
    threads = threads or there
    with _threads.take(threads, there):
        core = denoise_block(
            cut(chunks),
            padded_origin=block.padded.start,
            core=block.core,
            image_shape=image_shape,
            noise=noise,
            parameters=parameters,
            threads=threads,
        )
    return from_tczyx(core, cut.axes)


def _threads_here() -> int:
    """Return the threads that dask has in this process: a worker's, or all of the machine."""
    worker = sys.modules.get("distributed.worker")
    if worker is not None:
        with suppress(ValueError):  # this is no worker
            return int(worker.get_worker().state.nthreads)
    return available_cpus()


def _place(grid: BlockGrid, block: Block, axes: str) -> tuple[int, ...]:
    """Return which chunk of the result, along each of `axes`, a block is."""
    pairs = zip(block.core.start, grid.block_shape, strict=True)
    return _in_order([start // length for start, length in pairs], axes)


def _core_lengths(grid: BlockGrid) -> list[tuple[int, ...]]:
    """Return the lengths of the cores along each of TCZYX."""
    pairs = zip(grid.image_shape, grid.block_shape, strict=True)
    return [tuple(min(b, n - a) for a in range(0, n, b)) for n, b in pairs]


def _in_order(values: Sequence[T], axes: str) -> tuple[T, ...]:
    """Return those of five values TCZYX that belong to `axes`, in their order."""
    return tuple(values[AXES.index(axis)] for axis in axes)
