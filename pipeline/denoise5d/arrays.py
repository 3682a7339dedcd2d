"""What is taken for an image: arrays of NumPy, dask and xarray, their axes and numbers.

Neither dask nor xarray is imported here: an array of theirs exists only where its maker has been
imported already.
"""

from __future__ import annotations

import sys
from collections.abc import Hashable
from typing import Any, Protocol, TypeGuard

import numpy as np
from numpy.typing import ArrayLike, NDArray

from denoise5d.errors import InputError
from denoise5d.geometry import AXES


class Chunked(Protocol):
    """A dask array, as far as types are concerned."""

    @property
    def dask(self) -> Any:
        """Its graph."""

    @property
    def numblocks(self) -> Any:
        """Number of chunks along every axis."""


class Labelled(Protocol):
    """An `xarray.DataArray`, as far as types are concerned."""

    @property
    def dims(self) -> tuple[Hashable, ...]:
        """Names of the dimensions."""

    @property
    def data(self) -> Any:
        """Its values, an array of whatever kind."""

    def copy(self, *, data: Any) -> Any:
        """Return a copy with other values."""


_LONG_NAMES = {"TIME": "T", "CHANNEL": "C"}
"""Names of dimensions that are in use beside the letters."""


def is_chunked(image: object) -> TypeGuard[Chunked]:
    """Tell whether `image` is a dask array."""
    return _is(image, "dask.array", "Array")


def is_labelled(image: object) -> TypeGuard[Labelled]:
    """Tell whether `image` is an `xarray.DataArray`; raise InputError for a Dataset."""
    if _is(image, "xarray", "Dataset"):
        raise InputError("a Dataset may hold several images; give one of its DataArrays")
    return _is(image, "xarray", "DataArray")


def _is(image: object, module: str, name: str) -> bool:
    kind = getattr(sys.modules.get(module), name, None)
    return isinstance(kind, type) and isinstance(image, kind)


def axes_of(image: Labelled) -> str:
    """Return the axes that the names of a DataArray's dimensions tell.

    Raises
    ------
    InputError
        If one is none of T, C, Z, Y, X, time and channel, in capitals or not.
    """
    names = [str(name).upper() for name in image.dims]
    axes = [_LONG_NAMES.get(name, name) for name in names]
    if any(axis not in tuple(AXES) for axis in axes):
        raise InputError(
            f"dimensions must be named t, c, z, y, x, time or channel, got {list(image.dims)}; "
            f"rename them, or give axes, such as axes='ZYX'"
        )
    return "".join(axes)


def with_values(image: Labelled, values: Any) -> Any:
    """Return a DataArray like `image`, with other values.

    Its encoding is left out: it says how the noisy values were stored, and would have whoever
    saves the result round it to integers again.
    """
    result = image.copy(data=values)
    result.encoding = {}
    return result


def check_axes(axes: str | None, shape: tuple[int, ...]) -> str:
    """Return the axes in capitals; raise InputError where they do not suit the shape."""
    if axes is None:
        raise InputError(
            "axes must be given, such as axes='ZYX': only the dimensions of xarray have names"
        )
    order = axes.upper()
    if set(order) - set(AXES) or len(set(order)) != len(order):
        raise InputError(f"axes must be some of '{AXES}' without repetition, got '{axes}'")
    if len(shape) != len(order):
        raise InputError(f"axes '{axes}' name {len(order)} axes, but the image has {len(shape)}")
    if 0 in shape:
        raise InputError(f"the image must have voxels, got the shape {shape}")
    return order


def voxel_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type in which the kernel reads voxels of `dtype`; InputError: there is none."""
    if dtype.kind == "f":
        return np.dtype(np.float32)
    if dtype.kind not in "iu":
        raise InputError(f"the image must be of integers or real numbers, got {dtype}")
    return dtype.newbyteorder("=")


def to_tczyx(array: NDArray[Any], axes: str) -> NDArray[Any]:
    """Return a view of an array with `axes` as a 5-D one in the order TCZYX."""
    array = array.transpose([axes.index(axis) for axis in AXES if axis in axes])
    return np.expand_dims(array, tuple(i for i, axis in enumerate(AXES) if axis not in axes))


def from_tczyx(stack: NDArray[Any], axes: str) -> NDArray[Any]:
    """Return a 5-D array in the order TCZYX as one with `axes`, C-contiguous."""
    kept = [axis for axis in AXES if axis in axes]
    array = stack.reshape([n for n, axis in zip(stack.shape, AXES, strict=True) if axis in axes])
    return np.ascontiguousarray(array.transpose([kept.index(axis) for axis in axes]))


def stack_of(image: ArrayLike, axes: str | None) -> tuple[NDArray[Any], str]:
    """Return an image in memory as 5-D TCZYX, of a type that the kernel reads, and its axes.

    Raises
    ------
    InputError
        If the axes do not suit it, or if it is no array of finite numbers.
    """
    array = np.asarray(image)
    order = check_axes(axes, array.shape)
    dtype = voxel_type(array.dtype)
    with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite
        array = array.astype(dtype, copy=False)
    if dtype.kind == "f":
        _check_finite(array, order)
    return np.ascontiguousarray(to_tczyx(array, order)), order


def _check_finite(array: NDArray[np.float32], axes: str) -> None:
    with np.errstate(invalid="ignore"):  # infinity minus infinity
        if np.isfinite(array.sum(dtype=np.float64)):
            return
    bad = ~np.isfinite(array)
    first = tuple(int(i) for i in np.unravel_index(int(bad.argmax()), array.shape))
    raise InputError(
        f"the image holds {np.count_nonzero(bad)} values that are NaN or infinite in float32, the "
        f"first at {axes} {first}; replace them before denoising"
    )
