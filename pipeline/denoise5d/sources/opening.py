"""Which format a path is of, and who opens it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from denoise5d.errors import InputError
from denoise5d.sources.bdv import open_bdv
from denoise5d.sources.czi import open_czi
from denoise5d.sources.hdf5 import open_dataset, open_file
from denoise5d.sources.imaris import is_imaris, open_imaris
from denoise5d.sources.lif import open_lif
from denoise5d.sources.nd2 import open_nd2
from denoise5d.sources.readers import closed_unless_good
from denoise5d.sources.tiff import open_tiff
from denoise5d.sources.tiff_series import has_series_inside, is_series, open_series
from denoise5d.store import Image, is_zarr, open_image

Opener: TypeAlias = Callable[..., Image]

_LONGEST = 1024  # an XML says what it is in its first lines


def open_source(path: Path, *, axes: str | None = None, dataset: str | None = None) -> Image:
    """Open an image of any format that is taken.

    Parameters
    ----------
    path : Path
        A file, the folder of a Zarr, a folder of TIFFs, or a pattern of their names.
    axes : str, optional
        The stored axes from slowest to fastest, letters of TCZYX; needed where nothing names them.
    dataset : str, optional
        Number of the image in a file of several, from 0; path of an array in a Zarr or an HDF5.

    Raises
    ------
    InputError
        There is no such image, or it is damaged or of a kind that is not taken.
    """
    if not is_zarr(path) and is_series(path):
        return open_series(path, axes=axes, dataset=dataset)
    if not is_zarr(path) and has_series_inside(path):
        raise InputError(
            f"{path} has TIFFs in folders within: convert them with a --pattern of their names, "
            "such as 't{T}/img_c{C}_z{Z}.tif'."
        )
    if not path.is_file():
        return open_image(path, axes=axes, dataset=dataset)
    try:
        with path.open("rb") as stream:
            start = stream.read(_LONGEST)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    for magic, opener in _MAGIC.items():
        if start.startswith(magic):
            return opener(path, axes=axes, dataset=dataset)
    if b"<SpimData" in start:
        return open_bdv(path, axes=axes, dataset=dataset)
    if path.suffix.lower() in _SUFFIXES:
        raise InputError(
            f"{path} is damaged, or no {_SUFFIXES[path.suffix.lower()]} in spite of its name: it "
            f"begins with {start[:8]!r}"
        )
    known = ", ".join(sorted(set(_SUFFIXES.values())))
    raise InputError(f"{path} is of no format that is known; these are Zarr, {known}")


def _open_hdf5(path: Path, *, axes: str | None, dataset: str | None) -> Image:
    """Open what an HDF5 file is: one of Imaris, of BigDataViewer, or any other."""
    file = open_file(path)
    with closed_unless_good(path, file.close):
        if is_imaris(file):
            return open_imaris(path, file, axes=axes, dataset=dataset)
        if "s00" in file and "t00000" in file:
            raise InputError(
                f"{path} is the data of a BigDataViewer image: give its XML, "
                f"{path.with_suffix('.xml').name}"
            )
        return open_dataset(path, file, axes=axes, dataset=dataset)


_MAGIC: dict[bytes, Opener] = {
    b"II*\0": open_tiff,
    b"MM\0*": open_tiff,
    b"II+\0": open_tiff,
    b"MM\0+": open_tiff,
    b"ZISRAWFILE": open_czi,
    b"\xda\xce\xbe\x0a": open_nd2,
    b"\x00\x00\x00\x0cjP  ": open_nd2,  # before 2010: frames of JPEG 2000
    b"\x70\x00\x00\x00": open_lif,
    b"\x89HDF\r\n\x1a\n": _open_hdf5,
}

_SUFFIXES = {
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".czi": "CZI",
    ".nd2": "ND2",
    ".lif": "LIF",
    ".h5": "HDF5",
    ".hdf5": "HDF5",
    ".ims": "Imaris",
    ".xml": "BigDataViewer",
}
