"""Which plane of an image is looked at: at a place that is given, or where there is most structure.

A crop is a rectangle of one plane of one time point and one channel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from denoise5d.errors import RefusedError
from denoise5d.geometry import Box, Index, as_index, in_channel, spread_boxes
from denoise5d.noise import NoiseModel
from denoise5d.store import Image

Place: TypeAlias = tuple[int, int, int, int]
"""T, Z, Y and X of a voxel."""

_WINDOWS, _WINDOW_SIDE = 64, 256
"""How many planes are looked at for the most structured place, and their side at least."""

_MAX_VOXELS = 2**24
"""Of all these planes together, as far as a few of them do not have more."""

_FEW = 4

_CELL = 4
"""Side of the squares whose means are compared: they have a quarter of the noise."""


def check_channel(image_shape: Index, channel: int) -> None:
    """Raise RefusedError if the image has no such channel."""
    if not 0 <= channel < image_shape[1]:
        raise RefusedError(
            f"--channel must be one of the image's, 0 to {image_shape[1] - 1}, got {channel}"
        )


def crop_size(image_shape: Index, size: tuple[int, int]) -> tuple[int, int]:
    """Return the size (Y, X) of a crop, at most the image's; raise RefusedError if it is empty."""
    if min(size) < 1:
        raise RefusedError(f"--size must be at least 1 voxel in Y and X, got {size[0]},{size[1]}")
    return min(size[0], image_shape[3]), min(size[1], image_shape[4])


def crop_at(image_shape: Index, place: Place, size: tuple[int, int], channel: int) -> Box:
    """Return the crop with a place in its middle, moved inside the image where it would stick out.

    Parameters
    ----------
    image_shape : Index
        In voxels.
    place : Place
        The voxel, inside the image.
    size : (int, int)
        Y and X, at least 1.
    channel : int
        The channel.

    Raises
    ------
    RefusedError
        If the place is not in the image: with the range of each axis.
    """
    check_channel(image_shape, channel)
    t, z, y, x = place
    lengths = crop_size(image_shape, size)
    for axis, value, n in zip("TZYX", place, (image_shape[0], *image_shape[2:]), strict=True):
        if not 0 <= value < n:
            raise RefusedError(
                f"--at must be inside the image: {axis} is 0 to {n - 1}, got {value}"
                f" (T,Z,Y,X: {','.join(map(str, place))})"
            )
    top, left = (
        min(max(0, middle - side // 2), n - side)
        for middle, side, n in zip((y, x), lengths, image_shape[3:], strict=True)
    )
    return Box(
        (t, channel, z, top, left), (t + 1, channel + 1, z + 1, top + lengths[0], left + lengths[1])
    )


def structured_crop(
    image: Image,
    size: tuple[int, int],
    channel: int,
    noise: NoiseModel,
    progress: Callable[[float, float], None],
) -> Box:
    """Return the crop with the most structure of many that are spread over the image.

    The same for the same image; what is read does not grow with the image.

    Parameters
    ----------
    image : Image
        Where to look.
    size : (int, int)
        Y and X, at least 1.
    channel : int
        The channel.
    noise : NoiseModel
        Of the channel: what it explains is no structure.
    progress : callable
        Is told how many planes have been looked at, and of how many.
    """
    shape = image.info.shape
    check_channel(shape, channel)
    lengths = crop_size(shape, size)
    windows = _windows(shape, lengths, channel)
    best, most = crop_at(shape, _middle(shape), size, channel), 0.0
    for number, window in enumerate(windows, 1):
        plane = image.read(window)[0, 0, 0]
        for top, left in _corners(plane.shape, lengths):
            part = plane[top : top + lengths[0], left : left + lengths[1]]
            if (found := structure(part, noise)) > most:
                t, _, z, y, x = window.start
                middle = (t, z, y + top + lengths[0] // 2, x + left + lengths[1] // 2)
                best, most = crop_at(shape, middle, size, channel), found
        progress(number, len(windows))
    return best


def structure(plane: NDArray[Any], noise: NoiseModel) -> float:
    """Return how much of what neighbouring places differ by noise leaves unexplained; 0: nothing.

    The logarithm keeps a few very bright voxels from outweighing a plane full of detail.
    """
    y, x = (n // _CELL for n in plane.shape)
    cells = plane[: y * _CELL, : x * _CELL].reshape(y, _CELL, x, _CELL)
    means = cells.mean(axis=(1, 3), dtype=np.float64)
    if not np.isfinite(means).all():
        return 0.0
    variance = noise.variance(means) / _CELL**2
    total = number = 0.0
    for axis in range(2):
        expected = _pairs(np.add, variance, axis)
        known = expected > 0
        excess = _pairs(np.subtract, means, axis)[known] ** 2 / expected[known] - 1
        total += float(np.log1p(np.maximum(excess, 0)).sum())
        number += expected.size
    return total / number if number else 0.0


def _pairs(
    combine: Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]], values: NDArray[Any], axis: int
) -> NDArray[Any]:
    """Combine each value with the next one on an axis."""
    along = np.moveaxis(values, axis, 0)
    return combine(along[1:], along[:-1])


def _windows(shape: Index, lengths: tuple[int, int], channel: int) -> list[Box]:
    """Return the planes that are looked at, none of them twice."""
    sides = (min(n, max(s, _WINDOW_SIDE)) for s, n in zip(lengths, shape[3:], strict=True))
    window = as_index((1, 1, 1, *sides))
    count = max(_FEW, min(_WINDOWS, _MAX_VOXELS // prod(window)))
    spread = spread_boxes(as_index((shape[0], 1, *shape[2:])), window, count)
    return list(dict.fromkeys(in_channel(box, channel) for box in spread))


def _corners(plane: tuple[int, ...], lengths: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Yield the corners of crops in a plane, half a crop apart."""
    tops, lefts = (
        range(0, n - side + 1, max(1, side // 2)) for n, side in zip(plane, lengths, strict=True)
    )
    return ((top, left) for top in tops for left in lefts)


def _middle(shape: Index) -> Place:
    t, _, z, y, x = (n // 2 for n in shape)
    return t, z, y, x
