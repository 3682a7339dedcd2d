"""Leica LIF: one image of several, frame by frame."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from denoise5d.errors import InputError
from denoise5d.geometry import AXES, Box
from denoise5d.sources.description import Sizes, chosen, image_info
from denoise5d.sources.readers import opened, plane_words, reading
from denoise5d.store import Image, ImageInfo

_MICROMETERS = 1e6  # in a metre, the unit of the file
_COLOURS = {
    "Red": "FF0000",
    "Green": "00FF00",
    "Blue": "0000FF",
    "Cyan": "00FFFF",
    "Magenta": "FF00FF",
    "Yellow": "FFFF00",
    "Gray": "FFFFFF",
}
_CHANNELS = "./Data/Image/ImageDescription/Channels/ChannelDescription"


class LifImage(Image):
    """One image of an open LIF.

    Parameters
    ----------
    info : ImageInfo
        What is known of it.
    file : liffile.LifFile
        The open file, which the image closes.
    frames : liffile.LifImageFrames
        Its planes.
    outer : sequence of str
        The axes by which they are numbered.
    """

    def __init__(self, info: ImageInfo, file: Any, frames: Any, outer: Sequence[str]) -> None:
        super().__init__(info, file.close)
        self._frames = frames
        self._outer = outer
        self._lock = Lock()

    def read_into(self, box: Box, out: NDArray[Any]) -> None:
        """Fill an array with the voxels of a box."""
        y, x = box.slices[3:]
        for inside in np.ndindex(box.shape[:3]):
            place = [a + i for a, i in zip(box.start, inside, strict=False)]
            with self._lock, reading(self.info.path, plane_words(*place)):
                frame = self._frames[tuple(place[AXES.index(axis)] for axis in self._outer)]
            out[inside] = frame[y, x]


def open_lif(source: Path, *, axes: str | None = None, dataset: str | None = None) -> LifImage:
    """Open one image of a LIF.

    Parameters
    ----------
    source : Path
        The file.
    axes : str, optional
        Not to be given.
    dataset : str, optional
        Number of the image, from 0; by default the only one.

    Raises
    ------
    InputError
        The file is damaged or of a kind that is not taken.
    """
    with opened(source, axes, "liffile", "lif", lambda library: library.LifFile(source)) as file:
        return _image(source, file, dataset)


def _image(source: Path, file: Any, dataset: str | None) -> LifImage:
    images = list(file.images)
    shapes = [", ".join(f"{axis} {n}" for axis, n in image.sizes.items()) for image in images]
    words = [f"{image.name} ({shape})" for image, shape in zip(images, shapes, strict=True)]
    number = chosen(source, words, dataset)
    image = images[number]
    if not set(image.sizes) <= set(AXES):
        raise InputError(
            f"{source}: {words[number]} has axes that are none of TCZYX "
            "(S: colours, M: tiles of a mosaic, λ: a spectrum): export it from the microscope's "
            "program as several images, a mosaic merged"
        )
    frames = _frames(source, image)
    if tuple(frames.frame_dims) != ("Y", "X"):
        raise InputError(
            f"{source}: {image.name} is scanned in planes of {''.join(frames.frame_dims)}; "
            "only planes of YX are taken"
        )
    channels = image.xml_element.findall(_CHANNELS)
    info = image_info(
        source,
        axes="".join(image.dims),
        lengths=image.shape,
        dtype=np.dtype(image.dtype),
        chunks=frames.frame_sizes,
        dataset=str(number) if len(images) > 1 else "",
        name=image.name,
        sizes=_sizes(image),
        colours=[_COLOURS.get(channel.get("LUTName", "")) for channel in channels],
    )
    return LifImage(info, file, frames, [axis for axis in image.dims if axis not in "YX"])


def _frames(source: Path, image: Any) -> Any:
    """Return the planes of an image, whose data must be in the file."""
    try:
        block, frames = image.memory_block, image.frames
        needed, there = image.nbytes, block.size
        end = block.offset + block.size
        assert frames.frame_dims
    except Exception as error:  # the library raises whatever it likes
        raise InputError(
            f"{source} is damaged or cut short: {image.name} has no data: {error!r}"
        ) from error
    if needed > there or end > source.stat().st_size:
        raise InputError(f"{source} is damaged or cut short: it lacks data of {image.name}")
    return frames


def _sizes(image: Any) -> Sizes:
    """Return distance and unit of two voxels from the positions of all."""
    sizes: Sizes = {}
    for axis, places in image.coords.items():
        if axis in "TZYX" and len(places) > 1:
            step = abs(float(places[-1] - places[0])) / (len(places) - 1)
            spatial = axis != "T"
            unit = "micrometer" if spatial else "second"
            sizes[axis] = (round(step * (_MICROMETERS if spatial else 1), 9), unit)
    return sizes
