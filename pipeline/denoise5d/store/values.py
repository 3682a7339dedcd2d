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
    finite = np.isfinite(array)
    if not finite.all():
        count = array.size - int(np.count_nonzero(finite))
        raise ValueError(f"values must be finite, {count} of {array.size} are NaN or infinite")
    return _rounded(array, dtype)


def _rounded(array: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[Any]:
    limits = np.iinfo(dtype)
    # The largest value of 32- and 64-bit types is no float32: the next one is already beyond it.
    highest = np.float32(limits.max)
    if int(highest) > limits.max:
        highest = np.nextafter(highest, np.float32(0))
    rounded = np.rint(array)
    beyond = rounded > highest
    np.clip(rounded, np.float32(limits.min), highest, out=rounded)
    result = rounded.astype(dtype)
    result[beyond] = limits.max
    return result


def checksum(array: NDArray[Any]) -> str:
    """Return 16 hex digits that depend on dtype, shape and every value of an array."""
    digest = blake2b(f"{array.dtype.name} {array.shape}".encode(), digest_size=8)
    little = array.dtype.newbyteorder("<")
    digest.update(np.ascontiguousarray(array, dtype=little).data)
    return digest.hexdigest()
