"""The tiling of the image by cores, their padding, and the sums in closed form."""

import itertools
from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from denoise5d.geometry import Block, BlockGrid, Box, as_index, padded_lengths


def indices(low, high):
    return st.tuples(*[st.integers(low, high)] * 5)


grids = st.builds(BlockGrid, indices(1, 7), indices(1, 8), indices(0, 9))


@st.composite
def boxes(draw, high=9):
    start = draw(indices(0, high))
    return Box(start, as_index([a + n for a, n in zip(start, draw(indices(0, 5)), strict=True)]))


@given(grids)
def test_cores_tile_the_image_without_overlap(grid):
    owners = np.zeros(grid.image_shape, int)
    for block in grid:
        owners[block.core.slices] += 1
    assert (owners == 1).all()
    assert prod(grid.counts) == len(grid)


@given(grids)
def test_padded_is_the_core_and_its_halo_cut_at_the_image(grid):
    for block in grid:
        assert block.padded.contains(block.core)
        assert Box.whole(grid.image_shape).contains(block.padded)
        for axis, halo in enumerate(grid.halo):
            left = block.core.start[axis] - block.padded.start[axis]
            right = block.padded.stop[axis] - block.core.stop[axis]
            assert left == min(halo, block.core.start[axis])
            assert right == min(halo, grid.image_shape[axis] - block.core.stop[axis])


@given(grids)
def test_a_block_is_the_same_by_number_and_by_iteration(grid):
    listed = list(grid)
    assert listed == [grid[i] for i in range(len(grid))]
    assert [block.index for block in listed] == list(range(len(grid)))
    starts = [block.core.start for block in listed]
    assert starts == sorted(starts)  # C order


@given(grids)
def test_every_voxel_has_its_block(grid):
    for block in grid:
        last = as_index([n - 1 for n in block.core.stop])
        assert grid.index_of(block.core.start) == grid.index_of(last) == block.index


@given(grids)
def test_sums_over_all_blocks(grid):
    padded = [block.padded for block in grid]
    assert grid.padded_voxels == sum(box.voxels for box in padded)
    assert grid.redundancy == sum(box.voxels for box in padded) / prod(grid.image_shape)
    assert grid.redundancy >= 1
    assert grid.largest_padded == tuple(max(box.shape[i] for box in padded) for i in range(5))


@given(st.integers(1, 200), st.integers(1, 210), st.integers(0, 220))
def test_padded_lengths_in_closed_form(length, block, halo):
    each = [min(length, a + block + halo) - max(0, a - halo) for a in range(0, length, block)]
    assert padded_lengths(length, block, halo) == (sum(each), max(each))


@given(boxes(), indices(1, 5))
def test_tiles_cover_the_box_exactly_on_the_lattice(box, unit):
    owners = np.zeros([16] * 5, np.int8)
    for tile in box.tiles(unit):
        assert tile.voxels > 0
        assert box.contains(tile)
        for a, b, u in zip(tile.start, tile.stop, unit, strict=True):
            assert a // u == (b - 1) // u  # within one cell of the lattice anchored at 0
        owners[tile.slices] += 1
    inside = np.zeros_like(owners)
    inside[box.slices] = 1
    assert (owners == inside).all()


def test_tiles_come_in_c_order_with_ragged_ends():
    box = Box((0, 0, 0, 4, 2), (1, 1, 1, 9, 5))
    tiles = [(tile.start[3:], tile.stop[3:]) for tile in box.tiles((1, 1, 1, 4, 3))]
    assert tiles == [
        ((4, 2), (8, 3)),
        ((4, 3), (8, 5)),
        ((8, 2), (9, 3)),
        ((8, 3), (9, 5)),
    ]


@given(boxes(), boxes(4))
def test_relative_to_is_a_shift(box, other):
    moved = box.relative_to(other.start)
    assert moved.shape == box.shape
    back = moved.relative_to(as_index([-a for a in other.start]))
    assert back == box


def test_contains():
    outer = Box((0, 0, 0, 0, 0), (2, 2, 2, 2, 2))
    assert outer.contains(outer)
    for axis in range(5):
        stop = [2] * 5
        stop[axis] = 3
        assert not outer.contains(Box((0, 0, 0, 0, 0), as_index(stop)))


def test_box_selects_what_it_says():
    image = np.arange(2 * 3 * 4 * 5 * 6).reshape(2, 3, 4, 5, 6)
    box = Box((1, 0, 2, 1, 3), (2, 3, 4, 2, 6))
    assert image[box.slices].shape == box.shape == (1, 3, 2, 1, 3)
    assert box.voxels == 18


def test_largest_block_need_not_be_the_first():
    grid = BlockGrid((1, 1, 1, 1, 10), (1, 1, 1, 1, 4), (0, 0, 0, 0, 3))
    assert [block.padded.shape[4] for block in grid] == [7, 9, 5]
    assert grid.largest_padded == (1, 1, 1, 1, 9)


def test_ten_million_blocks_on_one_axis_are_as_quick_as_one():
    grid = BlockGrid((1, 1, 1, 1, 10**12), (1, 1, 1, 1, 10**5), (0, 0, 0, 0, 10))
    assert len(grid) == 10**7
    assert grid.padded_voxels == 10**12 + 20 * (10**7 - 1)
    last = grid[10**7 - 1]
    expected = Box((0, 0, 0, 0, 10**12 - 10**5), (1, 1, 1, 1, 10**12))
    assert last == Block(10**7 - 1, expected, expected.grown(grid.halo, grid.image_shape))


@pytest.mark.parametrize("index", [-1, 8, 10**9])
def test_no_such_block(index):
    with pytest.raises(IndexError, match=f"block {index} of 8"):
        BlockGrid((2, 1, 2, 1, 2), (1,) * 5, (0,) * 5)[index]


def test_iteration_ends_by_itself():
    grid = BlockGrid((3, 1, 1, 1, 5), (1, 1, 1, 1, 2), (0,) * 5)
    assert len(list(itertools.islice(grid, 100))) == 9


@pytest.mark.parametrize(
    "numbers",
    [
        ((0, 1, 1, 1, 1), (1,) * 5, (0,) * 5),
        ((1,) * 5, (1, 1, 1, 1, 0), (0,) * 5),
        ((1,) * 5, (1,) * 5, (0, 0, -1, 0, 0)),
    ],
)
def test_impossible_grids_are_refused(numbers):
    with pytest.raises(ValueError, match="impossible grid"):
        BlockGrid(*numbers)


def test_a_box_cannot_end_before_it_starts():
    with pytest.raises(ValueError, match="ends before it starts"):
        Box((0, 0, 0, 0, 3), (1, 1, 1, 1, 2))


@pytest.mark.parametrize("values", [(1, 2, 3, 4), (1, 2, 3, 4, 5, 6)])
def test_an_index_has_five_numbers(values):
    with pytest.raises(ValueError, match="values to unpack"):
        as_index(values)
