"""What every format says of its images in ways of its own, as an `ImageInfo`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf, isfinite
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from denoise5d.errors import InputError
from denoise5d.geometry import AXES, as_index
from denoise5d.store import ImageInfo, native_dtype, standard_unit

Sizes: TypeAlias = dict[str, tuple[float, str | None]]
"""Voxel size and unit by axis."""

_LISTED = 20


def image_info(
    path: Path,
    *,
    axes: str,
    lengths: Sequence[int],
    dtype: np.dtype[Any],
    chunks: Mapping[str, int],
    dataset: str = "",
    name: str = "",
    sizes: Mapping[str, tuple[float, str | None]] | None = None,
    origins: Mapping[str, float] | None = None,
    labels: Sequence[str | None] = (),
    colours: Sequence[str | None] = (),
) -> ImageInfo:
    """Return what is known of an image, leaving out what makes no sense.

    Parameters
    ----------
    path : Path
        The file.
    axes : str
        Its axes from slowest to fastest, letters of TCZYX.
    lengths : sequence of int
        Length of each in voxels.
    dtype : numpy.dtype
        Type of a voxel as it is stored.
    chunks : mapping
        Length of what is decoded at a time by axis; 1 where it is not given.
    dataset : str
        Which image of the file it is.
    name : str
        Its name; by default that of the file.
    sizes : mapping, optional
        Voxel size and unit by axis; what is no positive number is left out.
    origins : mapping, optional
        Position of the first voxel by axis, in the axis' unit.
    labels, colours : sequence
        Name of each channel, and colour as ``RRGGBB``; left out if there are not as many as
        channels.

    Raises
    ------
    InputError
        The voxels are of a type that is not taken.
    """
    known = dict(zip(axes, lengths, strict=True))
    shape = as_index([known.get(axis, 1) for axis in AXES])
    good = {axis: size for axis, size in (sizes or {}).items() if 0 < size[0] < inf}
    places = [(origins or {}).get(axis, 0.0) for axis in AXES]
    return ImageInfo(
        name=name or path.name.split(".")[0],
        shape=shape,
        dtype=native_dtype(dtype, path),
        scales=tuple(good[axis][0] if axis in good else 1.0 for axis in AXES),
        units=tuple(standard_unit(good[axis][1]) if axis in good else None for axis in AXES),
        translations=tuple(places) if any(places) and all(map(isfinite, places)) else None,
        channels=_channels(shape[1], labels, colours),
        path=path,
        dataset=dataset,
        axes=axes,
        chunks=as_index([min(chunks.get(axis, 1), known.get(axis, 1)) for axis in AXES]),
    )


def chosen(source: Path, images: Sequence[str], dataset: str | None) -> int:
    """Return the number of the image that is wanted: as given, or of the only one.

    Parameters
    ----------
    source : Path
        The file.
    images : sequence of str
        A few words on each image in it.
    dataset : str or None
        Number of the image, from 0; None is enough where there is one.

    Raises
    ------
    InputError
        If there is no such image, or if nothing says which one of several.
    """
    if not images:
        raise InputError(f"{source} holds no image")
    if dataset is None and len(images) == 1:
        return 0
    if dataset is None or not dataset.isdecimal() or int(dataset) >= len(images):
        listed = "; ".join(f"{number}: {words}" for number, words in enumerate(images[:_LISTED]))
        more = "; ..." if len(images) > _LISTED else ""
        got = "" if dataset is None else f", got {dataset}"
        count = f"{len(images)} images" if len(images) > 1 else "1 image"
        raise InputError(
            f"{source} holds {count}, choose one by its number: --series, or input.dataset in a "
            f"YAML{got}. {listed}{more}"
        )
    return int(dataset)


def _channels(
    count: int, labels: Sequence[str | None], colours: Sequence[str | None]
) -> dict[str, Any] | None:
    """Return the ``omero`` metadata of channels; None if nothing is known of them."""
    entries: list[dict[str, Any]] = [{} for _ in range(count)]
    for key, values in (("label", labels), ("color", colours)):
        if len(values) == count:
            for entry, value in zip(entries, values, strict=True):
                entry.update({key: value} if value else {})
    return {"channels": entries} if any(entries) else None
