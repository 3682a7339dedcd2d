"""What is computed, and the defaults that follow from the dimensions that an image has.

The kernel gets these numbers and nothing else: two runs with the same `Parameters` and the same
noise give the same voxels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from denoise5d.errors import RefusedError
from denoise5d.geometry import Index, as_index


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
    time is searched from the first iteration on, one frame to each side, two where there is no z.

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
        patch = _SAFIR_PATCH[film, volume]
    if iterations is None:  # the fewer dimensions there are, the farther one has to look
        iterations = 1 if film and volume else 2 if film or volume else 3
    patch = as_index([min(p, n - 1) for p, n in zip(patch, image_shape, strict=True)])
    windows = tuple(_window(n, image_shape) for n in range(iterations))
    voxels = math.prod(2 * p + 1 for p in patch)
    threshold = float(np.float32(_chi_square_quantile(1 - pvalue, voxels)))
    refinement = resolve_ridge(image_shape) if ridge else None
    return Parameters(patch, windows, threshold, pvalue, refinement)


_SAFIR_PATCH: dict[tuple[bool, bool], Index] = {
    # film, volume
    (False, False): (0, 0, 0, 3, 3),
    (True, False): (0, 0, 0, 2, 2),
    (False, True): (0, 0, 1, 1, 1),
    (True, True): (0, 0, 1, 2, 2),
}


def _window(iteration: int, image_shape: Index) -> Index:
    """Return the search radius of an iteration (from 0), cut to what the axes can hold."""
    frames = 1 if image_shape[2] > 1 else 2
    window = (frames, 0, min(2**iteration, 2), 2**iteration, 2**iteration)
    return as_index([min(w, n - 1) for w, n in zip(window, image_shape, strict=True)])


_RIDGE_DEFAULTS: dict[tuple[bool, bool], tuple[Index, Index, Index, int]] = {
    # film, volume: patch radius, search radius, stride, group
    (False, False): ((0, 0, 0, 3, 3), (0, 0, 0, 8, 8), (1, 1, 1, 4, 4), 32),
    (True, False): ((1, 0, 0, 2, 2), (3, 0, 0, 3, 3), (3, 1, 1, 5, 5), 64),
    (False, True): ((0, 0, 1, 2, 2), (0, 0, 1, 3, 3), (1, 1, 3, 5, 5), 64),
    (True, True): ((0, 0, 1, 2, 2), (1, 0, 1, 2, 2), (1, 1, 3, 5, 5), 48),
}


def resolve_ridge(
    image_shape: Index,
    *,
    search: Index | None = None,
    stride: Index | None = None,
    group: int | None = None,
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
    group : int, optional
        Patches estimated together.
    rounds : int
        How often the result is refined.

    Raises
    ------
    RefusedError
        If a stride is longer than a patch, which would leave voxels without one.
    """
    defaults = _RIDGE_DEFAULTS[image_shape[0] > 1, image_shape[2] > 1]
    patch, usual_search, usual_stride, usual_group = defaults
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
    return Ridge(patch, search, stride, group or usual_group, rounds)


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
