"""The arithmetic of a pyramid's levels: shapes, scales, translations, files, blocks."""

from __future__ import annotations

from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from denoise5d.geometry import Box, Index
from denoise5d.layout import Layout
from denoise5d.levels import SMALLEST_LENGTH, PyramidLevel, make_levels

ISOTROPIC = (1.0,) * 5


def levels_of(
    shape: Index,
    scales: tuple[float, ...] = ISOTROPIC,
    chunks: Index = (1, 1, 64, 128, 128),
    shards: Index | None = None,
    core_voxels: int = 2**30,
) -> tuple[PyramidLevel, ...]:
    return make_levels(shape, scales, layout=Layout(chunks, shards), core_voxels=core_voxels)


def shapes_of(shape: Index, scales: tuple[float, ...] = ISOTROPIC) -> list[Index]:
    return [level.shape for level in levels_of(shape, scales)]


lengths = st.tuples(
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 700),
    st.integers(1, 3000),
    st.integers(1, 3000),
)
voxel_sizes = st.tuples(*[st.floats(0.01, 100)] * 5)
chunk_shapes = st.tuples(st.integers(1, 2), st.integers(1, 2), *[st.integers(1, 300)] * 3)


@given(lengths, voxel_sizes, chunk_shapes, st.tuples(*[st.integers(1, 3)] * 5), st.booleans())
def test_each_level_is_made_of_the_one_below(
    shape: Index, scales: tuple[float, ...], chunks: Index, factor: Index, sharded: bool
) -> None:
    shards = tuple(c * f for c, f in zip(chunks, factor, strict=True)) if sharded else None
    below, total = shape, [1] * 5
    levels = levels_of(shape, scales, chunks, shards, core_voxels=2**20)
    for number, level in enumerate(levels, 1):
        assert level.number == number
        assert level.below == below
        assert max(below[3:]) > SMALLEST_LENGTH
        for axis, (n, m, s) in enumerate(zip(below, level.shape, level.step, strict=True)):
            assert m == -(-n // s)
            if axis < 2 or n == 1:
                assert s == 1
            elif axis > 2:
                assert s == 2
        total = [f * s for f, s in zip(total, level.step, strict=True)]
        assert list(level.factors) == total
        assert all(c <= n for c, n in zip(level.layout.chunks, level.shape, strict=True))
        assert (level.layout.shards is None) == (shards is None)
        units = [-(-n // u) for n, u in zip(level.shape, level.layout.write_unit, strict=True)]
        assert level.files == prod(units) + 2, "zarr.json and the ledger"
        assert level.layout.format == "ome-zarr-0.5"
        assert level.grid.image_shape == level.shape
        pairs = list(zip(level.block_shape, level.layout.write_unit, strict=True))
        assert all(b % u == 0 for b, u in pairs)
        assert prod(level.block_shape) <= max(prod(level.layout.write_unit), 2**20)
        below = level.shape
    assert max(below[3:]) <= SMALLEST_LENGTH


def test_levels_are_of_the_format_of_the_image() -> None:
    layout = Layout((1, 1, 1, 128, 128), None, "ome-zarr-0.4")
    levels = make_levels((1, 1, 1, 600, 900), ISOTROPIC, layout=layout, core_voxels=2**20)
    assert [level.layout.format for level in levels] == ["ome-zarr-0.4"] * 2
    assert levels[0].files == 3 * 4 + 2 + 1


@given(st.integers(2, 5000), voxel_sizes)
def test_z_is_halved_when_that_brings_voxels_closer_to_isotropic(
    depth: int, scales: tuple[float, ...]
) -> None:
    z, y, x = scales[2:]
    for level in levels_of((1, 1, depth, 5000, 5000), scales):
        y, x = 2 * y, 2 * x
        across = (y * x) ** 0.5
        halved = level.step[2] == 2
        if not halved and level.below[2] > 1:
            assert 2 * z / across >= across / z * (1 - 1e-9)
        if halved:
            assert z < across, "it would otherwise be finer in z"
            assert 2 * z / across <= across / z * (1 + 1e-9)
            z *= 2


def test_some_pyramids() -> None:
    assert shapes_of((1, 1, 1, 256, 256)) == []
    assert shapes_of((1, 1, 900, 200, 256)) == [], "a stack that is narrow already"
    assert shapes_of((3, 2, 1, 257, 100)) == [(3, 2, 1, 129, 50)]
    assert shapes_of((1, 1, 1, 1, 1000)) == [(1, 1, 1, 1, 500), (1, 1, 1, 1, 250)]
    assert shapes_of((17, 1, 1501, 2048, 1936)) == [
        (17, 1, 751, 1024, 968),
        (17, 1, 376, 512, 484),
        (17, 1, 188, 256, 242),
    ]
    coarse = (1.0, 1.0, 4.0, 1.0, 1.0)  # z is four times as coarse as y and x
    assert shapes_of((1, 1, 101, 2048, 2048), coarse) == [
        (1, 1, 101, 1024, 1024),
        (1, 1, 101, 512, 512),
        (1, 1, 51, 256, 256),
    ]
    mirrored = (1.0, 1.0, 4.0, -1.0, 1.0)
    assert shapes_of((1, 1, 101, 2048, 2048), mirrored) == shapes_of(
        (1, 1, 101, 2048, 2048), coarse
    )


def test_scales_and_translations() -> None:
    """The middle of a voxel is that of the voxels of the image that it is made of."""
    scales = (30.0, 1.0, 2.0, 0.5, 0.25)
    first, second = levels_of((2, 1, 40, 1000, 1000), scales)
    assert first.scales(scales) == (30.0, 1.0, 2.0, 1.0, 0.5)
    assert first.translations(scales, None) == (0.0, 0.0, 0.0, 0.25, 0.125)
    assert second.factors == (1, 1, 1, 4, 4)
    assert second.translations(scales, (5.0, 0.0, -1.0, 10.0, 20.0)) == (
        5.0, 0.0, -1.0, 10.0 + (0 + 0.5 + 1 + 1.5) / 4, 20.0 + (0 + 0.25 + 0.5 + 0.75) / 4,
    )  # fmt: skip


@given(lengths, chunk_shapes, st.data())
def test_sources_and_tiles(shape: Index, chunks: Index, data: st.DataObject) -> None:
    """The sources of a level's tiles are the level below, once; and whole chunks of it, if even."""
    levels = levels_of(shape, chunks=chunks)
    if not levels:
        return
    level = data.draw(st.sampled_from(levels))
    below = levels[level.number - 2].layout.chunks if level.number > 1 else chunks
    for s, c, t in zip(level.step, below, level.tile, strict=True):
        assert t * s % c == 0
        assert t * s <= 2 * c or prod(level.tile) * prod(level.step) <= 2**20
    index = data.draw(st.integers(0, len(level.grid) - 1))
    core = level.grid[index].core
    unit = next(iter(core.tiles(level.layout.write_unit)))
    tiles = list(unit.tiles(level.tile))
    assert sum(tile.voxels for tile in tiles) == unit.voxels
    whole = level.source(unit)
    assert Box.whole(level.below).contains(whole)
    assert sum(level.source(tile).voxels for tile in tiles) == whole.voxels
    ends = zip(whole.stop, core.stop, level.shape, level.below, unit.stop, strict=True)
    assert all(a == n for a, _, m, n, b in ends if b == m), "the ends are not left out"


@pytest.mark.parametrize("sharded", [False, True])
def test_a_huge_pyramid_costs_nothing(sharded: bool) -> None:
    shards = (1, 1, 64, 256, 256) if sharded else None
    shape = (100_000, 4, 1000, 10_000, 10_000)
    levels = levels_of(shape, chunks=(1, 1, 32, 64, 64), shards=shards)
    assert len(levels) == 6
    assert levels[0].layout.write_units(levels[0].shape) > 10**7
    assert levels[0].grid[len(levels[0].grid) - 1].core.stop == levels[0].shape
