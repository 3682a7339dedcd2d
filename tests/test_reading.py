"""What is decoded of the input for the blocks of a run, counted block by block."""

from __future__ import annotations

from math import prod

from hypothesis import given
from hypothesis import strategies as st

from denoise5d.geometry import BlockGrid, as_index
from denoise5d.reading import decoded_per_voxel

LENGTHS = st.lists(st.integers(1, 12), min_size=5, max_size=5)


@given(LENGTHS, LENGTHS, st.lists(st.integers(0, 4), min_size=5, max_size=5), LENGTHS)
def test_chunks_that_blocks_touch(
    shape: list[int], block: list[int], halo: list[int], chunks: list[int]
) -> None:
    shape, block = [min(n, 6) for n in shape], [max(2, n) for n in block]  # few blocks
    grid = BlockGrid(as_index(shape), as_index(block), as_index(halo))
    decoded = 0
    for one in grid:
        ends = zip(one.padded.start, one.padded.stop, chunks, shape, strict=True)
        decoded += prod(
            sum(min(c, n - i * c) for i in range(n) if i * c < stop and (i + 1) * c > start)
            for start, stop, c, n in ends
        )
    found = decoded_per_voxel(grid, as_index(chunks))
    assert found == decoded / grid.padded_voxels
    assert found >= 1
