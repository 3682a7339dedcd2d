"""Every method that is compared, with the same noise parameters given to all, and two threads.

The peers come from the extra ``bench``. One that is not installed is left out, and `missing` names
it. Their results are kept on disk, since nothing here changes them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import special

from cases import Image, Noise
from denoise5d import denoise, denoise_block, resolve_parameters
from denoise5d.geometry import Box, as_index
from denoise5d.noise import NoiseModel
from denoise5d.parameters import Parameters

Floats: TypeAlias = NDArray[np.float32]
Method: TypeAlias = Callable[[Image, Noise], Floats]

THREADS = 2
PVALUE = 0.1


def fast(image: Image, noise: Noise, threads: int = THREADS) -> Floats:
    """Ours, SAFIR alone."""
    return denoise(image, axes="TCZYX", method="safir", threads=threads, **noise.keywords)


def standard(image: Image, noise: Noise, threads: int = THREADS) -> Floats:
    """Ours with its defaults."""
    return denoise(image, axes="TCZYX", threads=threads, **noise.keywords)


def best(image: Image, noise: Noise, threads: int = THREADS) -> Floats:
    """Ours with two rounds of refinement."""
    parameters = resolve_parameters(as_index(image.shape))
    assert parameters.ridge is not None
    twice = replace(parameters, ridge=replace(parameters.ridge, rounds=2))
    return computed(image, noise, twice, threads)


def computed(image: Image, noise: Noise, parameters: Parameters, threads: int) -> Floats:
    """Ours, with parameters that `denoise5d.denoise` does not offer."""
    shape = as_index(image.shape)
    return denoise_block(
        image,
        padded_origin=(0, 0, 0, 0, 0),
        core=Box.whole(shape),
        image_shape=shape,
        noise=[noise_model(noise)] * shape[1],
        parameters=parameters,
        threads=threads,
    )


def paper(image: Image, noise: Noise) -> Floats:
    """Ours, the paper's estimator with the numbers that ndsafir gets."""
    return denoise(
        image, axes="TCZYX", method="safir", patch=paper_patch(image.shape), iterations=4,
        pvalue=PVALUE, threads=THREADS, **noise.keywords,
    )  # fmt: skip


OURS: dict[str, Method] = {"fast": fast, "standard": standard, "best": best, "paper": paper}


def ndsafir(image: Image, noise: Noise, iterations: int) -> Floats:
    """The reference package."""
    import ndsafir as package

    common: dict[str, Any] = {
        "axes": "TCZYX", "patch": list(paper_patch(image.shape)), "max_iter": iterations,
        "pvalue": PVALUE, "nthreads": THREADS,
    }  # fmt: skip
    if noise.sigma:
        result = package.denoise_gaussian(image, noise_std=noise.sigma, **common)
    else:
        result = package.denoise_poisson_gaussian(
            image, gains=[noise.gain], offsets=[noise.offset], **common
        )
    return np.asarray(result, np.float32)


def bm4d(image: Image, noise: Noise) -> Floats:
    """BM4D on stabilised data: volume after volume; a film of planes is one volume in time."""
    from bm4d import bm4d as package

    stabiliser = Stabiliser(noise)
    stable = stabiliser.forward(image)
    if image.shape[2] == 1:
        stable = stable.swapaxes(0, 2)
    done = np.stack([[_volume(package, volume) for volume in channels] for channels in stable])
    if image.shape[2] == 1:
        done = done.swapaxes(0, 2)
    return stabiliser.inverse(done).astype(np.float32)


def _volume(package: Callable[..., Any], volume: NDArray[np.float64]) -> NDArray[np.float64]:
    """Denoise Z, Y, X; the package wants the short axis last and drops it when it is 1."""
    result = package(np.ascontiguousarray(np.moveaxis(volume, 0, -1)), 1.0)
    return np.moveaxis(np.asarray(result).reshape(*volume.shape[1:], -1), -1, 0)


