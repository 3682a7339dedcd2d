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

import os
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

import denoise5d._kernel as _kernel
from denoise5d.errors import InputError, RefusedError
from denoise5d.geometry import AXES, Box, Index
from denoise5d.noise import NoiseModel
from denoise5d.parameters import Parameters, Ridge

Image: TypeAlias = NDArray[Any]

ESTIMATOR_VERSION = 2
"""Goes up whenever the same parameters give other bits: blocks of two versions never mix."""

ISA_VARIABLE = "DENOISE5D_ISA"
"""Environment variable that forces one of `build_info`'s instruction sets, to compare them."""


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
