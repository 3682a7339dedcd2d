"""The output: an OME-Zarr image that is complete from the start and filled unit by unit.

A *write unit* is what one file holds: a shard, or a chunk where there are no shards. Metadata are
written into a folder beside the target, synced and renamed, so that a store under its final name
is always whole. Levels of a pyramid come later: the metadata name one once it is complete.
`denoise5d.store.formats` shows what is inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numpy.typing import NDArray

from denoise5d.errors import InputError, OutputError
from denoise5d.geometry import AXES, NDIM, Box, as_index
from denoise5d.store.disk import flush, is_ours, output_errors, remove, staged
from denoise5d.store.formats import create_array, found_format, zarr_format_of
from denoise5d.store.metadata import PROVENANCE, Description, multiscales, ome_attributes
from denoise5d.store.region import chunk_file, read_region
from denoise5d.store.values import convert_dtype

if TYPE_CHECKING:
    from denoise5d.levels import PyramidLevel
    from denoise5d.plan import Layout

_IMAGE = "0"


class Output:
    """An array of an output store that is open for writing: the image, or a level of its pyramid.

    Attributes
    ----------
    path : Path
        Folder of the OME-Zarr image.
    shape : Index
        Shape of the image in voxels, TCZYX.
    dtype : numpy.dtype
        Type of a stored voxel.
    unit : Index
        Shape of a write unit; at the image's border they are cut.
    """

    def __init__(self, path: Path, array: zarr.Array[Any], level: int = 0) -> None:
        self.path = path
        self.shape = as_index(array.shape)
        self.dtype = np.dtype(array.dtype)
        self.unit = as_index(array.shards or array.chunks)
        self._array = array
        self._folder = path / str(level)

    def write_unit(self, box: Box, array: NDArray[Any]) -> None:
        """Write one write unit; what a killed attempt left of it is replaced.

        The file is flushed to the disk; `sync` does it for its name. Several threads may write
        units at the same time.

        Parameters
        ----------
        box : Box
            A cell of the lattice of write units, cut at the image's border.
        array : ndarray
            Of ``box.shape``; of the output's dtype, or float32 (rounded and clipped to it).

        Raises
        ------
        OutputError
            The file cannot be written: no space, no permission.
        ValueError
            `box` is no write unit, or `array` is of another shape or type, or not finite.
        """
        self._check_unit(box)
        if array.shape != box.shape:
            raise ValueError(f"array must have the shape {box.shape} of its box, got {array.shape}")
        stored = convert_dtype(array, self.dtype)
        file = self.file(box)
        with output_errors(file):
            for left_over in file.parent.glob(f"{file.name}.*.partial"):
                left_over.unlink(missing_ok=True)
            self._remove_damaged(box, file)
            self._array[box.slices] = stored
            flush(file)

    def read(self, box: Box) -> NDArray[Any]:
        """Return the stored voxels of a box, 5-D TCZYX; InputError if a file of it is damaged."""
        stored = np.empty(box.shape, self.dtype)
        read_region(self._array, self._folder, box.slices, AXES, stored)
        return stored

    def sync(self, box: Box) -> None:
        """Make all write units of a box survive a crash of the machine.

        The files are on the disk since `write_unit`. Flushed here are the folders above them up to
        the array's: a renamed file is found again only when its folder is on the disk too.

        Raises
        ------
        OutputError
            The disk reports an error.
        """
        folders: set[Path] = set()
        for unit in box.tiles(self.unit):
            file = self.file(unit)
            folders.update(file.parents[: len(file.relative_to(self._folder).parts)])
        with output_errors(self._folder):
            for folder in sorted(folders, reverse=True):  # the deepest first
                flush(folder)

    def file(self, unit: Box) -> Path:
        """Return the file of a write unit; one of zeros alone may have none."""
        cell = [a // u for a, u in zip(unit.start, self.unit, strict=True)]
        return chunk_file(self._array, self._folder, tuple(cell))

    def _remove_damaged(self, unit: Box, file: Path) -> None:
        """Remove an old file that is damaged: zarr reads a shard cut at the border to write it.

        A sound one stays until it is replaced. A worker that was taken for dead may write a block
        again which another has finished meanwhile: killed right here, it must not leave a hole.
        """
        try:
            if file.exists():
                self.read(unit)
        except InputError:
            file.unlink(missing_ok=True)

    def _check_unit(self, box: Box) -> None:
        corner = as_index([a - a % u for a, u in zip(box.start, self.unit, strict=True)])
        ends = zip(corner, self.unit, self.shape, strict=True)
        if box != Box(corner, as_index([min(a + u, n) for a, u, n in ends])):
            raise ValueError(
                f"a write unit must be a cell of the lattice {self.unit}, "
                f"cut at the border of the image {self.shape}, got {box}"
            )


def create_output(
    path: Path,
    image: Description,
    *,
    layout: Layout,
    dtype: np.dtype[Any],
    provenance: dict[str, Any],
    overwrite: bool = False,
) -> None:
    """Create an OME-Zarr image of zeros, 5-D TCZYX; its files come with `Output.write_unit`.

    Parameters
    ----------
    path : Path
        Folder to make; the folder above must exist.
    image : Description
        Shape, and the name, scales, units, translations and channels that are carried over.
    layout : Layout
        Version of OME-Zarr, shapes of chunks and shards in voxels.
    dtype : numpy.dtype
        Type of the stored voxels.
    provenance : dict
        Anything JSON can hold; goes into the attribute ``denoise5d``.
    overwrite : bool
        Replace a store at `path`, if it was made here.

    Raises
    ------
    OutputError
        `path` exists and must not be replaced, or cannot be made.
    """
    with staged(path, overwrite=overwrite) as folder:
        build_output(folder, image, layout=layout, dtype=dtype, provenance=provenance)


def build_output(
    path: Path,
    image: Description,
    *,
    layout: Layout,
    dtype: np.dtype[Any],
    provenance: dict[str, Any],
) -> None:
    """Write the metadata of an output straight into `path`; see `create_output`."""
    with output_errors(path):
        zarr_format = zarr_format_of(layout.format)
        attributes = ome_attributes(image, zarr_format) | {PROVENANCE: provenance}
        group = zarr.create_group(path, attributes=attributes, zarr_format=zarr_format)
        create_array(group, _IMAGE, image.shape, layout, dtype)


def create_level(path: Path, level: PyramidLevel, dtype: np.dtype[Any]) -> None:
    """Create the array of a level, of zeros; what there was under its name is removed.

    No metadata of the image name it: `describe_levels` does, when it is complete.

    Parameters
    ----------
    path : Path
        A store that `create_output` made.
    level : PyramidLevel
        Number, shape and layout.
    dtype : numpy.dtype
        Of the image.

    Raises
    ------
    OutputError
        It cannot be made.
    """
    folder = path / str(level.number)
    with output_errors(folder):
        remove(folder)
        group = zarr.open_group(path, mode="r+", use_consolidated=False)
        create_array(group, folder.name, level.shape, level.layout, dtype)
        for made in (*folder.iterdir(), folder, path):
            flush(made)


def is_untouched(path: Path) -> bool:
    """Tell whether `path` was made by `create_output` and no voxel has been written since."""
    return is_ours(path) and not any(inside.is_dir() for inside in (path / _IMAGE).glob("*"))


def describe_levels(path: Path, image: Description, levels: Sequence[PyramidLevel]) -> None:
    """Name these levels, and no others, in the metadata of an output: whole, or not at all."""
    _describe(path, "multiscales", multiscales(image, levels, found_format(path)))


def describe_channels(path: Path, channels: dict[str, Any]) -> None:
    """Write the ``omero`` metadata of an output anew: contrast may be known only at the end."""
    _describe(path, "omero", channels)


def _describe(path: Path, key: str, value: Any) -> None:
    """Replace a part of the OME metadata in one step, unless it is so already."""
    with output_errors(path):
        group = zarr.open_group(path, mode="r+", use_consolidated=False)
        attributes: Any = group.attrs.asdict()
        ome = attributes.get("ome", attributes)  # of OME-Zarr 0.4 they are at the top
        if ome.get(key) != value:
            group.attrs.update({key: value} if ome is attributes else {"ome": ome | {key: value}})
            for inside in (*path.glob("*"), path):
                flush(inside)


def open_output(path: Path, level: int = 0) -> Output:
    """Open a store that `create_output` made, or a level in it; OutputError for anything else."""
    if not is_ours(path):
        raise OutputError(f"{path} is not an output of denoise5d: no attribute {PROVENANCE!r}")
    try:
        array = zarr.open_array(path / str(level), mode="r+", zarr_format=found_format(path))
    except (OSError, ValueError, KeyError) as error:
        raise OutputError(
            f"{path} cannot be opened: {error}. If it is incomplete, start anew "
            f"with `denoise5d run --overwrite`."
        ) from error
    if array.ndim != NDIM:
        raise OutputError(f"{path} must hold an array of axes TCZYX, got {array.ndim} axes")
    return Output(path, array, level)
