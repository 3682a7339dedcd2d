"""The cases: images with a known truth, the noise that was added, and what each case is for.

Defaults are chosen on the cases for tuning and the result is reported on the others. The two halves
share no kind of structure and no photograph.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeAlias
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from denoise5d.geometry import Box, Index, as_index
from denoise5d.phantom import Embryo, camera
from phantoms import phantom

Image: TypeAlias = NDArray[Any]

GROUPS = ("2-D", "2-D+t", "3-D", "4-D")

TUNING = {
    "camera", "gravel", "retina", "hubble", "embryo", "blobs", "filaments", "texture", "empty",
}  # fmt: skip
"""Kinds that defaults may be chosen on; all others only report."""

PHOTONS = {"low": 20.0, "mid": 80.0, "high": 400.0}
"""Photons in the brightest structures, about."""

SHAPES = {  # T, Z, Y, X: large enough to have an inside, small enough for the slowest peer
    "2-D": (1, 1, 256, 256),
    "2-D+t": (10, 1, 128, 128),
    "3-D": (1, 20, 80, 80),
    "4-D": (5, 12, 44, 44),
}


@dataclass(frozen=True, slots=True)
class Noise:
    """What every method is told: a camera's `gain` and `offset`, or the `sigma` of Gaussian noise.

    `offset` is read noise² − gain · black level; see docs/algorithm.md.
    """

    gain: float = 0.0
    offset: float = 0.0
    sigma: float = 0.0

    @property
    def keywords(self) -> dict[str, float]:
        """As `denoise5d.denoise` takes it."""
        if self.sigma:
            return {"sigma": self.sigma}
        return {"gain": self.gain, "offset": self.offset}


@dataclass(frozen=True, slots=True)
class Camera:
    """Grey levels a photon, grey level of the dark, read noise in grey levels."""

    gain: float
    black: float
    read_noise: float

    @property
    def noise(self) -> Noise:
        return Noise(gain=self.gain, offset=self.read_noise**2 - self.gain * self.black)


CAMERAS = (Camera(3.92, 100.0, 2.0), Camera(2.17, 100.0, 2.2))
"""That of the light-sheet embryo, and a usual sCMOS; cases take turns."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Arrays of a case, TCZYX: truth and noisy image in grey levels; `black` is without light."""

    truth: NDArray[np.float32]
    image: Image
    noise: Noise
    black: float = 0.0

    def cut(self, margin: tuple[int, ...]) -> Sample:
        """Return the middle of the case, `margin` voxels shorter on each side of each axis."""
        sizes = zip(margin, self.truth.shape, strict=True)
        inner = tuple(slice(m, n - m) for m, n in sizes)
        return replace(self, truth=self.truth[inner], image=self.image[inner])


@dataclass(frozen=True, slots=True)
class Case:
    """One image, named by what is seen, how bright it is and how it moves.

    Attributes
    ----------
    group : str
        One of `GROUPS`.
    kind : str
        A photograph, "embryo" or a kind of `phantoms`.
    level : str
        A key of `PHOTONS`, or "sigma 20" for Gaussian noise.
    speed : float
        Voxels a frame.
    seed : int
    """

    group: str
    kind: str
    level: str
    speed: float = 0.0
    seed: int = 0

    @property
    def name(self) -> str:
        moving = " moving" if self.speed else " still"
        film = moving if self.group in ("2-D+t", "4-D") else ""
        return f"{self.group} {self.kind} {self.level}{film}"

    @property
    def purpose(self) -> str:
        return "tune" if self.kind in TUNING else "report"

    def sample(self) -> Sample:
        """Render the case; the same arrays every time."""
        seed = crc32(self.name.encode()) + self.seed
        if self.level.startswith("sigma"):
            sigma = float(self.level.split()[1])
            truth = photograph(self.kind)
            noise = np.random.default_rng(seed).normal(0, sigma, truth.shape)
            return Sample(truth, (truth + noise).astype(np.float32), Noise(sigma=sigma))
        return photographed(self._photons(seed), CAMERAS[seed % len(CAMERAS)], seed)

    def _photons(self, seed: int) -> NDArray[np.float32]:
        peak, (t, z, y, x) = PHOTONS[self.level], SHAPES[self.group]
        if self.kind in PHOTOGRAPHS:
            grey = photograph(self.kind)
            return np.float32(peak / grey.max()) * grey + np.float32(0.2)
        if self.kind == "embryo":
            return part_of_embryo((t, 1, z, y, x), seed, peak)
        truth = phantom(self.kind, SHAPES[self.group], seed=seed, speed=self.speed)
        return np.float32(peak) * truth[:, None]


