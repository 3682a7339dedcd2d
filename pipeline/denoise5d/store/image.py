"""Reading images: plain Zarr arrays and OME-Zarr 0.4 and 0.5, with any order of axes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.errors import BaseZarrError

from denoise5d.errors import InputError
from denoise5d.geometry import AXES, NDIM, Box, Index, as_index
from denoise5d.store.base import Image, ImageInfo
from denoise5d.store.metadata import Level, checked_axes, find_levels, native_dtype
from denoise5d.store.region import read_region

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_LISTED = 12

Node: TypeAlias = "zarr.Array[Any] | zarr.Group"


class ZarrImage(Image):
    """An array of a Zarr store."""

    def __init__(self, info: ImageInfo, array: zarr.Array[Any], folder: Path) -> None:
        super().__init__(info)
        self._array = array
        self._folder = folder

    @property
    def files(self) -> Sequence[Path]:
        """The array's metadata."""
        return [self._folder / ("zarr.json" if self.info.zarr_format == 3 else ".zarray")]

    def read_into(self, box: Box, out: NDArray[Any]) -> None:
        """Fill an array with the voxels of a box."""
        axes = self.info.axes
        slices = dict(zip(AXES, box.slices, strict=True))
        known = out[tuple(slice(None) if axis in axes else 0 for axis in AXES)]
        kept = [axis for axis in AXES if axis in axes]
        stored = known.transpose([kept.index(axis) for axis in axes])  # as it is on the disk
        read_region(self._array, self._folder, tuple(slices[a] for a in axes), axes, stored)


def open_image(path: Path | str, *, axes: str | None = None, dataset: str | None = None) -> Image:
    """Open an image for reading.

    Parameters
    ----------
    path : Path
        Folder of a Zarr array, an OME-Zarr image, or a group that holds one.
    axes : str, optional
        The stored order of axes, letters of TCZYX; wins over the metadata.
    dataset : str, optional
        Path of an array or image below `path`, or number of a resolution level; by default the
        finest level.

    Raises
    ------
    InputError
        There is no such image, or it is of a kind that is not taken.
    """
    root = Path(path)
    try:
        array, folder, level = _find(root.absolute(), dataset)
    except OSError as error:
        raise InputError(f"{root} cannot be read: {error.strerror or error}") from error
    within = folder.relative_to(root.absolute()).as_posix()
    info = _info(root, "" if within == "." else within, array, level, axes)
    return ZarrImage(info, array, folder)


def listed_datasets(path: Path) -> list[str]:
    """Return the paths of the arrays that an image's metadata name, the finest first."""
    return [level.dataset for level in find_levels(dict(_open_node(path).attrs))]


def _find(root: Path, dataset: str | None) -> tuple[zarr.Array[Any], Path, Level | None]:
    """Return the array, its folder, and the level that describes it."""
    _check_folder(root)
    if not dataset:
        return _finest(root)
    folder = root / dataset
    if not is_zarr(folder):
        if dataset.isdecimal() and is_zarr(root):
            node = _open_node(root)
            levels = find_levels(dict(node.attrs)) if isinstance(node, zarr.Group) else []
            if int(dataset) < len(levels):
                return _finest(root / levels[int(dataset)].dataset)
        raise InputError(f"{root} has no array or image {dataset!r}. {_inventory(root)}")
    return _finest(folder)


def _finest(folder: Path) -> tuple[zarr.Array[Any], Path, Level | None]:
    """Return the array in `folder`, or the finest level of the image that `folder` is."""
    node = _open_node(folder)
    if isinstance(node, zarr.Array):
        return node, folder, _described_above(folder)
    levels = find_levels(dict(node.attrs))
    if not levels:
        raise InputError(
            f"{folder} is a Zarr group and no image: it has no multiscales metadata. "
            f"Name an array in it by input.dataset. {_inventory(folder)}"
        )
    inside = folder / levels[0].dataset
    array = _open_node(inside)
    if not isinstance(array, zarr.Array):
        raise InputError(f"{inside} must be an array, as {folder} says, and is a group")
    return array, inside, levels[0]


def _described_above(folder: Path) -> Level | None:
    """Return the description of an array by the image that it belongs to, if there is one."""
    for parent in folder.parents[:2]:
        with suppress(InputError, OSError):  # whatever lies around the array is not our concern
            node = _open_node(parent)
            for level in find_levels(dict(node.attrs)) if isinstance(node, zarr.Group) else []:
                if parent / level.dataset == folder:
                    return level
    return None


