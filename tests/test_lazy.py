"""Dask arrays: the bits of the whole image, and nothing computed too early, twice or at once."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from math import prod
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from distributed import Client, LocalCluster
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from denoise5d import api, denoise, estimate_noise, lazy
from denoise5d.errors import InputError, NoiseError, RefusedError
from denoise5d.geometry import AXES, BlockGrid, as_index
from denoise5d.kernel import reach
from denoise5d.noise import sample_boxes
from denoise5d.parameters import resolve_parameters
from runs import structured

QUICK: dict[str, Any] = {"gain": 1, "offset": 0, "method": "safir", "iterations": 1}
STACK = structured((2, 2, 9, 30, 34), "uint16")
CHANNELS = np.stack([structured((1, 200, 240), "uint16", seed=1),
                     3 * structured((1, 200, 240), "uint16", seed=2)])  # fmt: skip


class Source:
    """An array in memory that counts who reads which of its chunks."""

    def __init__(self, values: NDArray[Any], chunks: Any) -> None:
        self.values = values
        self.reads: Counter[tuple[int, ...]] = Counter()
        places = da.zeros(values.shape, chunks=chunks)
        self.array = places.map_blocks(self._read, dtype=values.dtype, meta=values[:0].ravel()[:0])

    def _read(self, _: NDArray[Any], block_info: Any) -> NDArray[Any]:
        place = block_info[None]["array-location"]
        self.reads[tuple(a for a, _ in place)] += 1
        return self.values[tuple(slice(a, b) for a, b in place)]


@st.composite
def some_chunks(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Any way to cut the axes, also into pieces of one voxel and of very different lengths."""
    cuts = [
        sorted(draw(st.sets(st.integers(1, n - 1), max_size=3)) if n > 1 else []) for n in shape
    ]
    return tuple(
        tuple(b - a for a, b in zip([0, *cut], [*cut, n], strict=True))
        for cut, n in zip(cuts, shape, strict=True)
    )


