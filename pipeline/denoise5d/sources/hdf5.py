"""HDF5: one dataset as an image; what the files of BigDataViewer and Imaris share with it.

h5py lets one thread of a process read at a time. A chunk that was never written is zero.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from denoise5d.errors import InputError
from denoise5d.geometry import AXES, Box, as_index
from denoise5d.sources.description import Sizes, image_info
from denoise5d.sources.readers import reader
from denoise5d.store import Image, ImageInfo, checked_axes

_LISTED = 12


class Hdf5Image(Image):
    """An image of an open HDF5 file, in one dataset, or in one for each time point and channel.

    Parameters
    ----------
    info : ImageInfo
        What is known of it.
    file : h5py.File
        The open file, which the image closes.
    axes : str
        Of a dataset, from slowest to fastest.
    name : callable
        Gives the path of the dataset that has a time point and channel.
    """

    def __init__(
        self, info: ImageInfo, file: Any, axes: str, name: Callable[[int, int], str]
    ) -> None:
        super().__init__(info, file.close)
        self._file = file
        self._axes = axes
        self._name = name

    @property
    def files(self) -> Sequence[Path]:
        """What was given, and the HDF5 itself."""
        return [self.info.path, Path(self._file.filename)]

    def read_into(self, box: Box, out: NDArray[Any]) -> None:
        """Fill an array with the voxels of a box."""
        order = [self._axes.index(axis) for axis in AXES if axis in self._axes]
        unit = list(box.shape)
        for axis in "TC" + self._axes[0]:  # a dataset at a time, and of it a layer of chunks
            number = AXES.index(axis)
            unit[number] = self.info.chunks[number]
        for part in box.tiles(as_index(unit)):
            name = self._name(part.start[0], part.start[1])
            region = tuple(part.slices[AXES.index(axis)] for axis in self._axes)
            inside = part.relative_to(box.start).slices
            there = [s if a in self._axes else s.start for a, s in zip(AXES, inside, strict=True)]
            out[tuple(there)] = self._values(name, region).transpose(order)

    def _values(self, name: str, region: tuple[slice, ...]) -> NDArray[Any]:
        try:
            values = np.asarray(self._file[name][region])
        except MemoryError:
            raise
        except Exception as error:  # h5py raises whatever it likes
            where = ", ".join(
                f"{axis} {s.start}:{s.stop}"
                for axis, s in zip(self._axes.lower(), region, strict=True)
            )
            raise InputError(
                f"{self.info.path}: the dataset {name} cannot be read at {where}: {error}. If it "
                "is compressed in a way of its own, pip install hdf5plugin; else it is damaged"
            ) from error
        if values.dtype.kind == "i" and self.info.dtype.kind == "u":
            return values.view(self.info.dtype)  # as BigDataViewer stores them
        return values


def open_file(source: Path) -> Any:
    """Open an HDF5 file to read, with the decoders of hdf5plugin if they are there."""
    h5py = reader("h5py", "hdf5", source)
    with suppress(InputError):  # few files need it, whose error says so
        reader("hdf5plugin", "hdf5", source)
    try:
        return h5py.File(source, "r", locking=False)  # many network file systems have no locks
    except OSError as error:
        raise InputError(f"{source} is no HDF5 file, damaged or cut short: {error}") from error


def chunks_of(array: Any, axes: str) -> Mapping[str, int]:
    """Return what is decoded at a time of a dataset, by axis; a plane where it has no chunks."""
    lengths = array.chunks or (*(1 for _ in array.shape[:-2]), *array.shape[-2:])
    return dict(zip(axes, lengths, strict=True))


def open_dataset(source: Path, file: Any, *, axes: str | None, dataset: str | None) -> Hdf5Image:
    """Open one dataset of an HDF5 file as an image.

    Parameters
    ----------
    source : Path
        The file.
    file : h5py.File
        The same, open.
    axes : str or None
        Of the dataset from slowest to fastest; None: as its ``axistags`` or labels say.
    dataset : str or None
        Its path; None: the only one with two axes or more.

    Raises
    ------
    InputError
        There is no such dataset, or nothing says what its axes are.
    """
    names = _names(file)
    listed = ", ".join(f"{n} {file[n].shape} {file[n].dtype}" for n in names[:_LISTED])
    more = ", ..." if len(names) > _LISTED else ""
    wanted = names[0] if dataset is None and len(names) == 1 else (dataset or "").strip("/")
    if wanted not in names:
        got = f", got {dataset}" if dataset else ""
        raise InputError(
            f"{source} is an HDF5 file: name its dataset by --dataset, or input.dataset in a YAML"
            f"{got}. It holds: {listed or 'no arrays'}{more}"
        )
    array = file[wanted]
    found = axes or _own_axes(array)
    if found is None:
        raise InputError(
            f"{source}: the dataset {wanted} has {array.ndim} axes of lengths {array.shape} and "
            "nothing says which ones. Give axes, e.g. ZYX or TYX: by --axes, or "
            "input.axes in a YAML."
        )
    letters = checked_axes(found, array.ndim, f"{source}/{wanted}")
    info = image_info(
        source,
        axes=letters,
        lengths=array.shape,
        dtype=array.dtype,
        chunks=chunks_of(array, letters),
        dataset=wanted,
        sizes=_element_size(array),
    )
    return Hdf5Image(info, file, letters, lambda _t, _c: wanted)


def _names(file: Any) -> list[str]:
    """Return the paths of all datasets that may be images."""
    found: list[str] = []

    def note(name: str, node: Any) -> None:
        if getattr(node, "ndim", 0) >= 2 and getattr(node.dtype, "kind", "") in "uif":
            found.append(name)

    file.visititems(note)
    return found


def _own_axes(array: Any) -> str | None:
    """Return the axes that a dataset names: by ilastik's tags, or by HDF5's labels."""
    tags = array.attrs.get("axistags")
    if tags is not None:
        try:
            return "".join(axis["key"] for axis in json.loads(tags)["axes"])
        except (ValueError, KeyError, TypeError):
            return None
    labels: Sequence[str] = [dimension.label for dimension in array.dims]
    return "".join(labels) if all(len(label) == 1 for label in labels) else None


def _element_size(array: Any) -> Sizes:
    """Return the voxel size that Fiji's HDF5 plug-in writes, in z, y and x."""
    values = np.ravel(array.attrs.get("element_size_um", ()))
    if len(values) != 3:
        return {}
    return {axis: (float(n), "micrometer") for axis, n in zip("ZYX", values, strict=True)}
