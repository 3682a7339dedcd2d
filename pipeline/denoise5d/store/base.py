"""What an image on disk can do, whatever its format: say what it is, and read a box."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from math import prod
from pathlib import Path
from typing import Any
from weakref import finalize

import numpy as np
from numpy.typing import NDArray

from denoise5d.geometry import Box, Index, as_index
from denoise5d.store.metadata import Description

_SAMPLES = 16
_SAMPLE_VOXELS = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageInfo(Description):
    """What is known of a stored image.

    Attributes
    ----------
    path : Path
        The path as it was given.
    dataset : str
        Path of the array below `path`, or number of the image in a file of several; empty if
        `path` is the image.
    axes : str
        The stored order of axes, e.g. ``"CZYX"``; missing ones have length 1 in `shape`.
    chunks : Index
        Shape of what is decoded at a time, in voxels, TCZYX: a chunk (the inner one of a sharded
        array), a tile, a strip, a plane.
    shards : Index or None
        Shape of a shard in voxels, TCZYX; None if there are no shards.
    zarr_format : int or None
        2 or 3; None for an image that is no Zarr.
    """

    path: Path
    dataset: str
    axes: str
    chunks: Index
    shards: Index | None = None
    zarr_format: int | None = None


class Image(ABC):
    """A stored image, seen as 5-D TCZYX whatever order of axes it is stored in.

    Several threads may read from it at a time. Processes open one each.

    Parameters
    ----------
    info : ImageInfo
        What is known of it.
    close : callable
        Closes its files: on `close`, or when nobody has the image any more.
    """

    def __init__(self, info: ImageInfo, close: Callable[[], object] = lambda: None) -> None:
        self.info = info
        self._closing = finalize(self, close)

    @property
    def files(self) -> Sequence[Path]:
        """The files that tell by size and time whether the image is still the same."""
        return [self.info.path]

    def read(self, box: Box) -> NDArray[Any]:
        """Return the voxels of a box.

        Parameters
        ----------
        box : Box
            Inside the image.

        Returns
        -------
        ndarray
            5-D TCZYX of ``box.shape``, C-contiguous, the image's dtype in native byte order.

        Raises
        ------
        InputError
            A file is damaged or cannot be read; the message names it.
        """
        if not Box.whole(self.info.shape).contains(box):
            raise ValueError(f"{box} is not inside the image of {self.info.shape}")
        values = np.empty(box.shape, self.info.dtype)
        self.read_into(box, values)
        return values

    @abstractmethod
    def read_into(self, box: Box, out: NDArray[Any]) -> None:
        """Fill an array that is there, 5-D TCZYX with any strides, with the voxels of a box.

        No second array of the size of the box is made: a worker has no memory for it.
        """

    def close(self) -> None:
        """Close the files; nothing can be read any more."""
        self._closing()

    def content_sample(self) -> str:
        """Return a hex digest of shape, dtype and at most 16 chunks spread over the image.

        Two images with different content have different digests unless all their differences lie
        outside the sample; decoded values count, not how they are stored.
        """
        info = self.info
        digest = blake2b(f"{info.shape} {info.dtype.name}".encode(), digest_size=16)
        counts = [-(-n // c) for n, c in zip(info.shape, info.chunks, strict=True)]
        total = prod(counts)
        for number in sorted({(2 * k + 1) * total // (2 * _SAMPLES) for k in range(_SAMPLES)}):
            cell = np.unravel_index(number, counts)
            start = [int(i) * c for i, c in zip(cell, info.chunks, strict=True)]
            lengths = _at_most(_SAMPLE_VOXELS, info.chunks)
            ends = zip(start, lengths, info.shape, strict=True)
            box = Box(as_index(start), as_index([min(a + b, n) for a, b, n in ends]))
            digest.update(self.read(box).data)
        return digest.hexdigest()


def _at_most(voxels: int, shape: Index) -> Index:
    """Return `shape` with its longest axes halved until it has at most so many voxels."""
    lengths = list(shape)
    while prod(lengths) > voxels:
        longest = lengths.index(max(lengths))
        lengths[longest] = -(-lengths[longest] // 2)
    return as_index(lengths)
