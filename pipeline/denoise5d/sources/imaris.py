"""Imaris files (.ims), which are HDF5: full resolution, voxel size, names and colours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from denoise5d.errors import InputError
from denoise5d.sources.description import Sizes, chosen, image_info
from denoise5d.sources.hdf5 import Hdf5Image, chunks_of
from denoise5d.sources.readers import no_axes

_LEVEL = "DataSet/ResolutionLevel 0"


def is_imaris(file: Any) -> bool:
    """Tell whether an open HDF5 file is one of Imaris."""
    return _LEVEL in file and "DataSetInfo/Image" in file


def open_imaris(source: Path, file: Any, *, axes: str | None, dataset: str | None) -> Hdf5Image:
    """Open the image of an Imaris file.

    Parameters
    ----------
    source : Path
        The file.
    file : h5py.File
        The same, open.
    axes, dataset : str or None
        Not to be given.

    Raises
    ------
    InputError
        A time point or channel is missing.
    """
    no_axes(source, axes)
    chosen(source, ["the image"], dataset)
    times = _count(file[_LEVEL], "TimePoint")
    channels = _count(file[f"{_LEVEL}/TimePoint 0"], "Channel") if times else 0

    def name(t: int, c: int) -> str:
        return f"{_LEVEL}/TimePoint {t}/Channel {c}/Data"

    missing = [name(t, c) for t in range(times) for c in range(channels) if name(t, c) not in file]
    if missing or not times * channels:
        raise InputError(f"{source} is not whole: it lacks {missing[0] if missing else _LEVEL}")
    array, image = file[name(0, 0)], file["DataSetInfo/Image"]
    stored = file[f"{_LEVEL}/TimePoint 0/Channel 0"]  # the array is padded to whole chunks
    lengths = [int(_text(stored, f"ImageSize{axis}") or n)
               for axis, n in zip("ZYX", array.shape, strict=True)]  # fmt: skip
    sizes: Sizes = {}
    origins = {}
    for number, axis in enumerate("XYZ"):
        low, high = (_number(image, f"Ext{end}{number}") for end in ("Min", "Max"))
        sizes[axis] = ((high - low) / lengths["ZYX".index(axis)], _text(image, "Unit"))
        origins[axis] = low
    infos = [file.get(f"DataSetInfo/Channel {c}") for c in range(channels)]
    info = image_info(
        source,
        axes="TCZYX",
        lengths=[times, channels, *lengths],
        dtype=array.dtype,
        chunks=chunks_of(array, "ZYX"),
        sizes=sizes,
        origins=origins,
        labels=[None if i is None else _text(i, "Name") for i in infos],
        colours=[None if i is None else _colour(_text(i, "Color")) for i in infos],
    )
    return Hdf5Image(info, file, "ZYX", name)


def _count(group: Any, what: str) -> int:
    return sum(name.startswith(f"{what} ") for name in group)


def _text(node: Any, key: str) -> str:
    """Return an attribute that Imaris stores as an array of single characters."""
    return b"".join(np.ravel(node.attrs.get(key, b"")).astype("S")).decode(errors="replace").strip()


def _number(node: Any, key: str) -> float:
    try:
        return float(_text(node, key))
    except ValueError:
        return 0.0


def _colour(text: str) -> str | None:
    """Return three numbers from 0 to 1 as ``RRGGBB``."""
    try:
        red, green, blue = (round(255 * min(1.0, max(0.0, float(n)))) for n in text.split())
    except ValueError:
        return None
    return f"{red:02X}{green:02X}{blue:02X}"
