"""A small embryo to try things on: its truth, its noisy image, its YAML."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.resources import files
from math import log10
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from denoise5d.geometry import Box, Index, as_index
from denoise5d.phantom import Embryo, camera
from denoise5d.plan import Layout
from denoise5d.store import Description, build_output, open_image, open_output, staged

SHAPE: Index = (6, 1, 40, 256, 288)
_LAYOUT = Layout((1, 1, 8, 64, 96))
_SCALES = (60.0, 1.0, 2.0, 0.4, 0.4)
_UNITS = ("second", None, "micrometer", "micrometer", "micrometer")
_GAIN, _BLACK, _READ_NOISE = 3.92, 100.0, 2.0
_PEAK = 60.0


@dataclass(frozen=True, slots=True)
class DemoFiles:
    """Where the demo keeps its files."""

    folder: Path

    @property
    def noisy(self) -> Path:
        """What a camera would have seen."""
        return self.folder / "embryo.zarr"

    @property
    def truth(self) -> Path:
        """What it would have seen without noise, in the same grey levels."""
        return self.folder / "embryo-truth.zarr"

    @property
    def yaml(self) -> Path:
        """The configuration."""
        return self.folder / "demo.yaml"

    @property
    def picture(self) -> Path:
        """Before, after, truth."""
        return self.folder / "demo.png"

    @property
    def complete(self) -> bool:
        """Whether images and YAML are there: each appears as a whole."""
        return all(path.exists() for path in (self.noisy, self.truth, self.yaml))


def make_demo(demo: DemoFiles, progress: Callable[[int, int], None]) -> None:
    """Make the images and the YAML, unless they are there already.

    Parameters
    ----------
    demo : DemoFiles
        Where to.
    progress : callable
        Called with time points done and in all.

    Raises
    ------
    OutputError
        If the folder cannot be written, or has something else under the name of an image.
    """
    demo.folder.mkdir(parents=True, exist_ok=True)
    if not (demo.truth.exists() and demo.noisy.exists()):
        with (
            staged(demo.noisy, overwrite=True) as noisy,
            staged(demo.truth, overwrite=True) as truth,
        ):
            _render(demo, noisy, truth, progress)
    if not demo.yaml.exists():
        partial = demo.yaml.with_suffix(".yaml.incomplete")
        partial.write_text(files("denoise5d").joinpath("configs/demo.yaml").read_text())
        partial.replace(demo.yaml)


def _render(
    demo: DemoFiles, noisy: Path, truth: Path, progress: Callable[[int, int], None]
) -> None:
    """Write both images, a time point at a time."""
    for path, name, dtype in (
        (noisy, demo.noisy.stem, np.dtype(np.uint16)),
        (truth, demo.truth.stem, np.dtype(np.float32)),
    ):
        image = Description(name=name, shape=SHAPE, dtype=dtype, scales=_SCALES, units=_UNITS)
        build_output(path, image, layout=_LAYOUT, dtype=dtype, provenance={"made_by": "demo"})
    outputs = open_output(noisy), open_output(truth)
    embryo = Embryo(SHAPE, seed=5, peak=_PEAK)
    for t in range(SHAPE[0]):
        volume = _time_point(t)
        photons = embryo.render(volume)
        grey = camera(photons, gain=_GAIN, black=_BLACK, read_noise=_READ_NOISE, seed=(7, t))
        clean = np.float32(_GAIN) * photons + np.float32(_BLACK)
        for unit in volume.tiles(_LAYOUT.write_unit):
            part = unit.relative_to(volume.start).slices
            for output, values in zip(outputs, (grey, clean), strict=True):
                output.write_unit(unit, values[part])
        progress(t + 1, SHAPE[0])


def _time_point(t: int) -> Box:
    return Box((t, 0, 0, 0, 0), (t + 1, *SHAPE[1:]))


def psnr(image: Path, truth: Path) -> float:
    """Return the peak signal-to-noise ratio in dB over all voxels; the peak is the truth's."""
    ours, true = open_image(image), open_image(truth)
    squares, voxels, low, high = 0.0, 0, np.inf, -np.inf
    shape = true.info.shape
    for t in range(shape[0]):
        volume = Box((t, 0, 0, 0, 0), as_index([t + 1, *shape[1:]]))
        expected = true.read(volume)
        squares += float(((ours.read(volume) - expected.astype(np.float64)) ** 2).sum())
        voxels += volume.voxels
        low, high = min(low, float(expected.min())), max(high, float(expected.max()))
    return 10 * log10((high - low) ** 2 / (squares / voxels))


def middle_planes(images: Iterable[Path]) -> list[NDArray[Any]]:
    """Return the middle plane (y, x) of the middle time point of every image of the demo."""
    t, z = SHAPE[0] // 2, SHAPE[2] // 2
    plane = Box((t, 0, z, 0, 0), (t + 1, 1, z + 1, *SHAPE[3:]))
    return [open_image(path).read(plane)[0, 0, 0] for path in images]
