"""TIFF, OME-TIFF and ImageJ stacks to OME-Zarr 0.5, plane by plane.

The planes of a *slab*, a whole number of write units, are collected in memory and written, so that
every file is written once and a file of any size is converted in bounded memory::

    pages of the TIFF ──> slab: (1, 1, z, Y, X) ──> shards of (1, 1, z, <= 1024, <= 1024)

Short time-lapses without z collect time points instead of planes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from denoise5d.geometry import Box, Index, as_index
from denoise5d.plan import Layout
from denoise5d.store import (
    Description,
    build_output,
    complete_channels,
    describe_channels,
    open_output,
    staged,
)
from denoise5d.tiff import Stack, open_stack

SLAB_BYTES = 2**27

_CHUNK_LENGTH = 256  # in y and x
_CHUNK_PLANES = 16
_SHARD_LENGTH = 1024  # in y and x


def convert(
    source: Path,
    target: Path,
    *,
    axes: str | None = None,
    series: int | None = None,
    overwrite: bool = False,
    slab_bytes: int = SLAB_BYTES,
    progress: Callable[[int, int], None] | None = None,
) -> Description:
    """Convert a TIFF, OME-TIFF or ImageJ stack to OME-Zarr 0.5, axes TCZYX.

    Axes, voxel size, units and names of channels are taken from the file. After an error or a kill
    there is nothing under the name of the target.

    Parameters
    ----------
    source : Path
        The TIFF; of an OME-TIFF of several files any one.
    target : Path
        The folder to make.
    axes : str, optional
        The axes of the file from slowest to fastest, letters of TCZYX ending in YX; needed where
        the file does not name them.
    series : int, optional
        Which image of a file with several, from 0.
    overwrite : bool
        Replace a store at `target`, if it was made here.
    slab_bytes : int
        Planes of so many bytes are held in memory at a time, at least one.
    progress : callable, optional
        Called with planes done and planes in all after each of them.

    Returns
    -------
    Description
        Of the new image.

    Raises
    ------
    InputError
        The file is damaged or of a kind that is not taken.
    OutputError
        The target exists or cannot be written.
    """
    with open_stack(source, axes=axes, series=series) as stack:
        image = stack.image
        layout = _layout(image.shape, image.dtype.itemsize, slab_bytes)
        provenance = {
            "made_by": "convert",
            "source": source.name,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        with staged(target, overwrite=overwrite) as folder:
            build_output(folder, image, layout=layout, dtype=image.dtype, provenance=provenance)
            ranges = _copy(stack, folder, progress)
            image = replace(image, channels=_with_contrast(image, ranges))
            describe_channels(folder, complete_channels(image))
    return image


def _layout(shape: Index, itemsize: int, slab_bytes: int) -> Layout:
    """Return chunks and shards; planes of the shape of a shard fit into `slab_bytes`."""
    t, _, z, y, x = shape
    planes = max(1, slab_bytes // (y * x * itemsize))
    chunk_z = min(z, planes, _CHUNK_PLANES)
    chunk_t = min(t, planes, _CHUNK_PLANES) if z == 1 else 1
    chunks = (chunk_t, 1, chunk_z, min(y, _CHUNK_LENGTH), min(x, _CHUNK_LENGTH))
    shard_z = _whole(z, chunk_z, planes)
    shard_t = _whole(t, chunk_t, max(1, planes // z)) if shard_z >= z else 1
    shards = (
        shard_t,
        1,
        shard_z,
        _whole(y, chunks[3], _SHARD_LENGTH),
        _whole(x, chunks[4], _SHARD_LENGTH),
    )
    return Layout(chunks, shards)


def _whole(length: int, chunk: int, most: int) -> int:
    """Return whole chunks that cover an axis, or as many as fit into `most`."""
    return -(-length // chunk) * chunk if length <= most else max(1, most // chunk) * chunk


def _copy(
    stack: Stack, folder: Path, progress: Callable[[int, int], None] | None
) -> list[tuple[float, float]]:
    """Copy all planes; return the lowest and highest value of each channel."""
    image, output = stack.image, open_output(folder)
    total, done = prod(image.shape[:3]), 0
    lowest, highest = [np.inf] * image.shape[1], [-np.inf] * image.shape[1]
    for box in Box.whole(image.shape).tiles(as_index([*output.unit[:3], *image.shape[3:]])):
        slab = np.empty(box.shape, image.dtype)
        for inside in np.ndindex(box.shape[:3]):
            t, c, z = (a + i for a, i in zip(box.start, inside, strict=False))
            slab[inside] = plane = stack.plane(t, c, z)
            # fmin and fmax do not see NaN
            lowest[c] = min(lowest[c], float(np.fmin.reduce(plane, axis=None)))
            highest[c] = max(highest[c], float(np.fmax.reduce(plane, axis=None)))
            done += 1
            if progress is not None:
                progress(done, total)
        for unit in box.tiles(output.unit):
            output.write_unit(unit, slab[unit.relative_to(box.start).slices])
        output.sync(box)
    return list(zip(lowest, highest, strict=True))


def _with_contrast(image: Description, ranges: list[tuple[float, float]]) -> dict[str, Any]:
    """Return the channels of an image with the range of their values as contrast."""
    channels = (image.channels or {}).get("channels", [{}] * len(ranges))
    windows = [{"min": a, "max": b, "start": a, "end": b} for a, b in ranges]
    pairs = zip(channels, windows, strict=True)
    return {"channels": [channel | {"window": window} for channel, window in pairs]}
