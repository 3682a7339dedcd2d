"""Reading a region of a Zarr array so that damage is noticed, and named by its file.

By the rules of Zarr a chunk without a file holds the fill value. Three kinds of loss look the same
to zarr, or like data, and are caught here: a whole array that went away (an unmounted disk), an
empty shard file (what a crash of a machine leaves) and a Blosc chunk cut short (the codec does not
look at the length).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.buffer.cpu import NDBuffer
from zarr.codecs import BloscCodec

from denoise5d.errors import InputError
from denoise5d.store.formats import array_file

Selection: TypeAlias = tuple[slice, ...]
"""One slice with start and stop for every axis of the stored array."""

_BLOSC_HEADER = 16
_BLOSC_LENGTH = slice(12, 16)


def limit_threads(threads: int) -> None:
    """Let zarr of this process use at most `threads` threads and chunks at a time.

    To be called before the first array is read: zarr makes its threads once.
    """
    zarr.config.set({"threading.max_workers": threads, "async.concurrency": threads})


def read_region(
    array: zarr.Array[Any], folder: Path, selection: Selection, axes: str, out: NDArray[Any]
) -> None:
    """Read the values of a region into an array that is there.

    Parameters
    ----------
    array : zarr.Array
        The array, stored in `folder`.
    folder : Path
        The folder of the array itself.
    selection : tuple of slice
        Start and stop on each axis of the array.
    axes : str
        A letter for each of these axes, for messages.
    out : ndarray
        Of the selection's shape, with any strides, and of any type that can hold the values.

    Raises
    ------
    InputError
        A file cannot be read or decoded; the message names it and the voxels it holds.
    """
    try:
        _read(array, folder, selection, out)
    except MemoryError:
        raise
    except Exception as error:  # codecs raise whatever they like
        _blame(array, folder, selection, axes)
        raise InputError(
            f"{folder} could not be read at {_words(selection, axes)}: {error}"
        ) from error


def chunk_file(array: zarr.Array[Any], folder: Path, cell: tuple[int, ...]) -> Path:
    """Return the file of a chunk, or of a shard, from its place in the lattice of them."""
    return folder / array.metadata.encode_chunk_key(cell)


def _read(array: zarr.Array[Any], folder: Path, selection: Selection, out: NDArray[Any]) -> None:
    """Read a region; raise anything if a file of it is damaged."""
    if not (folder / array_file(array.metadata.zarr_format)).is_file():
        raise FileNotFoundError(f"the array {folder} is gone")
    sharded = array.shards is not None
    blosc = not sharded and any(_is_blosc(codec) for codec in array.compressors)
    if sharded or blosc:
        for file, _ in _files(array, folder, selection):
            _check_length(file, blosc=blosc)
    # Zarr decodes a chunk in memory of its own, but also all that is wanted of a shard.
    for part in _slabs(array, selection) if sharded else [selection]:
        inside = tuple(
            slice(p.start - s.start, p.stop - s.start) for p, s in zip(part, selection, strict=True)
        )
        array.get_basic_selection(part, out=NDBuffer.from_numpy_array(out[inside]))


def _is_blosc(codec: object) -> bool:
    """Tell whether a codec, of Zarr v2 or v3, is Blosc."""
    return isinstance(codec, BloscCodec) or getattr(codec, "codec_id", None) == "blosc"


def _check_length(file: Path, *, blosc: bool) -> None:
    try:
        with file.open("rb") as stream:
            header = stream.read(_BLOSC_HEADER)
            size = file.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return  # never written: the fill value
    if size == 0:
        raise ValueError("the file is empty")
    expected = int.from_bytes(header[_BLOSC_LENGTH], "little")
    if blosc and size != expected:
        raise ValueError(f"the file has {size} bytes, its header says {expected}")


def _blame(array: zarr.Array[Any], folder: Path, selection: Selection, axes: str) -> None:
    """Read the region file by file and raise an InputError for the first that fails."""
    for file, part in _files(array, folder, selection):
        try:
            _read(array, folder, part, np.empty([s.stop - s.start for s in part], array.dtype))
        except MemoryError:
            raise
        except Exception as error:  # codecs raise whatever they like
            raise InputError(
                f"{file} cannot be read ({_words(part, axes)}): {error}. "
                "If the file is damaged, copy or convert the image again."
            ) from error


def _files(
    array: zarr.Array[Any], folder: Path, selection: Selection
) -> Iterator[tuple[Path, Selection]]:
    """Yield each file that a region touches, with the part of the region that it holds."""
    for cell, part in _cells(array.shards or array.chunks, selection):
        yield chunk_file(array, folder, cell), part


def _slabs(array: zarr.Array[Any], selection: Selection) -> Iterator[Selection]:
    """Yield the parts of a region that lie in one shard each, one layer of chunks in it."""
    unit = list(array.shards or array.chunks)
    counts = [u // c for u, c in zip(unit, array.chunks, strict=True)]
    axis = next((i for i, count in enumerate(counts) if count > 1), 0)
    unit[axis] = array.chunks[axis]
    return (part for _, part in _cells(unit, selection))


def _cells(
    unit: Sequence[int], selection: Selection
) -> Iterator[tuple[tuple[int, ...], Selection]]:
    """Yield the cells of a lattice that a region touches, each with its part of the region."""
    cells = [range(s.start // u, -(-s.stop // u)) for s, u in zip(selection, unit, strict=True)]
    for cell in product(*cells):
        part = tuple(
            slice(max(s.start, c * u), min(s.stop, (c + 1) * u))
            for s, c, u in zip(selection, cell, unit, strict=True)
        )
        yield cell, part


def _words(selection: Selection, axes: str) -> str:
    pairs = zip(axes.lower(), selection, strict=True)
    return "voxels " + ", ".join(f"{axis} {s.start}:{s.stop}" for axis, s in pairs)
