"""What a Python session calls: arrays with any order of axes in, the same order out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from denoise5d.errors import InputError, NoiseError, RefusedError
from denoise5d.geometry import AXES, Box, as_index
from denoise5d.kernel import denoise_block, resolve_parameters
from denoise5d.machine import available_cpus
from denoise5d.noise import NoiseEstimate, NoiseModel, estimate_channel, sample_boxes

PerChannel: TypeAlias = float | Sequence[float]


def denoise(
    image: ArrayLike,
    *,
    axes: str,
    sigma: PerChannel | None = None,
    gain: PerChannel | None = None,
    offset: PerChannel | None = None,
    read_noise: PerChannel | None = None,
    patch: tuple[int, int, int, int, int] | None = None,
    iterations: int | None = None,
    pvalue: float = 0.1,
    threads: int | None = None,
) -> NDArray[np.float32]:
    """Denoise an image that is in memory.

    Parameters
    ----------
    image : array_like
        Of any integer type or float32; other floats are converted to float32.
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
    """
    stack = _as_tczyx(image, axes)
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
        parameters=resolve_parameters(shape, patch=patch, iterations=iterations, pvalue=pvalue),
        threads=threads or available_cpus(),
    )
    return _from_tczyx(result, axes)


def estimate_noise(image: ArrayLike, *, axes: str) -> list[NoiseEstimate]:
    """Estimate the camera noise of an image, one estimate for each channel.

    Parameters and errors are those of `denoise`.
    """
    return _estimates(_as_tczyx(image, axes))


def _as_tczyx(image: ArrayLike, axes: str) -> NDArray[Any]:
    """Return the image as a 5-D view in the order TCZYX, of a type that the kernel reads."""
    array = np.asarray(image)
    order = axes.upper()
    if set(order) - set(AXES) or len(set(order)) != len(order):
        raise InputError(f"axes must be some of '{AXES}' without repetition, got '{axes}'")
    if array.ndim != len(order):
        raise InputError(f"axes '{axes}' name {len(order)} axes, but the image has {array.ndim}")
    if array.size == 0:
        raise InputError(f"the image is empty: its shape is {array.shape}")
    if array.dtype.kind == "f":
        array = array.astype(np.float32, copy=False)
    elif array.dtype.kind not in "iu":
        raise InputError(f"the image must be of integers or real numbers, got {array.dtype}")
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    array = array.transpose([order.index(axis) for axis in AXES if axis in order])
    missing = tuple(i for i, axis in enumerate(AXES) if axis not in order)
    return np.ascontiguousarray(np.expand_dims(array, missing))


def _from_tczyx(stack: NDArray[np.float32], axes: str) -> NDArray[np.float32]:
    order = axes.upper()
    kept = [axis for axis in AXES if axis in order]
    array = stack.reshape([n for n, axis in zip(stack.shape, AXES, strict=True) if axis in order])
    return np.ascontiguousarray(array.transpose([kept.index(axis) for axis in order]))


def _check_ranges(
    patch: tuple[int, ...] | None, iterations: int | None, pvalue: float, threads: int | None
) -> None:
    if patch is not None and (len(patch) != len(AXES) or min(patch) < 0 or max(patch) > 8):
        raise RefusedError(f"patch must be five radii of 0 to 8 voxels for {AXES}, got {patch}")
    if patch is not None and patch[1] != 0:
        raise RefusedError(f"patch must be 0 along C: channels are independent, got {patch}")
    if iterations is not None and not 1 <= iterations <= 6:
        raise RefusedError(f"iterations must be 1 to 6, got {iterations}")
    if not 0 < pvalue < 1:
        raise RefusedError(f"pvalue must be between 0 and 1, got {pvalue}")
    if threads is not None and threads < 1:
        raise RefusedError(f"threads must be at least 1, got {threads}")


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
            raise NoiseError("give either sigma or gain and offset, not both")
        return [NoiseModel.gaussian(value) for value in _per_channel("sigma", sigma, channels)]
    if gain is None and offset is None:
        if read_noise is not None:
            raise NoiseError("read_noise needs gain and offset")
        return None
    if gain is None or offset is None:
        raise NoiseError("gain and offset belong together; one of them is missing")
    gains = _per_channel("gain", gain, channels)
    offsets = _per_channel("offset", offset, channels)
    if read_noise is None:
        pairs = zip(gains, offsets, strict=True)
        return [NoiseModel.poisson_gaussian(g, e) for g, e in pairs]
    reads = _per_channel("read_noise", read_noise, channels)
    triples = zip(gains, offsets, reads, strict=True)
    return [NoiseModel.poisson_gaussian(g, e, s) for g, e, s in triples]


def _per_channel(name: str, value: PerChannel, channels: int) -> list[float]:
    values = [float(v) for v in value] if isinstance(value, Sequence) else [float(value)] * channels
    if len(values) != channels:
        raise NoiseError(f"{name} must be one number or {channels} (channels), got {len(values)}")
    return values


def _estimates(stack: NDArray[Any]) -> list[NoiseEstimate]:
    shape = as_index(stack.shape)
    return [
        estimate_channel([stack[box.slices][:, 0] for box in sample_boxes(shape, channel)])
        for channel in range(shape[1])
    ]
