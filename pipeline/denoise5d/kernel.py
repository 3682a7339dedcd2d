"""The compiled kernel: parameters in the field's terms, arrays in, arrays out.

Everything here is a function of its arguments alone: the same block gives the same bits on every
machine, with every number of threads, and cut out of every blocking whose halo is `reach`.

References
----------
Boulanger, Kervrann, Bouthemy, Elbau, Sibarita, Salamero: Patch-Based Nonlocal Functional for
Denoising Fluorescence Microscopy Image Sequences. IEEE TMI 29(2), 2010,
doi 10.1109/TMI.2009.2033991.

Herbreteau, Kervrann: Towards a Unified View of Unsupervised Non-Local Methods for Image Denoising:
The NL-Ridge Approach. 2022, arXiv 2203.00570.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

import denoise5d._kernel as _kernel
from denoise5d.errors import InputError, RefusedError
from denoise5d.geometry import AXES, Box, Index, as_index
from denoise5d.noise import NoiseModel

Image: TypeAlias = NDArray[Any]

ESTIMATOR_VERSION = 1
"""Goes up whenever the same parameters give other bits: blocks of two versions never mix."""

ISA_VARIABLE = "DENOISE5D_ISA"
"""Environment variable that forces one of `build_info`'s instruction sets, to compare them."""


@dataclass(frozen=True, slots=True)
class Ridge:
    """What the refinement computes.

    Attributes
    ----------
    patch : Index
        Radius of a patch in voxels, TCZYX.
    search : Index
        Radius in voxels within which similar patches are looked for.
    stride : Index
        Voxels from one reference patch to the next.
    group : int
        Patches that are estimated together.
    rounds : int
        How often the result is refined.
    """

    patch: Index
    search: Index
    stride: Index
    group: int
    rounds: int


@dataclass(frozen=True, slots=True)
class Parameters:
    """What is computed.

    Attributes
    ----------
    patch : Index
        Radius of a SAFIR patch in voxels, TCZYX.
    windows : tuple of Index
        Radius of the SAFIR search window in voxels, TCZYX, one for each iteration.
    threshold : float
        Patch distance that pure noise exceeds with probability `pvalue`.
    pvalue : float
        That probability.
    ridge : Ridge or None
        The refinement; None: SAFIR alone.
    """

    patch: Index
    windows: tuple[Index, ...]
    threshold: float
    pvalue: float
    ridge: Ridge | None = None


def resolve_parameters(
    image_shape: Index,
    *,
    patch: Index | None = None,
    iterations: int | None = None,
    pvalue: float = 0.1,
    ridge: bool = True,
) -> Parameters:
    """Fill in what is not given from the dimensions that the image has.

    The SAFIR window doubles with every iteration in x and y, 1, 2, 4, ..., and grows to 2 in z;
    time is searched one frame to each side from the first iteration on.

    Parameters
    ----------
    image_shape : Index
        Shape of the whole image, TCZYX: a block of it must get the same parameters.
    patch : Index, optional
        Radius of a SAFIR patch; it is cut to what the image's axes can hold.
    iterations : int, optional
        Number of SAFIR iterations; each searches a larger window than the one before.
    pvalue : float
        Probability under pure noise of a patch distance above the threshold.
    ridge : bool
        Refine the SAFIR estimate, with `resolve_ridge`'s defaults.
    """
    film, volume = image_shape[0] > 1, image_shape[2] > 1
    if patch is None:
        patch = (0, 0, 1, 2, 2) if volume else (0, 0, 0, 3, 3)
    if iterations is None:  # the fewer dimensions there are, the farther one has to look
        iterations = 1 if film and volume else 2 if film or volume else 3
    patch = as_index([min(p, n - 1) for p, n in zip(patch, image_shape, strict=True)])
    windows = tuple(_window(n, image_shape) for n in range(iterations))
    voxels = math.prod(2 * p + 1 for p in patch)
    threshold = float(np.float32(_chi_square_quantile(1 - pvalue, voxels)))
    refinement = resolve_ridge(image_shape) if ridge else None
    return Parameters(patch, windows, threshold, pvalue, refinement)


