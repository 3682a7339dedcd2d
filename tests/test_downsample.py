"""The mean of voxels against a slow and obvious one; blockwise against whole."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from denoise5d.downsample import block_mean
from denoise5d.geometry import Box, Index
from denoise5d.layout import Layout
from denoise5d.levels import PyramidLevel

INTEGERS = ["uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"]

shapes = st.tuples(*[st.integers(1, 2)] * 2, *[st.integers(1, 5)] * 3)
steps = st.tuples(st.just(1), st.just(1), *[st.integers(1, 2)] * 3)


def obvious(source: NDArray[Any], step: Index) -> NDArray[Any]:
    """Return the mean of every voxel of the result by itself, with unlimited integers."""
    shape = [-(-n // s) for n, s in zip(source.shape, step, strict=True)]
    result = np.empty(shape, source.dtype)
    for index in product(*map(range, shape)):
        part = source[tuple(slice(i * s, (i + 1) * s) for i, s in zip(index, step, strict=True))]
        if source.dtype.kind == "f":
            result[index] = np.float32(sum(map(Fraction, part.ravel().tolist())) / part.size)
        else:  # round of a fraction is half to even
            result[index] = round(Fraction(sum(part.ravel().tolist()), part.size))
    return result


@pytest.mark.parametrize("dtype", INTEGERS)
@given(st.data())
def test_integers_are_exact(dtype: str, data: st.DataObject) -> None:
    source = data.draw(arrays(dtype, data.draw(shapes)))
    step = data.draw(steps)
    np.testing.assert_array_equal(block_mean(source, step), obvious(source, step), strict=True)


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("end", ["min", "max"])
def test_nothing_wraps_at_the_ends_of_a_type(dtype: str, end: str) -> None:
    value = getattr(np.iinfo(dtype), end)
    source = np.full((1, 1, 3, 5, 4), value, dtype)
    assert (block_mean(source, (1, 1, 2, 2, 2)) == value).all()


@given(arrays("float32", shapes, elements=st.integers(-1000, 1000).map(lambda n: n / 8)), steps)
def test_floats_that_are_exact(source: NDArray[Any], step: Index) -> None:
    np.testing.assert_array_equal(block_mean(source, step), obvious(source, step), strict=True)


finite = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(arrays("float32", shapes, elements=finite), steps)
def test_any_floats_are_within_their_range(source: NDArray[Any], step: Index) -> None:
    found = block_mean(source, step)
    assert found.dtype == np.float32
    assert source.min() <= found.min()
    assert found.max() <= source.max()


@given(st.data(), st.sampled_from(["uint16", "float32"]))
def test_blockwise_equals_whole(data: st.DataObject, dtype: str) -> None:
    shape = data.draw(st.tuples(*[st.integers(1, 2)] * 2, *[st.integers(1, 9)] * 3))
    step = data.draw(steps)
    elements = finite if dtype == "float32" else None
    source = data.draw(arrays(dtype, shape, elements=elements))
    unit = data.draw(st.tuples(*[st.integers(1, 4)] * 5))
    level = PyramidLevel(1, shape, step, step, Layout(unit), unit, unit)
    whole = block_mean(source, step)
    assert whole.shape == level.shape
    for tile in Box.whole(level.shape).tiles(unit):
        found = block_mean(source[level.source(tile).slices], step)
        assert found.tobytes() == whole[tile.slices].tobytes()
