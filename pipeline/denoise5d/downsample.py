"""The mean of neighbouring voxels, exact: what a level of a pyramid is made with."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from denoise5d.geometry import Index


def block_mean(source: NDArray[Any], step: Index) -> NDArray[Any]:
    """Return the mean of every two voxels along the axes that are halved.

    At an odd end it is the mean of what is there: the last voxel counts twice, which is the same.

    Parameters
    ----------
    source : ndarray
        5-D TCZYX, of an integer type or float32; begins at an even voxel on each halved axis.
    step : Index
        1 or 2 for each axis; T and C are never halved.

    Returns
    -------
    ndarray
        Of the same type, half as long, rounded up. Integers are rounded half to even, from the
        exact sum. float32 is summed in float64, in an order that is the same for every voxel.
    """
    shape = [-(-n // s) for n, s in zip(source.shape, step, strict=True)]
    result = np.empty(shape, source.dtype)
    mean = _mean_of_floats if source.dtype.kind == "f" else _mean_of_integers
    for t, c, z in np.ndindex(*shape[:3]):  # plane by plane, which stays in a core's cache
        planes = source[t, c, z * step[2] : (z + 1) * step[2]]
        result[t, c, z] = mean(planes, step)
    return result


def _mean_of_floats(planes: NDArray[Any], step: Index) -> NDArray[Any]:
    mean: NDArray[Any] = _sum(planes.astype(np.float64), step) / (step[2] * step[3] * step[4])
    return mean


def _mean_of_integers(planes: NDArray[Any], step: Index) -> NDArray[Any]:
    """Return the mean of the quotients and that of the remainders: no sum leaves the type."""
    count = step[2] * step[3] * step[4]
    shift = count.bit_length() - 1
    whole: NDArray[Any] = _sum(planes >> shift, step)
    rest = _sum(planes & (count - 1), step)
    whole += rest >> shift
    twice = 2 * (rest & (count - 1))
    up = (twice > count) | ((twice == count) & (whole & 1).astype(bool))
    whole += up
    return whole


def _sum(planes: NDArray[Any], step: Index) -> NDArray[Any]:
    """Return the sums over Z, then Y, then X of one plane of the result."""
    total: NDArray[Any] = planes[0] + planes[-1] if step[2] == 2 else planes[0]
    for axis, halved in enumerate(step[3:]):
        if halved == 2:
            total = _pairs(total, axis)
    return total


def _pairs(values: NDArray[Any], axis: int) -> NDArray[Any]:
    """Add every two neighbours along an axis; the last one of an odd number to itself."""
    before: tuple[slice, ...] = (slice(None),) * axis
    total = values[(*before, slice(0, None, 2))].copy()
    second = values[(*before, slice(1, None, 2))]
    total[(*before, slice(second.shape[axis]))] += second
    if values.shape[axis] % 2:
        total[(*before, slice(-1, None))] *= 2
    return total
