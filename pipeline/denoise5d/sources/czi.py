"""Zeiss CZI: scenes, of which mosaics are put together as the microscope's program shows them.

pylibCZIrw reads regions and puts tiles together, but gives black where a plane has no tile at all,
and takes a file cut short for one with fewer planes. So the directory of the file is read, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from math import prod
from pathlib import Path
from threading import Lock
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from denoise5d.errors import InputError
from denoise5d.geometry import Box
from denoise5d.sources.description import Sizes, chosen, image_info
from denoise5d.sources.readers import opened, plane_words, reading
from denoise5d.store import Image, ImageInfo

_AXES = "TCZYX"
_TYPES = {"Gray8": "uint8", "Gray16": "uint16", "Gray32Float": "float32"}
_MICROMETERS = 1e6  # in a metre, the unit of the file


class CziImage(Image):
    """One scene of an open CZI.

    Parameters
    ----------
    info : ImageInfo
        What is known of it.
    czi : pylibCZIrw.czi.CziReader
        The open file, which the image closes.
    scene : int or None
        Its number; None for a file without scenes.
    origin : tuple of int
        Of the scene in the file's coordinates, x and y.
    first : mapping
        The file's number of the first time point, channel and plane.
    """

    def __init__(
        self,
        info: ImageInfo,
        czi: Any,
        scene: int | None,
        origin: tuple[int, int],
        first: Mapping[str, int],
    ) -> None:
        super().__init__(info, czi.close)
        self._czi = czi
        self._scene = scene
        self._origin = origin
        self._first = first
        self._lock = Lock()

    def read_into(self, box: Box, out: NDArray[Any]) -> None:
        """Fill an array with the voxels of a box."""
        y, x = box.slices[3:]
        region = (
            self._origin[0] + x.start,
            self._origin[1] + y.start,
            x.stop - x.start,
            y.stop - y.start,
        )
        for inside in np.ndindex(box.shape[:3]):
            place = [a + i for a, i in zip(box.start, inside, strict=False)]
            plane = {axis: self._first[axis] + n for axis, n in zip("TCZ", place, strict=True)}
            with self._lock, reading(self.info.path, plane_words(*place)):
                values = self._czi.read(roi=region, plane=plane, scene=self._scene)
            out[inside] = values[..., 0]


def open_czi(source: Path, *, axes: str | None = None, dataset: str | None = None) -> CziImage:
    """Open one scene of a CZI.

    Parameters
    ----------
    source : Path
        The file.
    axes : str, optional
        Not to be given.
    dataset : str, optional
        Number of the scene, from 0; by default the only one.

    Raises
    ------
    InputError
        The file is damaged or of a kind that is not taken.
    """
    with opened(
        source, axes, "pylibCZIrw.czi", "czi", lambda library: library.CziReader(str(source))
    ) as czi:
        return _image(source, czi, dataset)


def _image(source: Path, czi: Any, dataset: str | None) -> CziImage:
    lengths = {
        axis: end - start for axis, (start, end) in czi.total_bounding_box_no_pyramid.items()
    }
    more = {axis: n for axis, n in lengths.items() if axis not in _AXES and n > 1}
    if more:
        raise InputError(
            f"{source} has several {_words(more)}, which are no axes of TCZYX: export one of each"
        )
    scenes = czi.scenes_bounding_rectangle_no_pyramid
    numbers = sorted(scenes) or [None]
    shown = [f"scene {n}, {scenes[n].w} x {scenes[n].h}" if scenes else "all" for n in numbers]
    scene = numbers[chosen(source, shown, dataset)]
    place = czi.total_bounding_rectangle_no_pyramid if scene is None else scenes[scene]
    first, counts, tile = _planes(source, czi, scene)
    info = image_info(
        source,
        axes=_AXES,
        lengths=[counts["T"], counts["C"], counts["Z"], place.h, place.w],
        dtype=_dtype(source, czi),
        chunks={"Y": tile[1], "X": tile[0]},
        dataset="" if len(numbers) == 1 else str(scene),
        **_metadata(czi.raw_metadata, counts["C"]),
    )
    return CziImage(info, czi, scene, (place.x, place.y), first)


def _words(dimensions: Mapping[str, int]) -> str:
    names = {"R": "rotations", "I": "illuminations", "H": "phases", "V": "views", "B": "blocks"}
    return " and ".join(f"{names[axis]} ({n})" for axis, n in dimensions.items())


def _planes(
    source: Path, czi: Any, scene: int | None
) -> tuple[dict[str, int], dict[str, int], tuple[int, int]]:
    """Return first number and length of T, C and Z, and the largest tile; miss no plane."""
    found: set[tuple[int, ...]] = set()
    width = height = 1

    def note(_: int, info: Any) -> bool:
        nonlocal width, height
        at = info.coordinate.to_dict()
        if info.get_zoom() == 1 and (scene is None or at.get("S", 0) == scene):
            found.add(tuple(at.get(axis, 0) for axis in "TCZ"))
            width, height = max(width, info.logicalRect.w), max(height, info.logicalRect.h)
        return True

    czi.enumerate_subblocks(note)
    if not found:
        raise InputError(f"{source} holds no image")
    first = dict(zip("TCZ", map(min, zip(*found, strict=True)), strict=True))
    last = dict(zip("TCZ", map(max, zip(*found, strict=True)), strict=True))
    counts = {axis: last[axis] - first[axis] + 1 for axis in "TCZ"}
    if len(found) < prod(counts.values()):
        every = product(*(range(first[axis], last[axis] + 1) for axis in "TCZ"))
        t, c, z = next(place for place in every if place not in found)
        raise InputError(
            f"{source} lacks {prod(counts.values()) - len(found)} of its {prod(counts.values())} "
            f"planes, the first of them t {t}, c {c}, z {z} (from 0): it was not finished, or it "
            f"is cut short"
        )
    return first, counts, (width, height)


def _dtype(source: Path, czi: Any) -> np.dtype[Any]:
    kinds = sorted(set(czi.pixel_types.values()))
    if len(kinds) > 1:
        raise InputError(
            f"{source} has channels of several types, {', '.join(kinds)}: export those of one type"
        )
    if kinds[0] not in _TYPES:
        raise InputError(
            f"{source} is a colour image ({kinds[0]}): save it as a grey-level image with one "
            "channel for each colour"
        )
    return np.dtype(_TYPES[kinds[0]])


def _metadata(xml: str, channels: int) -> dict[str, Any]:
    """Return voxel sizes, names and colours of the channels, as `image_info` takes them."""
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return {}
    sizes: Sizes = {}
    for distance in root.iterfind(".//Scaling/Items/Distance"):
        axis, value = distance.get("Id", ""), _number(distance.findtext("Value"))
        if axis in ("X", "Y", "Z"):
            sizes[axis] = (round(value * _MICROMETERS, 9), "micrometer")
    step = root.findtext(".//Information/Image/Dimensions/T/Positions/Interval/Increment")
    sizes["T"] = (_number(step), "second")
    named = root.findall(".//Information/Image/Dimensions/Channels/Channel")
    shown = {
        channel.get("Id", ""): channel.findtext("Color", "")
        for channel in root.iterfind(".//DisplaySetting/Channels/Channel")
    }
    colours = [shown.get(c.get("Id", ""), "") or c.findtext("Color", "") for c in named]
    return {
        "sizes": sizes,
        "labels": [channel.get("Name") for channel in named][:channels],
        "colours": [colour.lstrip("#")[-6:] for colour in colours][:channels],
    }


def _number(text: str | None) -> float:
    """Return the number in a text, 0 if there is none."""
    try:
        return float(text or 0)
    except ValueError:
        return 0.0
