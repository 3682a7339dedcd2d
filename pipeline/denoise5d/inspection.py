"""What a finished run has made, looked at in samples of bounded size, however large the image.

::

    input, output ──> boxes all over each channel ──> residual statistics, grey levels
                          the most structured ones ──> views: three planes, profiles
    output ─────────> patches across block faces ──> seams
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import sqrt
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from denoise5d.begun import BegunRun
from denoise5d.geometry import Box, Index, as_index, in_channel, spread_boxes
from denoise5d.residuals import CELL, ResidualStatistics, residual_statistics
from denoise5d.seams import Seams, cut_axes, face_boxes, seam_statistics

Volume: TypeAlias = NDArray[Any]

Progress: TypeAlias = Callable[[float, float], None]
"""Is told how much is done, and of how much."""

MOST_CHANNELS = 8
"""Of more channels so many are looked at, spread over all."""

_BOXES = 24
"""A channel, of the shape below."""

_BOX, _FLAT_BOX = (2, 1, 12, 96, 96), (4, 1, 4, 192, 192)
"""Voxels, TCZYX; the latter where Z is shorter than `_SHALLOW`."""

_SHALLOW = 6

_WINDOW = 6
"""Cells along Y and X whose contrast together says how much there is to see."""

_VIEWS = 4
_SIDE, _DEEPEST, _MOMENTS = 144, 96, 8
"""Voxels of a view along Y and X, at most along Z, and to either side along T."""

_DEEP = 0.6
"""Depth of a view over its width, by the voxels' true proportions."""

_PATCHES = 64
"""Of the faces along one axis."""


@dataclass(frozen=True, slots=True)
class View:
    """A place of the image, before and after.

    Attributes
    ----------
    centre : Index
        The voxel through which planes and profiles go.
    box : Box
        What is seen, in one time point and channel.
    noisy, denoised : ndarray, 3-D ZYX
        Its voxels.
    first : int
        First time point of the profiles along T.
    noisy_times, denoised_times : ndarray
        The central voxel's grey levels over time.
    """

    centre: Index
    box: Box
    noisy: Volume
    denoised: Volume
    first: int
    noisy_times: Volume
    denoised_times: Volume


