"""BigDataViewer: an XML file that describes setups and time points, and the HDF5 that has them.

A *setup* is one stack for each time point: a channel, seen from one angle, lit from one side, of
one tile. Setups that differ in the channel alone are the channels of one image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from denoise5d.errors import InputError
from denoise5d.sources.description import Sizes, chosen, image_info
from denoise5d.sources.hdf5 import Hdf5Image, chunks_of, open_file
from denoise5d.sources.readers import closed_unless_good, no_axes

_KINDS = ("angle", "illumination", "tile")


@dataclass(frozen=True, slots=True)
class _Setup:
    """A stack for each time point."""

    number: int
    name: str
    lengths: tuple[int, ...]
    sizes: Sizes
    place: tuple[tuple[str, str], ...]
    channel: str


def open_bdv(source: Path, *, axes: str | None = None, dataset: str | None = None) -> Hdf5Image:
    """Open an image of BigDataViewer.

    Parameters
    ----------
    source : Path
        The XML.
    axes : str, optional
        Not to be given.
    dataset : str, optional
        Number of the image, from 0, where there are several angles, illuminations or tiles.

    Raises
    ------
    InputError
        The files are damaged or of a kind that is not taken.
    """
    no_axes(source, axes)
    try:
        root = ElementTree.parse(source).getroot()
        images = _images(list(_setups(root)))
        times = list(_times(root))
    except (ElementTree.ParseError, ValueError, AttributeError) as error:
        raise InputError(f"{source} is no XML of BigDataViewer, or damaged: {error}") from error
    setups = images[chosen(source, [_words(image) for image in images], dataset)]
    file = open_file(_data_file(source, root))
    with closed_unless_good(source, file.close):
        return _opened(source, file, setups, times, len(images) > 1)


def _opened(
    source: Path, file: Any, setups: list[_Setup], times: list[int], several: bool
) -> Hdf5Image:
    def name(t: int, c: int) -> str:
        return f"t{times[t]:05d}/s{setups[c].number:02d}/0/cells"

    missing = [
        name(t, c) for t in range(len(times)) for c in range(len(setups)) if name(t, c) not in file
    ]
    if missing:
        raise InputError(
            f"{file.filename} lacks {len(missing)} of the stacks that {source.name} names, the "
            f"first of them {missing[0]}"
        )
    array, first = file[name(0, 0)], setups[0]
    if array.shape != first.lengths:
        raise InputError(
            f"{file.filename}: {name(0, 0)} has the shape {array.shape}, and {source.name} says "
            f"{first.lengths}"
        )
    dtype = np.dtype(np.uint16) if array.dtype == np.int16 else array.dtype
    info = image_info(
        source,
        axes="TCZYX",
        lengths=[len(times), len(setups), *first.lengths],
        dtype=dtype,
        chunks=chunks_of(array, "ZYX"),
        dataset=str(first.number) if several else "",
        sizes=first.sizes,
        labels=[setup.channel or setup.name for setup in setups],
    )
    return Hdf5Image(info, file, "ZYX", name)


def _setups(root: ElementTree.Element) -> Iterator[_Setup]:
    names = {
        (kind.get("name"), entry.findtext("id")): entry.findtext("name", "")
        for kind in root.iterfind(".//ViewSetups/Attributes")
        for entry in kind
    }
    for setup in root.iterfind(".//ViewSetups/ViewSetup"):
        lengths = [int(n) for n in setup.findtext("size", "").split()]
        voxel = [float(n) for n in setup.findtext("voxelSize/size", "").split()]
        unit = setup.findtext("voxelSize/unit")
        pairs = ((kind, setup.findtext(f"attributes/{kind}", "0")) for kind in _KINDS)
        channel = setup.findtext("attributes/channel")
        yield _Setup(
            number=int(setup.findtext("id", "")),
            name=setup.findtext("name", ""),
            lengths=tuple(reversed(lengths)),
            sizes={axis: (size, unit) for axis, size in zip("XYZ", voxel, strict=False)},
            place=tuple(pairs),
            channel=names.get(("channel", channel), ""),
        )


def _images(setups: list[_Setup]) -> list[list[_Setup]]:
    """Return the setups that are channels of one image, image by image."""
    images: dict[tuple[object, ...], list[_Setup]] = {}
    for setup in setups:
        images.setdefault((setup.place, setup.lengths), []).append(setup)
    return list(images.values())


def _words(setups: list[_Setup]) -> str:
    place = ", ".join(f"{kind} {number}" for kind, number in setups[0].place)
    z, y, x = setups[0].lengths
    return f"{place}, {x} x {y} x {z}, {len(setups)} channels"


def _times(root: ElementTree.Element) -> Iterator[int]:
    points = root.find(".//Timepoints")
    if points is None:
        raise ValueError("it names no time points")
    if points.get("type") == "range":
        yield from range(int(points.findtext("first", "")), int(points.findtext("last", "")) + 1)
        return
    for part in points.findtext("integerpattern", "").split(","):
        first, _, last = part.strip().partition("-")
        yield from range(int(first), int(last or first) + 1)


def _data_file(source: Path, root: ElementTree.Element) -> Path:
    loader = root.find(".//ImageLoader")
    kind = "no image loader" if loader is None else loader.get("format", "none")
    if loader is None or kind != "bdv.hdf5":
        raise InputError(
            f"{source} names data of the kind {kind!r}; only bdv.hdf5 is taken: save it again as "
            "HDF5 in Fiji, or give the N5 or Zarr to another program"
        )
    name = loader.findtext("hdf5", "")
    file = source.parent / (root.findtext("BasePath") or ".") / name
    if not file.is_file():
        raise InputError(f"{file} does not exist, and {source.name} says that the data are in it")
    return file