@settings(deadline=None, max_examples=30)
@given(
    data=st.data(),
    axes=st.permutations(AXES).map("".join),
    left_out=st.sets(st.sampled_from(AXES), max_size=3),
)
def test_every_chunking_gives_the_bits_of_the_whole(
    data: st.DataObject, axes: str, left_out: set[str]
) -> None:
    axes = "".join(axis for axis in axes if axis not in left_out)
    lengths = dict(zip(AXES, (3, 2, 4, 11, 12), strict=True))
    shape = tuple(lengths[axis] for axis in axes)
    image = structured(shape, data.draw(st.sampled_from(["uint8", ">i2", "float32", "float64"])))
    quick = QUICK | {"patch": (0, 0, 0, 1, 1)}
    source = da.from_array(image, chunks=data.draw(some_chunks(shape)))
    chunks = data.draw(st.none() | st.tuples(*(st.integers((n + 2) // 3, n) for n in shape)))
    result = denoise(source, axes=axes, chunks=chunks, **quick)
    assert result.shape == image.shape
    assert result.dtype == np.float32
    if chunks is not None:
        assert result.chunksize == chunks
    expected = denoise(image, axes=axes, **quick)
    np.testing.assert_array_equal(result.compute(scheduler="sync"), expected, strict=True)


@pytest.mark.parametrize("chunks", [(1, 2, 4, 9, 34), (2, 1, 9, (5, 1, 24), (2, 32)), -1])
@pytest.mark.parametrize("quality", ["standard", "best"])
def test_refined_blocks_far_smaller_than_the_halo(chunks: Any, quality: Any) -> None:
    expected = denoise(STACK, axes=AXES, gain=1, offset=0, quality=quality)
    source = da.from_array(STACK, chunks=chunks)
    result = denoise(source, axes=AXES, gain=1, offset=0, quality=quality, chunks=(1, 2, 5, 17, 34))
    np.testing.assert_array_equal(result, expected, strict=True)


def test_nothing_is_read_before_the_result_and_every_chunk_once() -> None:
    source = Source(CHANNELS, (1, 1, 30, 50))  # estimated from the whole: it is small
    expected = denoise(CHANNELS, axes="CZYX", method="safir")
    result = denoise(source.array, axes="CZYX", method="safir", chunks=(1, 1, 110, 130))
    assert not source.reads
    np.testing.assert_array_equal(result, expected)
    assert set(source.reads.values()) == {1}
    assert len(source.reads) == prod(source.array.numblocks)


def test_a_part_of_the_result_reads_a_part_of_the_image() -> None:
    image = structured((4, 64, 64), "uint8")
    source = Source(image, (1, 8, 8))
    result = denoise(source.array, axes="ZYX", chunks=(4, 16, 16), **QUICK)
    np.testing.assert_array_equal(
        result[1:3, 17:20, :9], denoise(image, axes="ZYX", **QUICK)[1:3, 17:20, :9]
    )
    halo = reach(resolve_parameters((1, 1, *image.shape), iterations=1, ridge=False))[4]
    assert {x for _, _, x in source.reads} == set(range(0, 16 + halo, 8))


def test_a_block_is_one_task() -> None:
    source = da.from_array(STACK, chunks=(1, 1, 4, 16, 16))
    result = denoise(source, axes=AXES, chunks=(1, 1, 9, 15, 17), **QUICK)
    tasks = len(result.__dask_graph__()) - len(source.__dask_graph__())
    assert tasks == prod(result.numblocks) == 16


def test_the_same_request_has_the_same_name_and_another_has_another() -> None:
    source = da.from_array(STACK, chunks=(1, 1, 4, 16, 16))
    requests: list[dict[str, Any]] = [{}, {"iterations": 2}, {"gain": 2}, {"chunks": [9] * 5}]
    requests += [{"axes": "CTZYX"}]
    names = {denoise(source, **{"axes": AXES} | QUICK | request).name for request in requests}
    assert len(names) == len(requests)
    assert denoise(source, axes=AXES, **QUICK).name in names


@pytest.fixture
def small_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take a sample of an image that is small enough to be looked at as a whole."""
    for module in (api, lazy):
        monkeypatch.setattr(module, "sample_boxes", partial(sample_boxes, max_voxels=6 * 64 * 64))


@pytest.mark.usefixtures("small_sample")
def test_noise_of_a_sample_is_that_of_numpy_and_lazy() -> None:
    source = Source(CHANNELS, (1, 1, 25, 30))
    given_none = QUICK | {"gain": None, "offset": None}
    result = denoise(source.array, axes="CZYX", chunks=(1, 1, 100, 120), **given_none)
    assert not source.reads
    np.testing.assert_array_equal(result, denoise(CHANNELS, axes="CZYX", **given_none))
    # The sample reads its chunks for itself, so that they do not wait for their blocks.
    assert set(source.reads.values()) == {1, 2}


@pytest.mark.usefixtures("small_sample")
def test_noise_of_one_channel_looks_at_no_other() -> None:
    source = Source(CHANNELS, (1, 1, 25, 30))
    denoise(source.array, axes="CZYX", method="safir")[1].compute()
    assert {c for c, _, _, _ in source.reads} == {1}


@pytest.mark.parametrize("sampled", [False, True])
def test_estimates_are_those_of_numpy(sampled: bool, request: pytest.FixtureRequest) -> None:
    if sampled:
        request.getfixturevalue("small_sample")
    source = Source(CHANNELS.astype(float), (2, 1, 25, 30))
    for lazily, at_once in zip(
        estimate_noise(source.array, axes="CZYX"),
        estimate_noise(CHANNELS, axes="CZYX"),
        strict=True,
    ):
        assert lazily.model == at_once.model
        assert lazily.cells == at_once.cells
    assert set(source.reads.values()) == {1}
    assert (len(source.reads) < prod(source.array.numblocks)) == sampled


def test_noise_that_cannot_be_estimated_is_told_when_computed() -> None:
    flat = da.full((8, 32, 32), 7, dtype=np.uint8)
    result = denoise(flat, axes="ZYX")
    with pytest.raises(NoiseError, match="every sampled voxel has the value 7"):
        result.compute()
    with pytest.raises(NoiseError, match="every sampled voxel has the value 7"):
        estimate_noise(flat, axes="ZYX")


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_values_that_are_not_finite_end_the_blocks_that_see_them(bad: float) -> None:
    image = structured((2, 20, 60), "float64")
    image[1, 4, 5] = bad
    result = denoise(da.from_array(image, chunks=7), axes="ZYX", chunks=(2, 20, 20), **QUICK)
    with pytest.raises(InputError, match=r"holds 1 values .* first at TCZYX \(0, 0, 1, 4, 5\)"):
        result.compute()
    assert np.isfinite(result[..., 40:].compute()).all()


@dataclass
class Kernels:
    """What ran, kernels and estimates: the threads of each (0), how many at the same time."""

    threads: list[int] = field(default_factory=list)
    running: int = 0
    most: int = 0


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> Kernels:
    """Watch the kernels in a process of three threads."""
    seen, lock = Kernels(), threading.Lock()

    def watched(work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with lock:
            seen.threads.append(kwargs.get("threads", 0))
            seen.running += 1
            seen.most = max(seen.most, seen.running)
        time.sleep(0.05)  # so that others would overtake
        try:
            return work(*args, **kwargs)
        finally:
            with lock:
                seen.running -= 1

    for name in ("denoise_block", "estimate_channel"):
        monkeypatch.setattr(lazy, name, partial(watched, getattr(lazy, name)))
    monkeypatch.setattr(lazy, "available_cpus", lambda: 3)
    return seen


@pytest.mark.parametrize(
    ("asked", "got", "at_once"), [(None, 3, 1), (2, 2, 1), (1, 1, 3), (8, 8, 1)]
)
def test_as_many_kernels_at_a_time_as_have_threads(
    kernels: Kernels, asked: int | None, got: int, at_once: int
) -> None:
    source = da.from_array(STACK, chunks=(1, 1, 9, 15, 17))
    result = denoise(source, axes=AXES, threads=asked, chunks=(1, 1, 9, 15, 17), **QUICK)
    result.compute(scheduler="threads", num_workers=5)
    assert kernels.threads == [got] * 16
    assert kernels.most == at_once


def test_channels_are_estimated_one_at_a_time(kernels: Kernels) -> None:
    assert len(estimate_noise(da.from_array(CHANNELS, chunks=40), axes="CZYX")) == 2
    assert kernels.threads == [0, 0]
    assert kernels.most == 1


def test_in_a_worker_of_dask_as_many_threads_as_it_has(kernels: Kernels) -> None:
    source = da.from_array(STACK, chunks=(1, 1, 9, 15, 17))
    result = denoise(source, axes=AXES, chunks=(2, 1, 9, 15, 17), **QUICK)
    with (
        LocalCluster(1, threads_per_worker=2, processes=False, dashboard_address=None) as cluster,
        Client(cluster),
    ):
        np.testing.assert_array_equal(result.compute(), denoise(STACK, axes=AXES, **QUICK))
    assert kernels.threads == [2] * 8
    assert kernels.most == 1


def test_a_block_that_fails_gives_its_threads_back() -> None:
    image = structured((40, 40), "float32")
    image[0, 0] = np.nan
    result = denoise(da.from_array(image, chunks=20), axes="YX", chunks=(20, 20), **QUICK)
    for _ in range(2):
        with pytest.raises(InputError, match="NaN or infinite"):
            result.compute()


def test_tasks_travel_to_other_processes() -> None:
    result = denoise(da.from_array(CHANNELS, chunks=50), axes="CZYX", method="safir")
    with dask.config.set(scheduler="processes", num_workers=1):
        np.testing.assert_array_equal(result, denoise(CHANNELS, axes="CZYX", method="safir"))


@settings(deadline=None, max_examples=60)
@given(
    shape=st.tuples(st.integers(1, 9), st.integers(1, 2), st.integers(1, 40),
                    st.integers(1, 300), st.integers(1, 300)),
    chunks=st.tuples(*[st.integers(1, 300)] * 5),
    quality=st.sampled_from(["fast", "standard"]),
)  # fmt: skip
def test_blocks_of_any_image_have_bounded_memory(
    shape: tuple[int, ...], chunks: tuple[int, ...], quality: Any
) -> None:
    chunks = tuple(min(c, n) for c, n in zip(chunks, shape, strict=True))
    if prod(-(-n // c) for n, c in zip(shape, chunks, strict=True)) > 2000:
        chunks = shape
    halo = reach(resolve_parameters(as_index(shape), ridge=quality != "fast"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lazy, "MAX_VOXELS", 2**20)
        source = da.zeros(shape, chunks=chunks, dtype=np.uint8)
        result = denoise(source, axes=AXES, gain=1, offset=0, quality=quality)
    grid = BlockGrid(as_index(shape), as_index(result.chunksize), halo)
    assert len(grid) == prod(result.numblocks)
    assert grid.block_shape[1] == 1
    assert prod(grid.largest_padded) <= 2**20


def test_blocks_are_whole_chunks_where_that_costs_little() -> None:
    source = da.zeros((64, 1024, 1024), chunks=(16, 100, 100), dtype=np.uint8)
    result = denoise(source, axes="ZYX", **QUICK)
    assert result.numblocks != source.numblocks
    assert all(b % c == 0 or b == n for b, c, n in
               zip(result.chunksize, source.chunksize, source.shape, strict=True))  # fmt: skip


def test_single_planes_are_not_denoised_one_by_one() -> None:
    shape = (20, 1, 50, 1024, 1024)
    source = da.zeros(shape, chunks=(1, 1, 1, 1024, 1024), dtype=np.uint8)
    result = denoise(source, axes=AXES, gain=1, offset=0)
    halo = reach(resolve_parameters(shape))
    assert BlockGrid(shape, as_index(result.chunksize), halo).redundancy < 2


REFUSED = [
    ({"axes": "YX"}, InputError, "axes 'YX' name 2 axes, but the image has 3"),
    ({"axes": None}, InputError, "axes must be given, such as axes='ZYX'"),
    ({"sigma": [1, 2]}, NoiseError, "one for each of 1 channels, got 2"),
    ({"pvalue": 2}, RefusedError, "pvalue must be between 0 and 1, got 2"),
    ({"threads": 0}, RefusedError, "threads must be a whole number from 1 to 4096, got 0"),
    ({"chunks": (1, 2)}, RefusedError, "a length of 1 or more voxels for each of ZYX, or -1"),
    ({"chunks": (1, 0, 2)}, RefusedError, "or -1 for the whole axis, got (1, 0, 2)"),
    ({"chunks": (1, 2.5, 2)}, RefusedError, "got (1, 2.5, 2)"),
]


@pytest.mark.parametrize(("change", "error", "words"), REFUSED, ids=[str(r[0]) for r in REFUSED])
def test_what_cannot_be_is_refused_at_once(
    change: dict[str, Any], error: type[RefusedError], words: str
) -> None:
    image = da.zeros((3, 12, 14), chunks=5)
    arguments: dict[str, Any] = {"axes": "ZYX", "sigma": 5} | change
    with pytest.raises(RefusedError) as caught:
        denoise(image, **arguments)
    assert type(caught.value) is error
    assert words in str(caught.value)


@pytest.mark.parametrize("call", [denoise, estimate_noise])
def test_images_that_are_none_are_refused_at_once(call: Any) -> None:
    with pytest.raises(InputError, match="must be of integers or real numbers, got complex128"):
        call(da.zeros((4, 4), dtype=complex), axes="YX")
    with pytest.raises(InputError, match=r"must have voxels, got the shape \(0, 4\)"):
        call(da.zeros((0, 4)), axes="YX")
    unknown = da.zeros((8, 4), chunks=2)
    unknown = unknown[unknown[:, 0] < 1]
    with pytest.raises(InputError, match="must have a known shape, got"):
        call(unknown, axes="YX")


def test_the_experimental_arrays_of_dask_are_refused() -> None:
    code = "import dask.array, denoise5d; denoise5d.denoise(dask.array.zeros((4, 4)), axes='YX')"
    python = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"DASK_ARRAY__QUERY_PLANNING": "True"},
    )
    assert "InputError: dask's experimental array.query-planning is on" in python.stderr


def test_chunks_are_for_dask_arrays_only() -> None:
    with pytest.raises(RefusedError, match="chunks are those of a dask array"):
        denoise(STACK, axes=AXES, chunks=(1, 1, 1, 8, 8))  # type: ignore[call-overload]
