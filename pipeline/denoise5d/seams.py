"""Whether the cuts between blocks show: jumps across their faces against jumps beside them.

A jump is by how much a step between two neighbours differs from the mean of the steps before and
after it: a ramp has none, however steep. A seam makes the jumps across faces larger than others. So
each of many patches of faces is compared with the same patch a few voxels to either side, where the
image is much the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod, sqrt
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from denoise5d.geometry import AXES, NDIM, BlockGrid, Box, as_index, spread_boxes

Floats: TypeAlias = NDArray[np.float64]
Strip: TypeAlias = NDArray[Any]

_AROUND = (4, 0, 6, 6, 6)
"""A patch reaches so many voxels to either side of its face, TCZYX; T costs more to read."""

_PATCH = (1, 1, 8, 48, 48)
"""Voxels of a patch along its face."""

_INSIDE = 2
"""Jumps so many voxels from the face, and more, are what is compared with."""

_FLAT = 0.02
"""Standard deviations of noise added to every jump: where all is flat there is nothing to divide
by, and what is smaller than this nobody sees."""


@dataclass(frozen=True, slots=True)
class Seams:
    """The faces of the blocks along one axis.

    Attributes
    ----------
    axis : str
        Letter of the axis that is cut.
    faces : int
        In the whole image.
    patches : int
        That were looked at; 0 if the blocks are too short to look beside their faces.
    offsets : tuple of int
        How many voxels from the face a jump is; 0 is across it.
    profile, errors : ndarray, shape (len(offsets),)
        Jump at each offset over the jumps inside, and its standard error.
    jump : float
        Typical jump inside, in standard deviations of the noise.
    worst : tuple of float and Box, or None
        The largest ratio of a single patch, and where.
    """

    axis: str
    faces: int
    patches: int
    offsets: tuple[int, ...] = ()
    profile: Floats | None = None
    errors: Floats | None = None
    jump: float = 0.0
    worst: tuple[float, Box] | None = None

    @property
    def ratio(self) -> tuple[float, float]:
        """Jump across the faces over the jumps inside, and its standard error."""
        if self.profile is None or self.errors is None:
            raise ValueError(f"no faces along {self.axis} were looked at")
        at = self.offsets.index(0)
        return float(self.profile[at]), float(self.errors[at])

    @property
    def beside(self) -> float:
        """Largest of the profile inside, 1 at least: as much the image does by itself.

        All patches of a face share its plane, so that their number does not tell a seam from
        structure of the image that lies just there; other planes do.
        """
        if self.profile is None:
            raise ValueError(f"no faces along {self.axis} were looked at")
        pairs = zip(self.offsets, self.profile, strict=True)
        return max(1.0, *(float(value) for offset, value in pairs if abs(offset) >= _INSIDE))


def cut_axes(grid: BlockGrid) -> list[int]:
    """Return the axes with more than one block; channels know nothing of each other anyway."""
    return [axis for axis in (0, 2, 3, 4) if grid.counts[axis] > 1]


def face_boxes(grid: BlockGrid, axis: int, most: int) -> list[Box]:
    """Return boxes across faces, spread over all faces of an axis: the face is in their middle.

    Parameters
    ----------
    grid : BlockGrid
        The blocks.
    axis : int
        One of `cut_axes`.
    most : int
        How many at most.

    Returns
    -------
    list of Box
        All of one length on `axis`; empty if blocks or image are too short to look beside faces.
    """
    length, block = grid.image_shape[axis], grid.block_shape[axis]
    all_faces = range(block, length, block)
    around = min(_AROUND[axis], block, max(length - face for face in all_faces))
    if around < _INSIDE + 2:
        return []
    faces = [p for p in all_faces if p + around <= length]
    border = grid.halo[axis]  # near the image's border results are a little noisier
    faces = [p for p in faces if border <= p - around and p + around <= length - border] or faces
    lengths = [max(1, min(n // 2, p)) for n, p in zip(grid.image_shape, _PATCH, strict=True)]
    shape = list(grid.image_shape)
    lengths[axis], shape[axis] = 1, len(faces)
    boxes = []
    for box in spread_boxes(as_index(shape), as_index(lengths), most):
        start, stop = list(box.start), list(box.stop)
        face = faces[box.start[axis]]
        start[axis], stop[axis] = face - around, face + around
        boxes.append(Box(as_index(start), as_index(stop)))
    return list(dict.fromkeys(boxes))


def seam_statistics(
    grid: BlockGrid, axis: int, strips: Iterable[tuple[Box, Strip, float]]
) -> Seams:
    """Compare the jumps across faces with those beside them.

    Parameters
    ----------
    grid : BlockGrid
        The blocks.
    axis : int
        The axis that is cut.
    strips : iterable of (Box, ndarray TCZYX, float)
        Boxes of `face_boxes`, the voxels in each, and the standard deviation of the noise there.
    """
    boxes, found = [], []
    for box, strip, sigma in strips:
        boxes.append(box)
        found.append(_jumps(strip, axis) / sigma)
    faces = grid.counts[axis] - 1
    if len(found) < 2:
        return Seams(AXES[axis], faces, 0)
    jumps = np.array(found)  # patch, offset
    farthest = jumps.shape[1] // 2
    offsets = tuple(range(-farthest, farthest + 1))
    inside = [i for i, k in enumerate(offsets) if abs(k) >= _INSIDE]
    logs = np.log(jumps + _FLAT)
    logs -= logs[:, inside].mean(axis=1, keepdims=True)
    profile: Floats = np.exp(logs.mean(axis=0))
    errors: Floats = profile * logs.std(axis=0, ddof=1) / sqrt(_independent(grid, axis, boxes))
    worst = int(logs[:, farthest].argmax())
    return Seams(
        axis=AXES[axis],
        faces=faces,
        patches=len(found),
        offsets=offsets,
        profile=profile,
        errors=errors,
        jump=float(np.median(jumps[:, inside])),
        worst=(float(np.exp(logs[worst, farthest])), boxes[worst]),
    )


def _independent(grid: BlockGrid, axis: int, boxes: list[Box]) -> float:
    """Return how many patches count: in a small image they overlap, and say less than they seem."""
    faces = len({box.start[axis] for box in boxes})
    others = [a for a in range(NDIM) if a != axis]
    room = prod(grid.image_shape[a] for a in others) / prod(boxes[0].shape[a] for a in others)
    return max(1.0, min(float(len(boxes)), faces * room))


def _jumps(strip: Strip, axis: int) -> Floats:
    """Return the mean jump between neighbours along an axis, place by place."""
    steps = np.moveaxis(np.diff(strip.astype(np.float64), axis=axis), axis, 0)
    jumps = np.abs(steps[1:-1] - (steps[:-2] + steps[2:]) / 2)
    means: Floats = jumps.mean(axis=tuple(range(1, NDIM)))
    return means
