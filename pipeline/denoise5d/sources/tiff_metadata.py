"""What a TIFF, OME-TIFF or ImageJ file says about itself."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from xml.etree import ElementTree

import tifffile

from denoise5d.errors import InputError
from denoise5d.geometry import AXES
from denoise5d.sources.description import Sizes, chosen
from denoise5d.store import checked_axes, standard_unit

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Metadata:
    """Voxel sizes, and the names and colours of the channels, as far as a file gives them."""

    sizes: Sizes = field(default_factory=dict)
    labels: Sequence[str | None] = ()
    colours: Sequence[str | None] = ()


def checked_series(
    source: Path, images: list[tifffile.TiffPageSeries], axes: str | None, dataset: str | None
) -> tuple[int, str]:
    """Return the number of the image that is wanted, and its axes.

    Raises
    ------
    InputError
        If there is no such image, or if it is no grey-level stack of planes.
    """
    number = _choose(source, images, dataset)
    return number, _axes(source, images[number], axes)


def _choose(source: Path, images: list[tifffile.TiffPageSeries], dataset: str | None) -> int:
    if not images:
        raise InputError(f"{source} holds no image")
    words = [
        f"{image.name or 'unnamed'} {image.axes} {image.shape} {image.dtype}" for image in images
    ]
    return chosen(source, words, dataset)


def _axes(source: Path, series: tifffile.TiffPageSeries, axes: str | None) -> str:
    """Return the axes of an image, checked to be known ones and to be made of planes."""
    found, lengths = series.axes, series.shape
    if "S" in found:
        raise InputError(
            f"{source} is a colour image (axes {found}, shape {lengths}): save it as a grey-level "
            "stack with one plane for each channel."
        )
    if axes is None and not set(found) <= set(AXES):
        raise InputError(
            f"{source} has the axes {found} of lengths {lengths} and does not say what "
            f"{''.join(sorted(set(found) - set(AXES)))} is. Give axes, e.g. TYX or ZYX: by "
            "--axes, or input.axes in a YAML."
        )
    letters = checked_axes(axes or found, len(found), f"{source} (axes {found}, shape {lengths})")
    if not letters.endswith("YX"):
        raise InputError(f"{source}: axes must end in YX, a page is a plane; got {letters}")
    if series.transform is not None or (
        series.dataoffset is None and len(series) != prod(lengths[:-2])
    ):
        raise InputError(f"{source}: its pages are no planes of YX; save it as OME-TIFF first")
    return letters


def metadata(source: Path, tif: tifffile.TiffFile, number: int) -> Metadata:
    """Return what a file says about an image of it; what cannot be read is left out."""
    try:
        if tif.is_ome and tif.ome_metadata:
            return _from_ome(tif.ome_metadata, number)
        if tif.is_imagej:
            return Metadata(_from_imagej(tif))
    except (ElementTree.ParseError, ValueError) as error:
        logger.warning("%s: voxel sizes and names are left out: %s", source, error)
    return Metadata()


def _from_ome(xml: str, number: int) -> Metadata:
    """Return what OME-XML says of one image."""
    images = [e for e in ElementTree.fromstring(xml).iter() if e.tag.endswith("}Image")]
    pixels = [
        e for e in (images[number] if number < len(images) else []) if e.tag.endswith("}Pixels")
    ]
    if not pixels:
        return Metadata()
    found = pixels[0].attrib
    keys = {axis: (f"PhysicalSize{axis}", "µm") for axis in "ZYX"} | {"T": ("TimeIncrement", "s")}
    sizes: Sizes = {
        axis: (float(found[key]), found.get(f"{key}Unit", unit))
        for axis, (key, unit) in keys.items()
        if key in found
    }
    channels = [e for e in pixels[0] if e.tag.endswith("}Channel")]
    colours = [
        None if "Color" not in e.attrib else _colour(int(e.attrib["Color"])) for e in channels
    ]
    return Metadata(sizes, [e.get("Name") for e in channels], colours)


def _colour(number: int) -> str:
    """Return a colour of OME-XML, RGBA in one signed number, as ``RRGGBB``."""
    return f"{number & 0xFFFFFFFF:08X}"[:6]


def _from_imagej(tif: tifffile.TiffFile) -> Sizes:
    """Return size and unit by axis of an ImageJ stack."""
    found = tif.imagej_metadata or {}
    sizes: Sizes = {}
    unit = standard_unit(found.get("unit"))
    if unit is not None:
        for axis, name in (("X", "XResolution"), ("Y", "YResolution")):
            tag = tif.pages.first.tags.get(name)
            if tag is not None and tag.value[0] > 0:
                sizes[axis] = (tag.value[1] / tag.value[0], unit)
        if "spacing" in found:
            sizes["Z"] = (float(found["spacing"]), unit)
    if "finterval" in found:
        sizes["T"] = (float(found["finterval"]), found.get("tunit", "s"))
    return sizes