def _check_folder(path: Path) -> None:
    """Refuse what can be no Zarr, and say what it is."""
    if not path.exists():
        raise InputError(f"{path} does not exist")
    if path.is_dir():
        return
    with path.open("rb") as stream:
        start = stream.read(4)
    if start in _TIFF:
        raise InputError(
            f"{path} is a TIFF; make an OME-Zarr of it first: "
            f"denoise5d convert {path.name} {path.stem}.zarr"
        )
    if start[:2] == b"PK":
        raise InputError(f"{path} is a zip file; unpack it and give the folder")
    raise InputError(f"{path} is a file; an image must be the folder of a Zarr array or OME-Zarr")


def is_zarr(folder: Path) -> bool:
    """Tell whether a folder is a Zarr array or group."""
    return any((folder / name).is_file() for name in ("zarr.json", ".zarray", ".zgroup"))


def _open_node(folder: Path) -> Node:
    """Open a Zarr array or group; raise InputError if there is none or it makes no sense."""
    if not is_zarr(folder):
        raise InputError(
            f"{folder} is no Zarr: it has neither zarr.json nor .zarray nor .zgroup. "
            + (_inventory(folder) if folder.is_dir() else "")
        )
    try:
        if not (folder / "zarr.json").is_file():
            if (folder / ".zarray").is_file():
                return zarr.open_array(folder, mode="r", zarr_format=2)
            return zarr.open_group(folder, mode="r", zarr_format=2, use_consolidated=False)
        if json.loads((folder / "zarr.json").read_bytes())["node_type"] == "array":
            return zarr.open_array(folder, mode="r", zarr_format=3)
        return zarr.open_group(folder, mode="r", zarr_format=3, use_consolidated=False)
    except (BaseZarrError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{folder}: the Zarr metadata cannot be read: {error!r}") from error


def _inventory(folder: Path) -> str:
    """Return a sentence on the arrays and images below `folder`."""
    found = list(islice(_nodes(folder, folder), _LISTED + 1))
    names = ", ".join(found[:_LISTED]) + (", ..." if len(found) > _LISTED else "")
    return f"It holds: {names}." if found else "It holds no arrays."


def _nodes(folder: Path, root: Path) -> Iterator[str]:
    """Yield the paths of arrays and images below `folder`, not going inside either."""
    for inside in sorted(path for path in folder.iterdir() if path.is_dir()):
        if not is_zarr(inside):
            continue
        with suppress(InputError):  # only a list of what could be named
            node = _open_node(inside)
            if isinstance(node, zarr.Array) or find_levels(dict(node.attrs)):
                yield inside.relative_to(root).as_posix()
            else:
                yield from _nodes(inside, root)


def _info(
    path: Path, dataset: str, array: zarr.Array[Any], level: Level | None, axes: str | None
) -> ImageInfo:
    what = path / dataset
    dtype = native_dtype(np.dtype(array.dtype), what)
    if not 2 <= array.ndim <= NDIM or min(array.shape) < 1:
        raise InputError(f"{what} must have 2 to 5 axes of at least 1 voxel, got {array.shape}")
    order = _axes(array, level, axes, what)
    known = (
        {} if level is None else {a: i for i, a in enumerate(level.axes) if order[i : i + 1] == a}
    )

    def spread(values: tuple[Any, ...], default: Any) -> tuple[Any, ...]:
        return tuple(values[known[a]] if a in known else default for a in AXES)

    def lengths(values: tuple[int, ...]) -> Index:
        return as_index([values[order.index(a)] if a in order else 1 for a in AXES])

    translations = spread(level.translations, 0.0) if level else ()
    return ImageInfo(
        name=(level.name if level else "") or path.stem,
        shape=lengths(array.shape),
        dtype=dtype,
        scales=spread(level.scales if level else (), 1.0),
        units=spread(level.units if level else (), None),
        translations=translations if any(translations) else None,
        channels=level.channels if level else None,
        path=path,
        dataset=dataset,
        axes=order,
        chunks=lengths(array.chunks),
        shards=None if array.shards is None else lengths(array.shards),
        zarr_format=array.metadata.zarr_format,
    )


def _axes(array: zarr.Array[Any], level: Level | None, axes: str | None, what: Path) -> str:
    """Return the stored order of axes: as given, else from the metadata, else TCZYX if 5-D."""
    if axes is not None:
        return checked_axes(axes, array.ndim, what)
    if level is not None and level.axes:
        try:
            return checked_axes(level.axes, array.ndim, what)
        except InputError as error:
            raise InputError(
                f"{error} The metadata say so; give input.axes to correct them"
            ) from error
    names = array.metadata.dimension_names if array.metadata.zarr_format == 3 else None
    with suppress(InputError):  # names of dimensions may be anything: then they are no axes
        return checked_axes("".join(name or "?" for name in names or ()), array.ndim, what)
    if array.ndim == NDIM:
        return AXES
    raise InputError(
        f"{what} has {array.ndim} axes of lengths {array.shape} and nothing says which ones. "
        "Give input.axes, e.g. ZYX or TYX."
    )
