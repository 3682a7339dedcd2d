"""Nikon ND2: one position of the stage, frame by frame; a frame holds all channels.

A frame that the file lacks reads as zeros. A file that was cut short is refused when it is opened,
as its directory is at its end; one of fewer frames than its experiment has is refused here.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from denoise5d.errors import InputError
from denoise5d.geometry import Box
from denoise5d.sources.description import Sizes, chosen, image_info
from denoise5d.sources.readers import opened, reading
from denoise5d.store import Image, ImageInfo

logger = logging.getLogger(__name__)

_PLANE = "CYX"
_LOOPS = "TZP"


class Nd2Image(Image):
    """One position of an open ND2.

    Parameters
    ----------
    info : ImageInfo
        What is known of it.
    file : nd2.ND2File
        The open file, which the image closes.
    frames : mapping
        The number of the frame of each time point and plane.
    """

    def __init__(self, info: ImageInfo, file: Any, frames: Mapping[tuple[int, int], int]) -> None:
        super().__init__(info, file.close)
        self._file = file
        self._frames = frames
        self._lock = Lock()

    def read_into(self, box: Box, out: NDArray[Any]) -> None:
        """Fill an array with the voxels of a box."""
        _, c, _, y, x = box.slices
        shape = (self.info.shape[1], *self.info.shape[3:])
        for inside in np.ndindex(box.shape[0], box.shape[2]):
            t, z = box.start[0] + inside[0], box.start[2] + inside[1]
            with self._lock, reading(self.info.path, f"the frame t {t}, z {z} (from 0)"):
                frame = np.asarray(self._file.read_frame(self._frames[t, z])).reshape(shape)
            out[inside[0], :, inside[1]] = frame[c, y, x]


def open_nd2(source: Path, *, axes: str | None = None, dataset: str | None = None) -> Nd2Image:
    """Open one position of an ND2.

    Parameters
    ----------
    source : Path
        The file.
    axes : str, optional
        Not to be given.
    dataset : str, optional
        Number of the position, from 0; by default the only one.

    Raises
    ------
    InputError
        The file is damaged or of a kind that is not taken.
    """
    with opened(source, axes, "nd2", "nd2", lambda library: library.ND2File(source)) as file:
        return _image(source, file, dataset)


def _image(source: Path, file: Any, dataset: str | None) -> Nd2Image:
    sizes = dict(file.sizes)
    if file.is_rgb:
        raise InputError(
            f"{source} is a colour image: save it as a grey-level image with one channel for each "
            "colour"
        )
    more = {axis: n for axis, n in sizes.items() if axis not in _PLANE + _LOOPS}
    if more:
        raise InputError(
            f"{source} has the axes {', '.join(f'{a} ({n})' for a, n in more.items())}, which are "
            "none of TCZYX: export one of each"
        )
    positions = [f"position {number}" for number in range(sizes.get("P", 1))]
    position = chosen(source, positions, dataset)
    loops = list(file.loop_indices) or [{}]
    if file.attributes.sequenceCount < len(loops):
        raise InputError(
            f"{source} has {file.attributes.sequenceCount} of the {len(loops)} frames of its "
            "experiment: it was not finished; crop it in the microscope's program"
        )
    frames = {
        (at.get("T", 0), at.get("Z", 0)): number
        for number, at in enumerate(loops)
        if at.get("P", 0) == position
    }
    lengths = [sizes.get(axis, 1) for axis in "TCZYX"]
    channels = _channels(source, file)
    info = image_info(
        source,
        axes="TCZYX",
        lengths=lengths,
        dtype=np.dtype(file.dtype),
        chunks={"C": lengths[1], "Y": lengths[3], "X": lengths[4]},
        dataset=str(position) if len(positions) > 1 else "",
        sizes=_sizes(file, channels),
        labels=[channel.channel.name for channel in channels],
        colours=[_colour(channel.channel.color) for channel in channels],
    )
    return Nd2Image(info, file, frames)


def _channels(source: Path, file: Any) -> list[Any]:
    """Return what is known of the channels."""
    try:
        return list(file.metadata.channels or [])
    except Exception as error:  # the library meets what it does not expect
        logger.warning("%s: voxel sizes and names are left out: %r", source, error)
        return []


def _sizes(file: Any, channels: Sequence[Any]) -> Sizes:
    """Return the sizes that are known: where it is not, nd2 says 1."""
    sizes: Sizes = {}
    for channel in channels[:1]:
        volume = channel.volume
        for axis, size, known in zip(
            "XYZ", volume.axesCalibration, volume.axesCalibrated, strict=True
        ):
            sizes |= {axis: (size, "micrometer")} if known else {}
    for loop in file.experiment:
        if loop.type == "TimeLoop":
            sizes["T"] = (loop.parameters.periodMs / 1000, "second")
    return sizes


def _colour(colour: Any) -> str:
    return f"{colour.r:02X}{colour.g:02X}{colour.b:02X}"
