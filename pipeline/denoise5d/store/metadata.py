"""What is known of an image besides its values, and how OME-Zarr 0.4 and 0.5 write it down.

Only dictionaries as they come from JSON, no files. Metadata come from all kinds of writers: what is
malformed there is reported as a warning and left out, since nothing but the labels of the axes can
change a denoised voxel.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from denoise5d.errors import InputError
from denoise5d.geometry import AXES, Index

if TYPE_CHECKING:
    from denoise5d.levels import PyramidLevel

Window: TypeAlias = dict[str, float]
"""The contrast of a channel: ``min`` and ``max``, and between them ``start`` and ``end``."""

logger = logging.getLogger(__name__)

PROVENANCE = "denoise5d"
"""Name of the attribute that marks a store as made here and says how."""

DTYPES = "uint8, uint16, uint32, uint64, int8, int16, int32, int64 and float32"

_TYPES = {"T": "time", "C": "channel", "Z": "space", "Y": "space", "X": "space"}
_UNITS = {
    "nm": "nanometer",
    "µm": "micrometer",
    "μm": "micrometer",
    "um": "micrometer",
    "\\u00B5m": "micrometer",  # as ImageJ writes it
    "micron": "micrometer",
    "microns": "micrometer",
    "mm": "millimeter",
    "cm": "centimeter",
    "m": "meter",
    "inch": "inch",
    "ms": "millisecond",
    "s": "second",
    "sec": "second",
    "min": "minute",
    "h": "hour",
}
_WINDOW = ("min", "max", "start", "end")
_COLOURS = ("00FF00", "FF00FF", "00FFFF", "FFFF00", "FF0000", "0000FF")


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """Everything about an image but its values; five entries are always in the order TCZYX.

    Attributes
    ----------
    name : str
        Name of the image.
    shape : Index
        Length of every axis in voxels, 1 for axes that the file does not have.
    dtype : numpy.dtype
        Type of a voxel, in this machine's byte order.
    scales : tuple of float
        Distance of two voxels along every axis, in the axis' unit.
    units : tuple of str or None
        UDUNITS names such as ``"micrometer"``; None where unknown.
    translations : tuple of float or None
        Position of the first voxel in the axes' units; None for the origin.
    channels : dict or None
        The ``omero`` metadata of OME-Zarr: names, colours and contrast of the channels.
    """

    name: str
    shape: Index
    dtype: np.dtype[Any]
    scales: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0, 1.0)
    units: tuple[str | None, ...] = (None, None, None, None, None)
    translations: tuple[float, ...] | None = None
    channels: dict[str, Any] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of all voxels, uncompressed."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Level:
    """One array of a multiscale image, described in the array's own order of axes.

    Attributes
    ----------
    dataset : str
        Path of the array inside its group.
    axes : str
        A letter of TCZYX for every axis, ``?`` for one of another kind; empty if not given.
    units : tuple of str or None
        Unit of every axis in `axes`.
    scales, translations : tuple of float
        The transformations of the level and of the whole image in one; empty if not given.
    name : str
        Name of the image, may be empty.
    channels : dict or None
        The ``omero`` metadata.
    """

    dataset: str
    axes: str
    units: tuple[str | None, ...]
    scales: tuple[float, ...]
    translations: tuple[float, ...]
    name: str
    channels: dict[str, Any] | None


def native_dtype(dtype: np.dtype[Any], what: object) -> np.dtype[Any]:
    """Return `dtype` in native byte order; raise InputError, naming `what`, if it is not taken."""
    if dtype.kind not in "ui" and dtype.newbyteorder("=") != np.float32:
        raise InputError(
            f"{what}: voxels of type {dtype} are not taken, only {DTYPES}. "
            "Convert the image to one of these, e.g. with numpy's astype('float32')."
        )
    return np.dtype(dtype.name)  # not "long long" either, which equals int64 but is unknown to zarr


def checked_axes(axes: str, ndim: int, what: object) -> str:
    """Return `axes` in capitals; raise InputError unless it names each of `ndim` axes once."""
    letters = axes.upper()
    if len(letters) != ndim or len(set(letters)) != ndim or not set(letters) <= set(AXES):
        raise InputError(
            f"{what}: axes must name each of the {ndim} axes of the array once, "
            f"with letters of {AXES}, got {axes!r}."
        )
    return letters


def standard_unit(unit: object) -> str | None:
    """Return the long name of a unit (``"µm"`` gives ``"micrometer"``), None if there is none."""
    if not isinstance(unit, str) or unit.strip().lower() in ("", "pixel", "pixels"):
        return None
    return _UNITS.get(unit.strip(), unit.strip())


def find_levels(attributes: dict[str, Any]) -> list[Level]:
    """Return the arrays of the first multiscale image in a group's attributes, finest first.

    Takes OME-Zarr 0.5 (below ``ome``) and 0.1 to 0.4 (at the top); empty if there is none.
    """
    ome = attributes.get("ome", attributes)
    images = ome.get("multiscales") if isinstance(ome, dict) else None
    if not isinstance(images, list) or not images or not isinstance(images[0], dict):
        return []
    datasets = images[0].get("datasets")
    channels = ome.get("omero")
    return [
        _level(images[0], dataset, channels if isinstance(channels, dict) else None)
        for dataset in (datasets if isinstance(datasets, list) else [])
        if isinstance(dataset, dict) and isinstance(dataset.get("path"), str)
    ]


def _level(
    image: dict[str, Any], dataset: dict[str, Any], channels: dict[str, Any] | None
) -> Level:
    axes = image.get("axes")
    entries = axes if isinstance(axes, list) else []
    units = tuple(standard_unit(e.get("unit")) if isinstance(e, dict) else None for e in entries)
    scales, translations = _combined(
        [dataset.get("coordinateTransformations"), image.get("coordinateTransformations")],
        len(entries),
    )
    return Level(
        dataset=dataset["path"],
        axes="".join(_letter(entry) for entry in entries),
        units=units,
        scales=scales,
        translations=translations,
        name=str(image.get("name") or ""),
        channels=channels,
    )


def _letter(entry: object) -> str:
    """Return the letter of an axis: by its name, else by its type, else ``?``."""
    name = entry.get("name") if isinstance(entry, dict) else entry
    if isinstance(name, str) and len(name) == 1 and name.upper() in AXES:
        return name.upper()
    kind = entry.get("type") if isinstance(entry, dict) else None
    return {"time": "T", "channel": "C"}.get(str(kind), "?")


def _combined(lists: list[Any], ndim: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return scale and translation of several lists of transformations, applied in their order."""
    if ndim == 0:  # before version 0.3 there are no axes that they could belong to
        return (), ()
    scales, translations = np.ones(ndim), np.zeros(ndim)
    for entry in (entry for entries in lists if isinstance(entries, list) for entry in entries):
        kind = entry.get("type") if isinstance(entry, dict) else None
        if kind == "identity":
            continue
        try:
            numbers = np.array(entry[kind], dtype=float)
            usable = numbers.shape == (ndim,) and bool(np.isfinite(numbers).all())
        except (KeyError, TypeError, ValueError):
            usable = False
        if not usable or kind not in ("scale", "translation") or (kind == "scale" and 0 in numbers):
            logger.warning("coordinate transformation left out, it makes no sense: %s", entry)
        elif kind == "scale":
            scales, translations = scales * numbers, translations * numbers
        else:
            translations = translations + numbers
    return tuple(scales.tolist()), tuple(translations.tolist())


