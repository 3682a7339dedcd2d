"""What a Python session calls: an image in, with any order of axes; the same kind of array out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from denoise5d.arguments import (
    Estimator,
    Method,
    Noise,
    PerChannel,
    Quality,
    Radii,
    check_threads,
)
from denoise5d.arrays import (
    Chunked,
    Labelled,
    axes_of,
    from_tczyx,
    is_chunked,
    is_labelled,
    stack_of,
    with_values,
)
from denoise5d.errors import RefusedError
from denoise5d.geometry import Box, as_index
from denoise5d.kernel import denoise_block
from denoise5d.machine import available_cpus
from denoise5d.noise import NoiseEstimate, estimate_channel, sample_boxes

DataArray = TypeVar("DataArray", bound=Labelled)
DaskArray = TypeVar("DaskArray", bound=Chunked)


@overload
def denoise(
    image: DataArray,
    *,
    axes: str | None = None,
    sigma: PerChannel | None = None,
    gain: PerChannel | None = None,
    offset: PerChannel | None = None,
    read_noise: PerChannel | None = None,
    quality: Quality | None = None,
    method: Method | None = None,
    patch: Radii | None = None,
    iterations: int | None = None,
    pvalue: float | None = None,
    chunks: Sequence[int] | None = None,
    threads: int | None = None,
) -> DataArray: ...
@overload
def denoise(
    image: DaskArray,
    *,
    axes: str,
    sigma: PerChannel | None = None,
    gain: PerChannel | None = None,
    offset: PerChannel | None = None,
    read_noise: PerChannel | None = None,
    quality: Quality | None = None,
    method: Method | None = None,
    patch: Radii | None = None,
    iterations: int | None = None,
    pvalue: float | None = None,
    chunks: Sequence[int] | None = None,
    threads: int | None = None,
) -> DaskArray: ...
@overload
def denoise(
    image: ArrayLike,
    *,
    axes: str,
    sigma: PerChannel | None = None,
    gain: PerChannel | None = None,
    offset: PerChannel | None = None,
    read_noise: PerChannel | None = None,
    quality: Quality | None = None,
    method: Method | None = None,
    patch: Radii | None = None,
    iterations: int | None = None,
    pvalue: float | None = None,
    threads: int | None = None,
) -> NDArray[np.float32]: ...


def denoise(
    image: Any,
    *,
    axes: str | None = None,
    sigma: PerChannel | None = None,
    gain: PerChannel | None = None,
    offset: PerChannel | None = None,
    read_noise: PerChannel | None = None,
    quality: Quality | None = None,
    method: Method | None = None,
    patch: Radii | None = None,
    iterations: int | None = None,
    pvalue: float | None = None,
    chunks: Sequence[int] | None = None,
    threads: int | None = None,
) -> Any:
    """Denoise an image.

    Parameters
    ----------
    image : array_like, dask.array.Array or xarray.DataArray
        Of any integer type or float32; other floats are converted to float32. It is not changed.
    axes : str, optional for a DataArray
        The name of every axis, a subset of "TCZYX" in any order, "ZYX" for example. A DataArray
        may tell them by its dimensions: t, c, z, y, x, time, channel, in capitals or not.
    sigma : float or sequence of float, optional
        Standard deviation of Gaussian noise in grey levels; one number or one for each channel.
    gain, offset : float or sequence of float, optional
        Camera noise of variance ``gain · mean + offset`` in grey levels. If neither these nor
        `sigma` are given, they are estimated from the image.
    read_noise : float or sequence of float, optional
        Standard deviation of the camera's signal-independent noise in grey levels; half the gain
        unless given. It matters at a few photons only.
    quality : {"fast", "standard", "best"}, optional
        Instead of the numbers below. A SAFIR estimate alone; refined once by groups of similar
        patches, which is the default; or refined twice.
    method : {"ridge", "safir"}, optional
        Refined, or not. `patch`, `iterations` and `pvalue` are those of SAFIR in both.
    patch : tuple of int, optional
        Radius of a patch in voxels along T, C, Z, Y, X.
    iterations : int, optional
        Iterations with growing search windows, 1 to 6.
    pvalue : float, optional
        Probability of taking two patches that differ by noise alone for different, 0.1 unless
        given.
    chunks : sequence of int, optional
        Of dask arrays only: lengths of the result's chunks in the order of the axes, -1 for a
        whole axis. See the notes.
    threads : int, optional
        OpenMP threads, all processors that this process may use unless given; of dask's own
        workers, as many as the worker has. The result does not depend on it.

    Returns
    -------
    ndarray of float32, dask.array.Array or xarray.DataArray
        The same kind of array, of the same shape and order of axes, in grey levels, neither
        rounded nor clipped. A DataArray keeps name, dimensions, coordinates and attributes.

    Raises
    ------
    InputError
        If the image is of another type, empty, has NaN or infinite values, or `axes` is wrong.
    NoiseError
        If the noise parameters contradict each other or cannot be estimated.
    RefusedError
        If another parameter is out of its range, or contradicts `quality`.

    Notes
    -----
    With dask arrays nothing is read or computed before the result is: not the noise either, so
    that the errors about values and noise come then. The voxels are those of the same image in
    memory, bit for bit, however it is chunked.

    Each chunk of the result is one task. It takes the chunks of `image` that it and its halo
    (`reach`) meet, of any size. Unless `chunks` are given, they have up to 2²⁵ voxels with the
    halo, and are whole chunks of the image where that costs little. One task at a time is
    denoised in each process, with all its threads. It takes up to six times its voxels with the
    halo in float32, 800 MB at most. With fewer `threads` than the process has, several tasks are
    denoised at the same time, and each takes that memory.

    Where the noise is to be estimated, one task a channel does that from a sample of up to 2²⁴
    voxels. It is done again with every computation; when you compute a result in several parts,
    call `estimate_noise` first and give gain and offset.

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

    >>> import dask.array as da
    >>> lazy = denoise(da.from_array(noisy, chunks=32), axes="ZYX", gain=3.92, offset=-392)
    >>> bool((lazy.compute() == clean).all())
    True
    """
    estimator = Estimator(quality, method, patch, iterations, pvalue)
    noise = Noise(sigma, gain, offset, read_noise)
    check_threads(threads)
    values, order = _values_and_axes(image, axes)
    if is_chunked(values):
        from denoise5d import lazy  # knows dask, which takes a second to import

        result = lazy.denoise(
            values,
            order,
            noise=noise.models,
            parameters=estimator.parameters,
            chunks=chunks,
            threads=threads,
        )
    elif chunks is not None:
        raise RefusedError("chunks are those of a dask array, and the image is none")
    else:
        result = _in_memory(values, order, noise, estimator, threads)
    return with_values(image, result) if is_labelled(image) else result


def _in_memory(
    image: ArrayLike,
    axes: str | None,
    noise: Noise,
    estimator: Estimator,
    threads: int | None,
) -> NDArray[np.float32]:
    stack, order = stack_of(image, axes)
    shape = as_index(stack.shape)
    models = noise.models(shape[1])
    if models is None:
        models = [estimate.model for estimate in _estimates(stack)]
    result = denoise_block(
        stack,
        padded_origin=(0, 0, 0, 0, 0),
        core=Box.whole(shape),
        image_shape=shape,
        noise=models,
        parameters=estimator.parameters(shape),
        threads=threads or available_cpus(),
    )
    return from_tczyx(result, order)


@overload
def estimate_noise(image: Labelled, *, axes: str | None = None) -> list[NoiseEstimate]: ...
@overload
def estimate_noise(image: ArrayLike | Chunked, *, axes: str) -> list[NoiseEstimate]: ...


def estimate_noise(image: Any, *, axes: str | None = None) -> list[NoiseEstimate]:
    """Estimate the camera noise of an image.

    Parameters
    ----------
    image : array_like, dask.array.Array or xarray.DataArray
        As in `denoise`. Of a large image a sample is looked at: up to 2²⁴ voxels a channel, spread
        over the whole image. Of a dask array the chunks are computed in which these lie.
    axes : str, optional for a DataArray
        The name of every axis, a subset of "TCZYX" in any order; a DataArray may tell them.

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
    values, order = _values_and_axes(image, axes)
    if is_chunked(values):
        from denoise5d import lazy

        return lazy.estimate_noise(values, order)
    stack, _ = stack_of(values, order)
    return _estimates(stack)


def _values_and_axes(image: Any, axes: str | None) -> tuple[Any, str | None]:
    """Return what a DataArray holds and how its axes are called; others as they are."""
    if not is_labelled(image):
        return image, axes
    return image.data, axes_of(image) if axes is None else axes


def _estimates(stack: NDArray[Any]) -> list[NoiseEstimate]:
    shape = as_index(stack.shape)
    return [
        estimate_channel([stack[box.slices][:, 0] for box in sample_boxes(shape, channel)])
        for channel in range(shape[1])
    ]
