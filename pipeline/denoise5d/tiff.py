"""A TIFF, OME-TIFF or ImageJ file as a stack of planes, and what it says about itself.

Planes are read one at a time. tifffile reports damage partly by exceptions of all kinds, partly in
its log, going on with the pages that it finds; here both end in an InputError.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import inf, prod
from pathlib import Path
from typing import Any, TypeAlias
from xml.etree import ElementTree

import numpy as np
import tifffile
from numpy.typing import NDArray

from denoise5d.errors import InputError
from denoise5d.geometry import AXES, as_index
from denoise5d.store import Description, checked_axes, native_dtype, standard_unit

logger = logging.getLogger(__name__)

Sizes: TypeAlias = dict[str, tuple[float, str | None]]
"""Voxel size and unit by axis."""


@dataclass(frozen=True, slots=True)
class Stack:
    """The planes of one image of an open TIFF.

    Attributes
    ----------
    source : Path
        The file.
    series : tifffile.TiffPageSeries
        The image in it.
    axes : str
        Its axes from slowest to fastest, ending in YX.
    image : Description
        What the file says about it.
    """

    source: Path
    series: tifffile.TiffPageSeries
    axes: str
    image: Description

    def plane(self, t: int, c: int, z: int) -> NDArray[Any]:
        """Return a plane of Y and X; raise InputError if its page is missing or damaged."""
        position = {"T": t, "C": c, "Z": z}
        number = 0
        for axis, length in zip(self.axes[:-2], self.series.shape, strict=False):
            number = number * length + position[axis]
        try:
            return self._read(number)
        except MemoryError:
            raise
        except Exception as error:  # decoders raise whatever they like
            if isinstance(error, ImportError) or "imagecodecs" in str(error):
                codec = tifffile.COMPRESSION(self.series.keyframe.compression).name
                raise InputError(
                    f"{self.source} is compressed with {codec}, which needs the package "
                    "imagecodecs: pip install imagecodecs"
                ) from error
            raise InputError(
                f"{self.source}: page {number} (from 0) of {prod(self.image.shape[:3])} cannot be "
                f"read, the file is damaged or cut short: {error}"
            ) from error

    def _read(self, number: int) -> NDArray[Any]:
        shape, parent = self.image.shape[3:], self.series.parent
        offset = None if self.series.is_multifile else self.series.dataoffset
        if offset is not None and parent is not None:
            # one run of bytes: ImageJ writes stacks beyond 4 GiB with a single page
            dtype = self.series.dtype.newbyteorder(parent.byteorder)
            start = offset + number * prod(shape) * dtype.itemsize
            values = parent.filehandle.read_array(dtype, prod(shape), start)
            return np.asarray(values).reshape(shape)
        page = self.series[number]
        if page is None:
            raise ValueError("no file of it could be found")
        handle = page.parent.filehandle
        with ExitStack() as stack:
            if handle.closed:  # of another file of the same image
                handle.open()
                stack.callback(handle.close)
            segments = zip(page.dataoffsets, page.databytecounts, strict=True)
            if max(start + count for start, count in segments) > handle.size:
                raise ValueError("its data end beyond the file")
            return np.asarray(page.asarray()).reshape(shape)


@contextmanager
def open_stack(source: Path, *, axes: str | None, series: int | None) -> Iterator[Stack]:
    """Open one image of a TIFF.

    Parameters
    ----------
    source : Path
        The file; of an OME-TIFF of several files any one.
    axes : str or None
        The axes of the file from slowest to fastest; None takes what the file says.
    series : int or None
        Number of the image, from 0; None takes the only one.

    Raises
    ------
    InputError
        The file is damaged or of a kind that is not taken.
    """
    if not source.is_file():
        fault = "is a folder, give one TIFF" if source.exists() else "does not exist"
        raise InputError(f"{source} {fault}")
    with ExitStack() as stack, _complaints() as complaints:
        try:
            tif = stack.enter_context(tifffile.TiffFile(source))
            images, pages = list(tif.series), len(tif.pages)
        except OSError as error:
            raise InputError(f"{source} cannot be read: {error.strerror or error}") from error
        except Exception as error:  # tifffile meets damage anywhere in its parsers
            raise InputError(f"{source} is not a TIFF, or damaged: {error}") from error
        if complaints:  # tifffile goes on with the pages that it finds
            raise InputError(
                f"{source} is damaged or cut short, nothing can be found beyond page {pages - 1} "
                f"(from 0): {complaints[0]}"
            )
        number = _choose(source, images, series)
        letters = _axes(source, images[number], axes)
        yield Stack(source, images[number], letters, _describe(source, tif, number, letters))


@contextmanager
def _complaints() -> Iterator[list[str]]:
    """Collect the errors that tifffile logs instead of raising them."""
    found: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage())

    handler, logger = Collect(level=logging.ERROR), logging.getLogger("tifffile")
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)


def _choose(source: Path, images: list[tifffile.TiffPageSeries], series: int | None) -> int:
    """Return the number of the image: `series`, or that of the only one."""
    if not images:
        raise InputError(f"{source} holds no image")
    if series is None and len(images) == 1:
        return 0
    if series is None or not 0 <= series < len(images):
        listed = "; ".join(
            f"{number}: {image.name or 'unnamed'} {image.axes} {image.shape} {image.dtype}"
            for number, image in enumerate(images)
        )
        got = "" if series is None else f", got {series}"
        raise InputError(
            f"{source} holds {len(images)} images, choose one by series{got}. {listed}"
        )
    return series


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
            f"{''.join(sorted(set(found) - set(AXES)))} is. Give axes, e.g. TYX or ZYX."
        )
    letters = checked_axes(axes or found, len(found), f"{source} (axes {found}, shape {lengths})")
    if not letters.endswith("YX"):
        raise InputError(f"{source}: axes must end in YX, a page is a plane; got {letters}")
    if series.transform is not None or (
        series.dataoffset is None and len(series) != prod(lengths[:-2])
    ):
        raise InputError(f"{source}: its pages are no planes of YX; save it as OME-TIFF first")
    return letters


def _describe(source: Path, tif: tifffile.TiffFile, number: int, axes: str) -> Description:
    """Return what the file says about an image, with the units and sizes that make sense."""
    series = tif.series[number]
    lengths = dict(zip(axes, series.shape, strict=True))
    sizes: Sizes = {}
    names: list[str | None] = []
    try:
        if tif.is_ome and tif.ome_metadata:
            sizes, names = _from_ome(tif.ome_metadata, number)
        elif tif.is_imagej:
            sizes = _from_imagej(tif)
    except (ElementTree.ParseError, ValueError) as error:
        logger.warning("%s: voxel sizes and names are left out: %s", source, error)
    known = {axis: size for axis, size in sizes.items() if 0 < size[0] < inf}
    channels = [{"label": name} if name else {} for name in names]
    return Description(
        name=source.name.split(".")[0],
        shape=as_index([lengths.get(axis, 1) for axis in AXES]),
        dtype=native_dtype(np.dtype(series.dtype), source),
        scales=tuple(known[axis][0] if axis in known else 1.0 for axis in AXES),
        units=tuple(standard_unit(known[axis][1]) if axis in known else None for axis in AXES),
        channels={"channels": channels} if len(names) == lengths.get("C", 1) else None,
    )


def _from_ome(xml: str, number: int) -> tuple[Sizes, list[str | None]]:
    """Return size and unit by axis and the channels' names of one image of OME-XML."""
    images = [e for e in ElementTree.fromstring(xml).iter() if e.tag.endswith("}Image")]
    pixels = [
        e for e in (images[number] if number < len(images) else []) if e.tag.endswith("}Pixels")
    ]
    if not pixels:
        return {}, []
    found = pixels[0].attrib
    keys = {axis: (f"PhysicalSize{axis}", "µm") for axis in "ZYX"} | {"T": ("TimeIncrement", "s")}
    sizes: Sizes = {
        axis: (float(found[key]), found.get(f"{key}Unit", unit))
        for axis, (key, unit) in keys.items()
        if key in found
    }
    return sizes, [e.get("Name") for e in pixels[0] if e.tag.endswith("}Channel")]


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