def ome_attributes(image: Description, zarr_format: int) -> dict[str, Any]:
    """Return the OME metadata of a group with one level ``"0"`` of axes TCZYX.

    Parameters
    ----------
    image : Description
        What to write down; its dtype gives the contrast limits of channels that have none.
    zarr_format : int
        3: as OME-Zarr 0.5 has them, below ``ome``; 2: as OME-Zarr 0.4 has them, at the top.
    """
    ome: dict[str, Any] = {"multiscales": multiscales(image, (), zarr_format)}
    if image.channels is not None:
        ome["omero"] = complete_channels(image)
    return {"ome": {"version": "0.5", **ome}} if zarr_format == 3 else ome


def multiscales(
    image: Description, levels: Sequence[PyramidLevel], zarr_format: int
) -> list[dict[str, Any]]:
    """Return the metadata of an image of axes TCZYX and of the levels above it, finest first."""
    axes = [
        {"name": axis.lower(), "type": _TYPES[axis], **({"unit": unit} if unit else {})}
        for axis, unit in zip(AXES, image.units, strict=True)
    ]
    datasets = [_dataset(0, image.scales, image.translations)]
    for level in levels:
        scales = level.scales(image.scales)
        translations = level.translations(image.scales, image.translations)
        datasets.append(_dataset(level.number, scales, translations))
    found: dict[str, Any] = {"name": image.name, "axes": axes, "datasets": datasets}
    if levels:
        found["type"] = "mean"
    return [found if zarr_format == 3 else {"version": "0.4", **found}]


