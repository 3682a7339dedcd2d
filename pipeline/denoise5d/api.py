"""What a Python session calls: arrays with any order of axes in, the same order out."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from denoise5d.errors import InputError, NoiseError, RefusedError
from denoise5d.geometry import AXES, Box, as_index
from denoise5d.kernel import (
    denoise_block,
)
from denoise5d.machine import available_cpus
from denoise5d.noise import NoiseEstimate, NoiseModel, estimate_channel, sample_boxes
from denoise5d.parameters import (
    resolve_parameters,
)

PerChannel: TypeAlias = float | Sequence[float] | NDArray[Any]

_MOST_THREADS = 4096


def denoise(
    image: ArrayLike,
    *,
    axes: str,
    sigma: PerChannel | None = None,
    gain: PerChannel | None = None,
    offset: PerChannel | None = None,
    read_noise: PerChannel | None = None,
    method: Literal["ridge", "safir"] = "ridge",
    patch: tuple[int, int, int, int, int] | None = None,
    iterations: int | None = None,
    pvalue: float = 0.1,
    threads: int | None = None,
) -> NDArray[np.float32]:
    """Denoise an image that is in memory.

    Parameters
    ----------
    image : array_like
        Of any integer type or float32; other floats are converted to float32. It is not changed.
    axes : str
        The name of every axis, a subset of "TCZYX" in any order, "ZYX" for example.
    sigma : float or sequence of float, optional
        Standard deviation of Gaussian noise in grey levels; one number or one for each channel.
    gain, offset : float or sequence of float, optional
        Camera noise of variance ``gain · mean + offset`` in grey levels. If neither these nor
        `sigma` are given, they are estimated from the image.
    read_noise : float or sequence of float, optional
        Standard deviation of the camera's signal-independent noise in grey levels; half the gain
        unless given. It matters at a few photons only.
    method : {"ridge", "safir"}
        A SAFIR estimate refined by groups of similar patches, or the SAFIR estimate alone, which
        is faster. `patch`, `iterations` and `pvalue` are those of SAFIR in both.
    patch : tuple of int, optional
        Radius of a patch in voxels along T, C, Z, Y, X.
    iterations : int, optional
        Iterations with growing search windows, 1 to 6.
    pvalue : float
        Probability of taking two patches that differ by noise alone for different.
    threads : int, optional
        OpenMP threads, all processors that this process may use unless given; the result does
        not depend on it.

    Returns
    -------
    ndarray of float32
        Of the same shape and order of axes, in grey levels, neither rounded nor clipped.

    Raises
    ------
    InputError
        If the image is of another type, empty, has NaN or infinite values, or `axes` is wrong.
    NoiseError
        If the noise parameters contradict each other or cannot be estimated.
    RefusedError
        If another parameter is out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> from denoise5d import denoise
    >>> photons = np.random.default_rng(0).poisson(50, (4, 64, 64))
    >>> noisy = 3.92 * photons + 100
    >>> clean = denoise(noisy, axes="ZYX", gain=3.92, offset=-392)
    >>> clean.shape, clean.dtype
    ((4, 64, 64), dtype('float32'))
    >>> bool(clean.std() < 0.2 * noisy.std())
    True
    """
    stack = _as_tczyx(image, axes)
    if method not in ("ridge", "safir"):
        raise RefusedError(f"method must be 'ridge' or 'safir', got {method!r}")
    _check_ranges(patch, iterations, pvalue, threads)
    models = _given_noise(stack.shape[1], sigma, gain, offset, read_noise)
    if models is None:
        models = [estimate.model for estimate in _estimates(stack)]
    shape = as_index(stack.shape)
    result = denoise_block(
        stack,
        padded_origin=(0, 0, 0, 0, 0),
        core=Box.whole(shape),
        image_shape=shape,
        noise=models,
        parameters=resolve_parameters(
            shape, patch=patch, iterations=iterations, pvalue=pvalue, ridge=method == "ridge"
        ),
        threads=threads or available_cpus(),
    )
    return _from_tczyx(result, axes)


def estimate_noise(image: ArrayLike, *, axes: str) -> list[NoiseEstimate]:
    """Estimate the camera noise of an image that is in memory.

    Parameters
    ----------
    image : array_like
        As in `denoise`; of a large image a sample is looked at.
    axes : str
        The name of every axis, a subset of "TCZYX" in any order.

    Returns
    -------
    list of NoiseEstimate
        One for each channel; ``[0].model.gain`` and ``.offset`` are what `denoise` takes.

    Raises
    ------
    InputError
        If the image is one that `denoise` does not take.
    NoiseError
        If the image does not tell its noise; the message says why.

    Examples
    --------
    >>> import numpy as np
    >>> from denoise5d import estimate_noise
    >>> brightness = np.linspace(5, 80, 256)[:, None] * np.ones((8, 1, 256))
    >>> noisy = 3.92 * np.random.default_rng(0).poisson(brightness) + 100
    >>> [estimate] = estimate_noise(noisy, axes="ZYX")
    >>> round(estimate.model.gain), round(estimate.model.offset, -2)
    (4, -400.0)
    """
    return _estimates(_as_tczyx(image, axes))


def _as_tczyx(image: ArrayLike, axes: str) -> NDArray[Any]:
    """Return the image as a 5-D array in the order TCZYX, of a type that the kernel reads."""
    array = np.asarray(image)
    order = axes.upper()
    if set(order) - set(AXES) or len(set(order)) != len(order):
        raise InputError(f"axes must be some of '{AXES}' without repetition, got '{axes}'")
    if array.ndim != len(order):
        raise InputError(f"axes '{axes}' name {len(order)} axes, but the image has {array.ndim}")
    if array.size == 0:
        raise InputError(f"the image must have voxels, got the shape {array.shape}")
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite
            array = array.astype(np.float32, copy=False)
        _check_finite(array, axes)
    elif array.dtype.kind not in "iu":
        raise InputError(f"the image must be of integers or real numbers, got {array.dtype}")
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    array = array.transpose([order.index(axis) for axis in AXES if axis in order])
    missing = tuple(i for i, axis in enumerate(AXES) if axis not in order)
    return np.ascontiguousarray(np.expand_dims(array, missing))


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


def _from_tczyx(stack: NDArray[np.float32], axes: str) -> NDArray[np.float32]:
    order = axes.upper()
    kept = [axis for axis in AXES if axis in order]
    array = stack.reshape([n for n, axis in zip(stack.shape, AXES, strict=True) if axis in order])
    return np.ascontiguousarray(array.transpose([kept.index(axis) for axis in order]))


def _check_ranges(
    patch: Sequence[int] | None, iterations: int | None, pvalue: float, threads: int | None
) -> None:
    if patch is not None:
        if len(patch) != len(AXES) or not all(_is_whole(p, 0, 8) for p in patch):
            raise RefusedError(f"patch must be five radii of 0 to 8 voxels for {AXES}, got {patch}")
        if patch[1] != 0:
            raise RefusedError(f"patch must be 0 along C: channels are independent, got {patch}")
    if iterations is not None and not _is_whole(iterations, 1, 6):
        raise RefusedError(f"iterations must be a whole number from 1 to 6, got {iterations}")
    if not 0 < pvalue < 1:
        raise RefusedError(f"pvalue must be between 0 and 1, got {pvalue}")
    if threads is not None and not _is_whole(threads, 1, _MOST_THREADS):
        raise RefusedError(
            f"threads must be a whole number from 1 to {_MOST_THREADS}, got {threads}"
        )


def _is_whole(value: object, least: int, most: int) -> bool:
    return isinstance(value, Integral) and least <= int(value) <= most


def _given_noise(
    channels: int,
    sigma: PerChannel | None,
    gain: PerChannel | None,
    offset: PerChannel | None,
    read_noise: PerChannel | None,
) -> list[NoiseModel] | None:
    """Return one model a channel from what the caller gave, or None if that is nothing."""
    if sigma is not None:
        if gain is not None or offset is not None or read_noise is not None:
            raise NoiseError("give either sigma, or gain and offset (and read_noise); got both")
        return [NoiseModel.gaussian(value) for value in _per_channel("sigma", sigma, channels)]
    if gain is None and offset is None:
        if read_noise is not None:
            raise NoiseError("read_noise goes with gain and offset; give those too")
        return None
    if gain is None or offset is None:
        missing = "gain" if gain is None else "offset"
        raise NoiseError(f"gain and offset belong together, got no {missing}")
    gains = _per_channel("gain", gain, channels)
    offsets = _per_channel("offset", offset, channels)
    reads: Sequence[float | None] = [None] * channels
    if read_noise is not None:
        reads = _per_channel("read_noise", read_noise, channels)
    triples = zip(gains, offsets, reads, strict=True)
    return [NoiseModel.poisson_gaussian(g, e, s) for g, e, s in triples]


def _per_channel(name: str, value: PerChannel, channels: int) -> list[float]:
    """Return one value a channel; a single one, also in a list, is that of all channels."""
    values = np.atleast_1d(np.asarray(value))
    if values.ndim > 1 or values.dtype.kind not in "iuf":
        raise NoiseError(f"{name} must be one number or a list of numbers, got {value!r}")
    if values.size not in (1, channels):
        raise NoiseError(
            f"{name} must be one number, or one for each of {channels} channels, got {values.size}"
        )
    return [float(v) for v in np.broadcast_to(values, channels)]


def _estimates(stack: NDArray[Any]) -> list[NoiseEstimate]:
    shape = as_index(stack.shape)
    return [
        estimate_channel([stack[box.slices][:, 0] for box in sample_boxes(shape, channel)])
        for channel in range(shape[1])
    ]
