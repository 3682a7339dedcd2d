"""What a caller from Python may ask for, checked and filled in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from denoise5d.errors import NoiseError, RefusedError
from denoise5d.geometry import AXES, Index, as_index
from denoise5d.noise import NoiseModel
from denoise5d.parameters import Parameters, resolve_parameters, resolve_ridge

PerChannel: TypeAlias = float | Sequence[float] | NDArray[Any]
Method: TypeAlias = Literal["ridge", "safir"]
Quality: TypeAlias = Literal["fast", "standard", "best"]
Radii: TypeAlias = tuple[int, int, int, int, int]

_ROUNDS = {"fast": 0, "standard": 1, "best": 2}
_PVALUE = 0.1
_MOST_THREADS = 4096


@dataclass(frozen=True, slots=True)
class Estimator:
    """What is to be computed, as the caller said it; None: not said.

    Attributes
    ----------
    quality : {"fast", "standard", "best"} or None
    method : {"ridge", "safir"} or None
    patch : tuple of int or None
    iterations : int or None
    pvalue : float or None

    Raises
    ------
    RefusedError
        If one is out of its range, or two contradict each other.
    """

    quality: Quality | None
    method: Method | None
    patch: Radii | None
    iterations: int | None
    pvalue: float | None

    def __post_init__(self) -> None:
        if self.method not in (None, "ridge", "safir"):
            raise RefusedError(f"method must be 'ridge' or 'safir', got {self.method!r}")
        self._check_quality()
        patch, iterations, pvalue = self.patch, self.iterations, self.pvalue
        if patch is not None:
            if len(patch) != len(AXES) or not all(is_whole(p, 0, 8) for p in patch):
                raise RefusedError(
                    f"patch must be five radii of 0 to 8 voxels for {AXES}, got {patch}"
                )
            if patch[1] != 0:
                raise RefusedError(
                    f"patch must be 0 along C: channels are independent, got {patch}"
                )
        if iterations is not None and not is_whole(iterations, 1, 6):
            raise RefusedError(f"iterations must be a whole number from 1 to 6, got {iterations}")
        if pvalue is not None and not 0 < pvalue < 1:
            raise RefusedError(f"pvalue must be between 0 and 1, got {pvalue}")

    def _check_quality(self) -> None:
        if self.quality is None:
            return
        if self.quality not in _ROUNDS:
            raise RefusedError(
                f"quality must be 'fast', 'standard' or 'best', got {self.quality!r}"
            )
        for name in ("patch", "iterations", "pvalue"):
            if getattr(self, name) is not None:
                raise RefusedError(f"{name} must not stand beside quality; remove one of the two")
        if self.method is not None and (self.method == "safir") != (self.quality == "fast"):
            raise RefusedError(
                f"quality {self.quality!r} contradicts method {self.method!r}; remove one of the "
                f"two, as fast is safir and the others are ridge"
            )

    def parameters(self, image_shape: Index) -> Parameters:
        """Return what is computed for an image of this shape, TCZYX."""
        rounds = _ROUNDS[self.quality or ("fast" if self.method == "safir" else "standard")]
        safir = resolve_parameters(
            image_shape,
            patch=None if self.patch is None else as_index(self.patch),
            iterations=self.iterations,
            pvalue=_PVALUE if self.pvalue is None else self.pvalue,
            ridge=False,
        )
        if rounds == 0:
            return safir
        return replace(safir, ridge=resolve_ridge(image_shape, rounds=rounds))


def check_threads(threads: int | None) -> None:
    """Raise RefusedError where the number of threads is none."""
    if threads is not None and not is_whole(threads, 1, _MOST_THREADS):
        raise RefusedError(
            f"threads must be a whole number from 1 to {_MOST_THREADS}, got {threads}"
        )


def is_whole(value: object, least: int, most: int) -> bool:
    """Tell whether `value` is a whole number from `least` to `most`."""
    return isinstance(value, Integral) and least <= int(value) <= most


@dataclass(frozen=True, slots=True)
class Noise:
    """The noise, as the caller said it; None: not said. See `denoise5d.denoise`."""

    sigma: PerChannel | None
    gain: PerChannel | None
    offset: PerChannel | None
    read_noise: PerChannel | None

    def models(self, channels: int) -> list[NoiseModel] | None:
        """Return one model a channel, or None where nothing was said.

        Raises
        ------
        NoiseError
            If what was said contradicts itself, or is not for so many channels.
        """
        sigma, gain, offset, read_noise = self.sigma, self.gain, self.offset, self.read_noise
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
