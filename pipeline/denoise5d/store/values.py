"""From computed values to stored ones: rounding, clipping, checksums."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray


def convert_dtype(array: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return `array` as `dtype`: rounded half to even and clipped, never wrapped.

    Parameters
    ----------
    array : ndarray
        float32, or already of `dtype` and then returned as it is.
    dtype : numpy.dtype
        float32 or an integer type.

    Raises
    ------
    ValueError
        `array` is of a third type, or has NaN or infinite values, which no integer can hold.
    """
    if array.dtype == dtype:
        return array
    if array.dtype != np.float32 or dtype.kind == "f":
        raise ValueError(f"values must be float32 or {dtype}, got {array.dtype}")
    result = np.empty(array.shape, dtype)
    for plane in np.ndindex(array.shape[:-2]):  # which stays in a core's cache
        if not _round(array[plane], result[plane]):
            count = array.size - int(np.count_nonzero(np.isfinite(array)))
            raise ValueError(f"values must be finite, {count} of {array.size} are NaN or infinite")
    return result


def _round(array: NDArray[np.float32], out: NDArray[Any]) -> bool:
    """Round and clip into `out`; tell whether all values are finite."""
    if not np.isfinite(array).all():
        return False
    limits = np.iinfo(out.dtype)
    rounded = np.rint(array)
    highest = np.float32(limits.max)
    if int(highest) == limits.max:
        np.clip(rounded, limits.min, limits.max, out=rounded)
        out[...] = rounded
    else:  # of 32- and 64-bit types: no float32, and the next one is already beyond it
        beyond = rounded >= highest
        out[...] = np.clip(rounded, limits.min, np.nextafter(highest, np.float32(0)))
        out[beyond] = limits.max
    return True


def checksum(array: NDArray[Any]) -> str:
    """Return 16 hex digits that depend on dtype, shape and every value of an array."""
    digest = blake2b(f"{array.dtype.name} {array.shape}".encode(), digest_size=8)
    little = array.dtype.newbyteorder("<")
    digest.update(np.ascontiguousarray(array, dtype=little).data)
    return digest.hexdigest()