def _dataset(
    number: int, scales: tuple[float, ...], translations: tuple[float, ...] | None
) -> dict[str, Any]:
    transformations: list[dict[str, Any]] = [{"type": "scale", "scale": list(scales)}]
    if translations is not None:
        transformations.append({"type": "translation", "translation": list(translations)})
    return {"path": str(number), "coordinateTransformations": transformations}


def is_complete(channels: dict[str, Any], count: int, dtype: np.dtype[Any]) -> bool:
    """Tell whether ``omero`` metadata have all that OME-Zarr demands for each of `count` channels.

    Names, colours and contrast may be any: they are for the viewer, and for whoever edits them.
    """
    entries = channels.get("channels")
    wanted = _omero(channels, [_full_range(dtype)] * count)
    return isinstance(entries, list) and wanted["channels"] == entries


def complete_channels(
    image: Description, windows: Sequence[Window] | None = None
) -> dict[str, Any]:
    """Return the ``omero`` metadata of an image with all that OME-Zarr demands.

    Parameters
    ----------
    image : Description
        What its own channels say stays as it is.
    windows : sequence of dict, optional
        Contrast of each channel that has none; otherwise the range of the type.
    """
    default = [_full_range(image.dtype)] * image.shape[1]
    return _omero(image.channels or {}, default if windows is None else windows)


def has_windows(image: Description) -> bool:
    """Tell whether an image says itself with which contrast each channel is to be shown."""
    first, second = ([dict.fromkeys(_WINDOW, n)] * image.shape[1] for n in (0.0, 1.0))
    return complete_channels(image, first) == complete_channels(image, second)


def _full_range(dtype: np.dtype[Any]) -> Window:
    if dtype.kind == "f":
        low, high = 0.0, 1.0
    else:
        low, high = float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)
    return {"min": low, "max": high, "start": low, "end": high}


def _omero(given: dict[str, Any], windows: Sequence[Window]) -> dict[str, Any]:
    """Return `given` with a complete entry for each channel, as OME-Zarr demands."""
    entries, count = given.get("channels"), len(windows)
    channels = [entry if isinstance(entry, dict) else {} for entry in entries or []][:count]
    channels += [{}] * (count - len(channels))
    kept = {key: given[key] for key in ("id", "name", "rdefs") if key in given}
    return kept | {"channels": [_channel(c, n, windows) for n, c in enumerate(channels)]}


def _channel(given: dict[str, Any], number: int, windows: Sequence[Window]) -> dict[str, Any]:
    window = dict(windows[number])
    limits = given.get("window")
    for key, value in (limits if isinstance(limits, dict) else {}).items():
        if key in window and isinstance(value, int | float) and math.isfinite(value):
            window[key] = value
    colour = str(given.get("color", "")).lstrip("#")
    if not re.fullmatch("[0-9A-Fa-f]{6}", colour):
        colour = "FFFFFF" if len(windows) == 1 else _COLOURS[number % len(_COLOURS)]
    defaults = {"label": f"channel {number}", "active": True}
    return defaults | given | {"color": colour, "window": window}