PEERS: dict[str, tuple[str, Method]] = {
    "ndsafir 3": ("ndsafir", lambda image, noise: ndsafir(image, noise, 3)),
    "ndsafir 4": ("ndsafir", lambda image, noise: ndsafir(image, noise, 4)),
    "bm4d": ("bm4d", bm4d),
}
"""Package and call of every peer."""


def paper_patch(shape: Iterable[int]) -> tuple[int, int, int, int, int]:
    """Radius of a patch as the embryo was denoised with: 3 in y and x, 1 in z."""
    return (0, 0, int(tuple(shape)[2] > 1), 3, 3)


def peer_version(package: str) -> str | None:
    """Return the version of an installed package, None without it."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def installed() -> dict[str, Method]:
    """Return the peers whose packages are there."""
    return {name: call for name, (package, call) in PEERS.items() if peer_version(package)}


def missing() -> list[str]:
    """Return the packages that are not there."""
    return sorted({package for package, _ in PEERS.values() if not peer_version(package)})


def remembered(folder: Path, name: str, image: Image, noise: Noise, *, fresh: bool) -> Floats:
    """Return a peer's result, from `folder` if the same was computed before and `fresh` is False.

    The file's name is a hash of all that the result depends on.
    """
    package, call = PEERS[name]
    key = hashlib.sha256(np.ascontiguousarray(image).tobytes())
    key.update(f"{name} {peer_version(package)} {image.shape} {image.dtype} {noise}".encode())
    file = folder / f"{name.replace(' ', '-')}-{key.hexdigest()[:20]}.npy"
    if file.exists() and not fresh:
        return np.load(file)
    result = call(image, noise)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(file, result)
    return result


def noise_model(noise: Noise) -> NoiseModel:
    """Return the noise as the kernel takes it."""
    if noise.sigma:
        return NoiseModel.gaussian(noise.sigma)
    return NoiseModel.poisson_gaussian(noise.gain, noise.offset)


class Stabiliser:
    """The transform to unit variance and back, as in docs/algorithm.md: what BM4D is run in."""

    TABLED = 150.0  # photons; the closed form is exact enough beyond

    def __init__(self, noise: Noise) -> None:
        self.noise = noise
        self.model = noise_model(noise)
        if noise.sigma:
            return
        self.sigma = self.model.read_noise / noise.gain
        self.photons = np.linspace(0, self.TABLED, 4801) ** 2 / self.TABLED
        self.means = self._means(self.photons)

    def forward(self, image: Image) -> NDArray[np.float64]:
        """Return z, whose noise has the standard deviation 1."""
        values = image.astype(np.float64)
        if self.noise.sigma:
            return values / self.noise.sigma
        gain, offset = self.noise.gain, self.noise.offset
        return 2 / gain * np.sqrt(np.maximum(0, gain * values + 0.375 * gain**2 + offset))

    def inverse(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the grey level whose z has this mean."""
        if self.noise.sigma:
            return z * self.noise.sigma
        far = np.maximum(z, 2.0)
        root = 1.5**0.5
        series = 0.25 * root / far - 1.375 / far**2 + 0.625 * root / far**3
        photons = far**2 / 4 + series - 0.125 - self.sigma**2
        table = np.interp(z, self.means, self.photons)
        photons = np.where(z < self.means[-1], table, photons)
        slope = (self.photons[1] - self.photons[0]) / (self.means[1] - self.means[0])
        dark = (z - self.means[0]) * slope
        photons = np.where(z < self.means[0], dark, photons)
        black = (self.model.read_noise**2 - self.noise.offset) / self.noise.gain
        return self.noise.gain * photons + black

    def _means(self, photons: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return E[z] at every number of photons, by quadrature."""
        counts = np.arange(int(2 * self.TABLED + 40))
        w = np.linspace(-7, 7, 1793)
        mass = np.exp(-0.5 * w**2)
        inner = counts[:, None] + self.sigma * w + self.sigma**2 + 0.375
        roots = 2 * np.sqrt(np.maximum(0, inner)) @ (mass / mass.sum())
        log = special.xlogy(counts, photons[:, None]) - photons[:, None]
        return np.exp(log - special.gammaln(counts + 1)) @ roots