def _window(iteration: int, image_shape: Index) -> Index:
    """Return the search radius of an iteration (from 0), cut to what the axes can hold."""
    window = (1, 0, min(2**iteration, 2), 2**iteration, 2**iteration)
    return as_index([min(w, n - 1) for w, n in zip(window, image_shape, strict=True)])


_RIDGE_DEFAULTS: dict[tuple[bool, bool], tuple[Index, Index, Index]] = {
    # film, volume: patch radius, search radius, stride
    (False, False): ((0, 0, 0, 3, 3), (0, 0, 0, 10, 10), (1, 1, 1, 4, 4)),
    (True, False): ((0, 0, 0, 3, 3), (2, 0, 0, 5, 5), (1, 1, 1, 4, 4)),
    (False, True): ((0, 0, 1, 2, 2), (0, 0, 1, 3, 3), (1, 1, 2, 4, 4)),
    (True, True): ((0, 0, 1, 2, 2), (1, 0, 1, 2, 2), (1, 1, 2, 4, 4)),
}


def resolve_ridge(
    image_shape: Index,
    *,
    search: Index | None = None,
    stride: Index | None = None,
    group: int = 32,
    rounds: int = 1,
) -> Ridge:
    """Fill in what is not given of the refinement from the dimensions that the image has.

    Parameters
    ----------
    image_shape : Index
        Shape of the whole image, TCZYX.
    search, stride : Index, optional
        How far similar patches are looked for, and the distance of reference patches, at most the
        length of a patch.
    group, rounds : int
        Patches estimated together, and how often the result is refined.

    Raises
    ------
    RefusedError
        If a stride is longer than a patch, which would leave voxels without one.
    """
    patch, usual_search, usual_stride = _RIDGE_DEFAULTS[image_shape[0] > 1, image_shape[2] > 1]
    # Patches lie inside the image as a whole, so that an axis holds at least one of them.
    patch = as_index([min(p, (n - 1) // 2) for p, n in zip(patch, image_shape, strict=True)])
    usual_stride = as_index([min(s, 2 * p + 1) for s, p in zip(usual_stride, patch, strict=True)])
    search = search or usual_search
    search = as_index([min(s, n - 1) for s, n in zip(search, image_shape, strict=True)])
    stride = stride or usual_stride
    if any(s > 2 * p + 1 for s, p in zip(stride, patch, strict=True)):
        longest = [2 * p + 1 for p in patch]
        raise RefusedError(
            f"denoise.ridge.stride must be at most the length of a patch, {longest}, or voxels "
            f"would be left out; got {list(stride)}"
        )
    return Ridge(patch, search, stride, group, rounds)


def _chi_square_quantile(probability: float, degrees: int) -> float:
    """Return the quantile of the chi-square distribution by bisection of its series."""
    low, high = 0.0, degrees + 20 * math.sqrt(2 * degrees) + 40
    for _ in range(80):
        middle = 0.5 * (low + high)
        below = _chi_square_cdf(middle, degrees) < probability
        low, high = (middle, high) if below else (low, middle)
    return 0.5 * (low + high)


def _chi_square_cdf(value: float, degrees: int) -> float:
    """Return P(a, x) = x^a e^-x sum_n x^n / (a (a+1) .. (a+n)) / Gamma(a), a = k/2, x = value/2."""
    a, x = degrees / 2, value / 2
    if x <= 0:
        return 0.0
    term = total = 1 / a
    n = a
    while term > total * 1e-16:
        n += 1
        term *= x / n
        total += term
    return min(1.0, total * math.exp(a * math.log(x) - x - math.lgamma(a)))


def _without_c(index: Index) -> list[int]:
    return [index[axis] for axis in (0, 2, 3, 4)]


_NO_RIDGE = Ridge((0, 0, 0, 0, 0), (0, 0, 0, 0, 0), (1, 1, 1, 1, 1), group=1, rounds=0)


def _compiled(parameters: Parameters) -> _kernel.Parameters:
    windows = [_without_c(window) for window in parameters.windows]
    safir = _kernel.SafirParameters(_without_c(parameters.patch), windows, parameters.threshold)
    ridge = parameters.ridge or _NO_RIDGE
    return _kernel.Parameters(
        safir,
        _kernel.RidgeParameters(
            _without_c(ridge.patch),
            _without_c(ridge.search),
            _without_c(ridge.stride),
            ridge.group,
            ridge.rounds,
        ),
    )


def reach(parameters: Parameters) -> Index:
    """Return the exact halo: how far, TCZYX, the voxels lie that a voxel's value depends on.

    Examples
    --------
    >>> from denoise5d import reach, resolve_parameters
    >>> patch = (0, 0, 0, 1, 1)
    >>> reach(resolve_parameters((1, 1, 1, 512, 512), patch=patch, iterations=1, ridge=False))
    (0, 0, 0, 3, 3)
    """
    t, z, y, x = _kernel.reach(_compiled(parameters))
    return t, 0, z, y, x


def scratch_bytes(parameters: Parameters, block_shape: Index) -> int:
    """Return the memory in bytes that each thread needs besides the block's arrays."""
    return int(_kernel.scratch_bytes(_compiled(parameters), _without_c(block_shape)))


def team_size(threads: int) -> int:
    """Return how many threads OpenMP really gives when asked for `threads`."""
    return int(_kernel.team_size(threads))


def build_info() -> dict[str, Any]:
    """Tell how the kernel was built and which instruction sets it may use here (best last).

    Returns
    -------
    dict
        ``compiler``, ``build_type``, ``openmp`` (its version, None without), ``instruction_sets``
        and ``instruction_set``, the one in use.

    Raises
    ------
    RefusedError
        If the environment asks for an instruction set that this machine does not have.

    Examples
    --------
    >>> from denoise5d import build_info
    >>> info = build_info()
    >>> info["instruction_set"] in info["instruction_sets"]
    True
    """
    info = dict(_kernel.build_info())
    known = info["instruction_sets"]
    info["instruction_set"] = os.environ.get(ISA_VARIABLE) or known[-1]
    if info["instruction_set"] not in known:
        raise RefusedError(
            f"{ISA_VARIABLE} must be one of {', '.join(known)} on this machine, "
            f"got {info['instruction_set']!r}; unset it to take the best"
        )
    return info


def denoise_block(
    padded: Image,
    *,
    padded_origin: Index,
    core: Box,
    image_shape: Index,
    noise: Sequence[NoiseModel],
    parameters: Parameters,
    threads: int,
) -> NDArray[np.float32]:
    """Denoise one block of an image.

    Parameters
    ----------
    padded : ndarray, TCZYX
        The block with its halo; float32 or integers.
    padded_origin : Index
        Where its first voxel lies in the image.
    core : Box
        The voxels wanted, in coordinates of the image.
    image_shape : Index
        Shape of the whole image: data are mirrored at its borders only.
    noise : sequence of NoiseModel
        One for each channel of the image.
    parameters : Parameters
        See `resolve_parameters`.
    threads : int
        OpenMP threads; the result does not depend on them.

    Returns
    -------
    ndarray of float32
        Of the core's shape, in grey levels.

    Raises
    ------
    InputError
        If there are NaN or infinite values: with their number and the first one's place.
    """
    out = np.empty(core.shape, np.float32)
    for channel in range(core.start[1], core.stop[1]):
        model = noise[channel]
        source, target = channel - padded_origin[1], channel - core.start[1]
        try:
            _kernel.denoise_channel(
                padded[:, source : source + 1],
                out[:, target : target + 1],
                _without_c(image_shape),
                _without_c(padded_origin),
                _without_c(core.start),
                _kernel.NoiseModel(model.gain, model.offset, model.read_noise),
                _compiled(parameters),
                threads,
                os.environ.get(ISA_VARIABLE) or "auto",
            )
        except ArithmeticError as error:
            _, count, (t, z, y, x) = error.args
            place = [a + b for a, b in zip(padded_origin, (t, source, z, y, x), strict=True)]
            raise InputError(
                f"the image holds {count} values that are NaN or infinite in this block, the "
                f"first at {AXES} {tuple(place)}; replace them before denoising"
            ) from error
    return out
