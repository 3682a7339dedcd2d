"""TIFF, OME-TIFF and ImageJ: boxes of one image, plane by plane, of each what the box touches.

What is decoded at a time is a tile or a strip; of planes that are not compressed only the rows of
the box are read. tifffile reports damage partly by exceptions of all kinds, partly in its log,
going on with the pages that it finds; here both end in an InputError.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil, prod
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from denoise5d.errors import InputError
from denoise5d.geometry import AXES, Box
from denoise5d.sources.description import image_info
from denoise5d.sources.tiff_metadata import checked_series, metadata
from denoise5d.store import Image, ImageInfo

_ROWS_VOXELS = 2**20
_NO_OWN_TABLES = (6, 7)  # JPEG, whose segments share tables


@dataclass(frozen=True, slots=True)
class _Run:
    """Voxels in one run of bytes, row by row, not compressed."""

    path: Path
    start: int
    dtype: np.dtype[Any]


@dataclass(frozen=True, slots=True)
class _Segments:
    """The tiles or strips of a plane."""

    page: tifffile.TiffPage | tifffile.TiffFrame
    shape: tuple[int, int]


class TiffImage(Image):
    """One image of an open TIFF; of an OME-TIFF of several files all of them.

    Parameters
    ----------
    info : ImageInfo
        What is known of it.
    tif : tifffile.TiffFile
        The open file, which the image closes.
    series : tifffile.TiffPageSeries
        The image in it.
    """

    def __init__(
        self, info: ImageInfo, tif: tifffile.TiffFile, series: tifffile.TiffPageSeries
    ) -> None:
        super().__init__(info, tif.close)
        self._series = series
        self._lock = Lock()  # tifffile moves one position in a file for all threads

    @property
    def is_multifile(self) -> bool:
        """Whether its planes are in several files."""
        return bool(self._series.is_multifile)

    def read_into(self, box: Box, out: NDArray[Any]) -> None:
        """Fill an array with the voxels of a box."""
        y, x = box.slices[3:]
        for inside in np.ndindex(box.shape[:3]):
            position = [a + i for a, i in zip(box.start, inside, strict=False)]
            self._read_plane(self._number(position), y, x, out[inside])

    def _number(self, position: Sequence[int]) -> int:
        """Return the number of the page of a place in T, C and Z."""
        number = 0
        for axis, length in zip(self.info.axes[:-2], self._series.shape, strict=False):
            number = number * length + position[AXES.index(axis)]
        return number

    def _read_plane(self, number: int, y: slice, x: slice, out: NDArray[Any]) -> None:
        try:
            found = self._find(number)
            if isinstance(found, _Run):
                _read_rows(found, self.info.shape[4], y, x, out)
            else:
                self._read_segments(found, y, x, out)
        except MemoryError:
            raise
        except Exception as error:  # decoders raise whatever they like
            raise self._unreadable(number, error) from error

    def _find(self, number: int) -> _Run | _Segments:
        """Return where a plane is."""
        series, plane = self._series, self.info.shape[3:]
        offset = None if series.is_multifile else series.dataoffset
        if offset is not None and series.parent is not None:
            # one run of bytes: ImageJ writes stacks beyond 4 GiB with a single page
            dtype = series.dtype.newbyteorder(series.parent.byteorder)
            start = offset + number * prod(plane) * dtype.itemsize
            return _Run(self.info.path, start, dtype)
        with self._lock:
            page = series[number]
        if page is None:
            raise ValueError("no file of it could be found")
        if page.is_memmappable and page.dtype is not None:
            dtype = page.dtype.newbyteorder(page.parent.byteorder)
            return _Run(Path(page.parent.filehandle.path), page.dataoffsets[0], dtype)
        return _Segments(page, _segment_shape(page.keyframe))

    def _read_segments(self, found: _Segments, y: slice, x: slice, out: NDArray[Any]) -> None:
        """Decode the tiles or strips that a box touches, and take from each what is inside."""
        page, (height, width) = found.page, found.shape
        across = ceil(self.info.shape[4] / width)
        options: dict[str, Any] = {}
        if page.keyframe.compression in _NO_OWN_TABLES:
            options = {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader}
        for row in range(y.start // height, ceil(y.stop / height)):
            for column in range(x.start // width, ceil(x.stop / width)):
                index = row * across + column
                data, _, _ = page.keyframe.decode(self._encoded(page, index), index, **options)
                top, left = row * height, column * width
                rows = slice(max(y.start, top), min(y.stop, top + height))
                columns = slice(max(x.start, left), min(x.stop, left + width))
                part = out[_moved(rows, y.start), _moved(columns, x.start)]
                if data is None:  # a segment that was left out
                    part[...] = page.keyframe.nodata
                else:
                    part[...] = data[0, _moved(rows, top), _moved(columns, left), 0]

    def _encoded(self, page: tifffile.TiffPage | tifffile.TiffFrame, index: int) -> bytes | None:
        """Return the bytes of a segment; None for one that was left out."""
        start, count = page.dataoffsets[index], page.databytecounts[index]
        if count == 0:
            return None
        handle = page.parent.filehandle
        with self._lock:
            closed = handle.closed  # of another file of the same image
            if closed:
                handle.open()
            try:
                if start + count > handle.size:
                    raise ValueError("its data end beyond the file")
                handle.seek(start)
                data: bytes = handle.read(count)
            finally:
                if closed:
                    handle.close()
        return data

    def _unreadable(self, number: int, error: Exception) -> InputError:
        source, planes = self.info.path, prod(self.info.shape[:3])
        if isinstance(error, ImportError) or "imagecodecs" in str(error):
            codec = tifffile.COMPRESSION(self._series.keyframe.compression).name
            return InputError(
                f"{source} is compressed with {codec}, which needs imagecodecs: "
                "pip install 'denoise5d[codecs]'"
            )
        return InputError(
            f"{source}: page {number} (from 0) of {planes} cannot be read, the file is damaged or "
            f"cut short: {error}"
        )


def open_tiff(source: Path, *, axes: str | None = None, dataset: str | None = None) -> TiffImage:
    """Open one image of a TIFF.

    Parameters
    ----------
    source : Path
        The file; of an OME-TIFF of several files any one.
    axes : str, optional
        The axes of the file from slowest to fastest; by default what the file says.
    dataset : str, optional
        Number of the image, from 0; by default the only one.

    Raises
    ------
    InputError
        The file is damaged or of a kind that is not taken.
    """
    with _complaints() as complaints:
        try:
            tif = tifffile.TiffFile(source)
        except OSError as error:
            raise InputError(f"{source} cannot be read: {error.strerror or error}") from error
        except Exception as error:  # tifffile meets damage anywhere in its parsers
            raise InputError(f"{source} is not a TIFF, or damaged: {error}") from error
        try:
            return _opened(source, tif, axes, dataset, complaints)
        except BaseException:
            tif.close()
            raise


def _opened(
    source: Path,
    tif: tifffile.TiffFile,
    axes: str | None,
    dataset: str | None,
    complaints: Sequence[str],
) -> TiffImage:
    try:
        images, pages = list(tif.series), len(tif.pages)
    except Exception as error:  # tifffile looks for the other pages only now
        raise InputError(f"{source} is not a TIFF, or damaged: {error}") from error
    if complaints:  # tifffile goes on with the pages that it finds
        raise InputError(
            f"{source} is damaged or cut short, nothing can be found beyond page {pages - 1} "
            f"(from 0): {complaints[0]}"
        )
    number, letters = checked_series(source, images, axes, dataset)
    series = images[number]
    known = metadata(source, tif, number)
    height, width = _decoded_at_a_time(series)
    info = image_info(
        source,
        axes=letters,
        lengths=series.shape,
        dtype=np.dtype(series.dtype),
        chunks={"Y": height, "X": width},
        dataset=str(number) if len(images) > 1 else "",
        sizes=known.sizes,
        labels=known.labels,
        colours=known.colours,
    )
    return TiffImage(info, tif, series)


def _decoded_at_a_time(series: tifffile.TiffPageSeries) -> tuple[int, int]:
    """Return the lengths in Y and X of a tile or strip, or of rows where any can be read alone."""
    page = series.keyframe
    if series.dataoffset is not None or page.is_memmappable:
        width = series.shape[-1]
        return max(1, _ROWS_VOXELS // max(1, width)), width
    return _segment_shape(page)


def _segment_shape(page: tifffile.TiffPage) -> tuple[int, int]:
    """Return the lengths in Y and X of a tile or a strip."""
    if page.is_tiled:
        return page.tilelength, page.tilewidth
    return min(page.rowsperstrip, page.imagelength), page.imagewidth


def _read_rows(run: _Run, width: int, y: slice, x: slice, out: NDArray[Any]) -> None:
    """Read rows in one piece; the caller's box may take a part of each."""
    rows, row_bytes = y.stop - y.start, width * run.dtype.itemsize
    values = np.empty((rows, width), run.dtype)
    buffer, done = values.view(np.uint8).reshape(-1).data, 0
    descriptor = os.open(run.path, os.O_RDONLY)
    try:
        while done < len(buffer):
            got = os.preadv(descriptor, [buffer[done:]], run.start + y.start * row_bytes + done)
            if got == 0:
                raise ValueError("its data end beyond the file")
            done += got
    finally:
        os.close(descriptor)
    out[...] = values[:, x]


def _moved(part: slice, origin: int) -> slice:
    return slice(part.start - origin, part.stop - origin)


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
