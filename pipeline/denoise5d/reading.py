"""How much of the input is decoded for the blocks of a run. Pure integers, no I/O."""

from __future__ import annotations

from denoise5d.geometry import BlockGrid, Index

TOO_MUCH = 4
"""Decoding takes so many times what the blocks read: it is better to convert the image first."""


def decoded_per_voxel(grid: BlockGrid, chunks: Index) -> float:
    """Return how many voxels are decoded for each one that the blocks read, at least 1.

    A chunk is decoded as a whole for each block that touches it.

    Parameters
    ----------
    grid : BlockGrid
        The blocks, with their halo.
    chunks : Index
        Shape of what is decoded at a time, in voxels.
    """
    decoded = 1
    for length, block, halo, chunk in zip(
        grid.image_shape, grid.block_shape, grid.halo, chunks, strict=True
    ):
        decoded *= sum(
            min(length, -(-min(length, start + block + halo) // chunk) * chunk)
            - max(0, start - halo) // chunk * chunk
            for start in range(0, length, block)
        )
    return decoded / grid.padded_voxels