@dataclass(frozen=True, slots=True)
class ChannelFindings:
    """One channel, from boxes all over it.

    Attributes
    ----------
    channel : int
        Its number.
    noisy, denoised : ndarray, 1-D
        Grey levels of the same voxels.
    residual : ResidualStatistics or None
        What was taken away; None if hardly a voxel can be judged.
    """

    channel: int
    noisy: Volume
    denoised: Volume
    residual: ResidualStatistics | None


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was seen of a run.

    Attributes
    ----------
    channels : tuple of ChannelFindings
        At most `MOST_CHANNELS`.
    views : tuple of View
        The most structured places first, channel by channel.
    seams : tuple of Seams
        One for each axis that is cut.
    """

    channels: tuple[ChannelFindings, ...]
    views: tuple[View, ...]
    seams: tuple[Seams, ...]


def inspect_run(run: BegunRun, progress: Progress) -> Inspection:
    """Look at a finished run.

    Parameters
    ----------
    run : BegunRun
        All of whose blocks are done.
    progress : callable
        Is told how many boxes have been read, and of about how many.

    Raises
    ------
    InputError
        If a file of input or output is damaged.
    """
    shape = run.image.info.shape
    count = min(MOST_CHANNELS, shape[1])
    chosen = [int((k + 0.5) * shape[1] / count) for k in range(count)]
    axes = cut_axes(run.job.plan.grid)
    total, read = count * _BOXES + len(axes) * _PATCHES, 0

    def advance() -> None:
        nonlocal read
        read += 1
        progress(min(read, total), total)

    channels, views = [], []
    for channel in chosen:
        pairs = list(_pairs(run, channel, advance))
        noise = run.noise[channel]
        channels.append(
            ChannelFindings(
                channel,
                np.concatenate([noisy.ravel() for _, noisy, _ in pairs]),
                np.concatenate([denoised.ravel() for _, _, denoised in pairs]),
                residual_statistics(((a, b) for _, a, b in pairs), noise),
            )
        )
        places = choose_places(
            [_most_structured(box, denoised) for box, _, denoised in pairs],
            shape,
            max(1, _VIEWS // count),
        )
        views += [_view(run, place) for place in places]
    seams = tuple(_seams(run, axis, advance) for axis in axes)
    progress(total, total)
    return Inspection(tuple(channels), tuple(views), seams)


def _pairs(
    run: BegunRun, channel: int, advance: Callable[[], None]
) -> Iterator[tuple[Box, Volume, Volume]]:
    """Yield boxes of a channel and their voxels before and after, TZYX."""
    t, _, z, y, x = run.image.info.shape
    wanted = _BOX if z >= _SHALLOW else _FLAT_BOX
    shape = as_index((t, 1, z, y, x))
    lengths = as_index([min(n, w) for n, w in zip(shape, wanted, strict=True)])
    for box in dict.fromkeys(spread_boxes(shape, lengths, _BOXES)):
        here = in_channel(box, channel)
        yield here, run.image.read(here)[:, 0], run.output.read(here)[:, 0]
        advance()


Place: TypeAlias = tuple[float, Index]
"""How much there is to see, and where its middle is."""


def _most_structured(box: Box, denoised: Volume) -> Place:
    """Return the place of most contrast in a box, judged by what noise does not disturb."""
    side = CELL * _WINDOW
    t, z, y, x = denoised.shape
    if min(y, x) < side:
        middle = as_index([(a + b) // 2 for a, b in zip(box.start, box.stop, strict=True)])
        return float(denoised.std()), middle
    rows, columns = y // side, x // side
    cut = denoised[:, :, : rows * side, : columns * side].astype(np.float32)
    contrast = cut.reshape(t, z, rows, side, columns, side).std(axis=(3, 5))
    best = np.unravel_index(int(contrast.argmax()), contrast.shape)
    at_t, at_z, row, column = (int(i) for i in best)
    inside = (at_t, 0, at_z, row * side + side // 2, column * side + side // 2)
    place = as_index([a + i for a, i in zip(box.start, inside, strict=True)])
    return float(contrast[best]), place


def choose_places(places: list[Place], shape: Index, count: int) -> list[Index]:
    """Choose the places of most contrast that are far from each other.

    The first is the one with most; of the others each time the one whose contrast times its
    distance to those chosen, in parts of the image, is largest.
    """
    lengths = np.array(shape, float)
    chosen: list[Index] = []
    left = sorted(places, reverse=True)
    while left and len(chosen) < count:

        def merit(place: Place) -> float:
            contrast, centre = place
            ways = [(np.array(centre) - np.array(other)) / lengths for other in chosen]
            return contrast * min((float(np.linalg.norm(way)) for way in ways), default=1.0)

        best = max(left, key=merit)
        if chosen and merit(best) <= 0:
            break
        left.remove(best)
        chosen.append(best[1])
    return chosen


def _view(run: BegunRun, centre: Index) -> View:
    """Read what is around a place."""
    shape, scales = run.image.info.shape, run.image.info.scales
    deep = max(8, round(_DEEP * _SIDE * scales[4] / scales[2])) if scales[2] > 0 else _SIDE
    lengths = (1, 1, min(deep, _DEEPEST), _SIDE, _SIDE)
    box = around(centre, lengths, shape)
    times = around(centre, (2 * _MOMENTS + 1, 1, 1, 1, 1), shape)
    return View(
        centre,
        box,
        run.image.read(box)[0, 0],
        run.output.read(box)[0, 0],
        times.start[0],
        run.image.read(times).ravel(),
        run.output.read(times).ravel(),
    )


def around(centre: Index, lengths: tuple[int, ...], shape: Index) -> Box:
    """Return the box of these lengths around a voxel, moved and cut to lie in the image."""
    lengths = tuple(min(n, m) for n, m in zip(lengths, shape, strict=True))
    start = [min(max(0, c - m // 2), n - m) for c, m, n in zip(centre, lengths, shape, strict=True)]
    stop = [a + m for a, m in zip(start, lengths, strict=True)]
    return Box(as_index(start), as_index(stop))


def _seams(run: BegunRun, axis: int, advance: Callable[[], None]) -> Seams:
    grid = run.job.plan.grid

    def strips() -> Iterator[tuple[Box, Volume, float]]:
        for box in face_boxes(grid, axis, _PATCHES):
            strip = run.output.read(box)
            model = run.noise[box.start[1]]
            variance = float(model.variance(float(strip.mean()))) or model.read_noise**2
            yield box, strip, sqrt(variance) or 1.0
            advance()

    return seam_statistics(grid, axis, strips())
