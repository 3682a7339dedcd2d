"""Which format a path is of, and who opens it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from denoise5d.errors import InputError
from denoise5d.sources.tiff import open_tiff
from denoise5d.store import Image, open_image

Opener: TypeAlias = Callable[..., Image]

_MAGIC: dict[bytes, Opener] = {
    b"II*\0": open_tiff,
    b"MM\0*": open_tiff,
    b"II+\0": open_tiff,
    b"MM\0+": open_tiff,
}
_LONGEST = max(map(len, _MAGIC))


def open_source(path: Path, *, axes: str | None = None, dataset: str | None = None) -> Image:
    """Open an image of any format that is taken.

    Parameters
    ----------
    path : Path
        A file, or the folder of a Zarr.
    axes : str, optional
        The stored axes from slowest to fastest, letters of TCZYX; needed where nothing names them.
    dataset : str, optional
        Number of the image in a file of several, from 0; path of an array in a Zarr.

    Raises
    ------
    InputError
        There is no such image, or it is damaged or of a kind that is not taken.
    """
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
    if path.suffix.lower() in (".tif", ".tiff"):
        raise InputError(f"{path} is not a TIFF, or damaged: its first bytes are {start!r}")
    raise InputError(f"{path} is of no format that is known; docs/formats.md lists those that are")