def photographed(photons: NDArray[np.float32], shot: Camera, seed: int) -> Sample:
    """Return what a camera makes of a truth."""
    image = camera(photons, gain=shot.gain, black=shot.black, read_noise=shot.read_noise, seed=seed)
    truth = (shot.gain * photons + shot.black).astype(np.float32)
    return Sample(truth, image, shot.noise, shot.black)


def part_of_embryo(shape: Index, seed: int, peak: float) -> NDArray[np.float32]:
    """Render a part of a larger embryo: its skin, some tissue and some of the empty outside."""
    t, c, z, y, x = shape
    whole = Embryo((t, c, 3 * z if z > 1 else 1, 2 * y, 2 * x), seed=seed, peak=peak)
    low = (0, 0, z if z > 1 else 0, y // 4, x // 4)
    return whole.render(Box(low, as_index([a + n for a, n in zip(low, shape, strict=True)])))


PHOTOGRAPHS = {  # image of scikit-image's package and the left upper corner of the part taken
    "camera": (60, 150),
    "moon": (128, 128),
    "cell": (200, 290),
    "gravel": (0, 0),
    "retina": (500, 900),
    "hubble": (300, 300),
    "coins": (20, 60),
    "brick": (100, 100),
    "immunohistochemistry": (128, 128),
}


@lru_cache(maxsize=4)
def photograph(name: str) -> NDArray[np.float32]:
    """Return 256 x 256 pixels of an image that comes with scikit-image, 0 to 255, TCZYX."""
    from skimage import data

    image = getattr(data, {"hubble": "hubble_deep_field"}.get(name, name))()
    grey = image.astype(np.float32) if image.ndim == 2 else image.mean(-1, dtype=np.float32)
    top, left = PHOTOGRAPHS[name]
    return grey[None, None, None, top : top + 256, left : left + 256]


def all_cases() -> list[Case]:
    """Return every case, group by group."""
    sigmas = [
        Case("2-D", image, f"sigma {sigma}")
        for image in ("camera", "moon", "cell")
        for sigma in (10, 20, 30)
    ]
    photons = [Case("2-D", kind, level) for kind, level in _PHOTON_IMAGES]
    films = [Case(group, *rest) for group in ("2-D+t", "4-D") for rest in _FILMS]
    stills = [Case("3-D", kind, level) for kind, level in _VOLUMES]
    cases = sigmas + photons + films + stills
    return sorted(cases, key=lambda case: GROUPS.index(case.group))


def quick_cases() -> list[Case]:
    """Return a case for tuning and one for reporting of each group."""
    first: dict[tuple[str, str], Case] = {}
    for case in all_cases():
        first.setdefault((case.group, case.purpose), case)
    return list(first.values())


_PHOTON_IMAGES = (
    ("gravel", "low"), ("retina", "mid"), ("hubble", "high"), ("filaments", "low"),
    ("coins", "low"), ("brick", "mid"), ("immunohistochemistry", "high"), ("membranes", "mid"),
)  # fmt: skip

_VOLUMES = (
    ("embryo", "low"), ("embryo", "mid"), ("blobs", "high"), ("filaments", "mid"),
    ("texture", "low"), ("empty", "mid"),
    ("membranes", "low"), ("membranes", "high"), ("shells", "mid"), ("puncta", "high"),
    ("muscle", "mid"), ("cytoplasm", "low"),
)  # fmt: skip

_FILMS = (
    ("embryo", "low", 0.5), ("embryo", "mid", 0.5), ("blobs", "mid", 1.0),
    ("filaments", "high", 0.7), ("texture", "low", 0.0), ("empty", "mid", 1.0),
    ("membranes", "low", 0.5), ("membranes", "high", 0.0), ("shells", "mid", 1.0),
    ("puncta", "mid", 1.5), ("muscle", "high", 0.0), ("cytoplasm", "low", 0.7),
)  # fmt: skip
