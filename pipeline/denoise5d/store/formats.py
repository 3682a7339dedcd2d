"""How the two versions of OME-Zarr that are written lie on the disk.

::

    ome-zarr-0.5, Zarr v3                       ome-zarr-0.4, Zarr v2
    out.zarr/                                   out.zarr/
    ├── zarr.json       "ome", "denoise5d"      ├── .zgroup
    │                                           ├── .zattrs      "multiscales", "denoise5d"
    ├── 0/                                      ├── 0/
    │   ├── zarr.json   TCZYX, fill 0           │   ├── .zarray, .zattrs
    │   └── c/0/0/0/0/0                         │   └── 0/0/0/0/0
    └── 1/              a level of the pyramid  └── 1/
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import zarr
from numcodecs import Blosc  # type: ignore[import-untyped]
from zarr.codecs import ZstdCodec

from denoise5d.geometry import AXES

if TYPE_CHECKING:
    from denoise5d.layout import Layout, OutputFormat

_ZSTD_LEVEL = 3

METADATA_FILES: dict[OutputFormat, str] = {
    "ome-zarr-0.5": "zarr.json",
    "ome-zarr-0.4": ".zgroup, .zattrs and .zarray",
}
"""Names of the files of metadata, for messages."""


def found_format(path: Path) -> Literal[2, 3]:
    """Return the version of Zarr of the group at a path, which must be one."""
    return 3 if (path / "zarr.json").is_file() else 2


def array_file(zarr_format: int) -> str:
    """Return the name of the file without which a folder is no array of this version of Zarr."""
    return "zarr.json" if zarr_format == 3 else ".zarray"


def read_attributes(path: Path) -> dict[str, Any]:
    """Return the attributes of a group of either version.

    Raises
    ------
    OSError, ValueError, KeyError, TypeError
        If there is no group, or its metadata are damaged.
    """
    try:
        attributes = json.loads((path / "zarr.json").read_bytes())["attributes"]
    except FileNotFoundError:
        attributes = json.loads((path / ".zattrs").read_bytes())
    return dict(attributes)


def zarr_format_of(output_format: OutputFormat) -> Literal[2, 3]:
    """Return the version of Zarr that a version of OME-Zarr stands on."""
    return 3 if output_format == "ome-zarr-0.5" else 2


def create_array(
    group: zarr.Group, name: str, shape: tuple[int, ...], layout: Layout, dtype: np.dtype[Any]
) -> None:
    """Create an array of axes TCZYX in a group; what is not written is 0."""
    names = list(AXES.lower())
    options: dict[str, Any]
    if layout.format == "ome-zarr-0.5":
        options = {
            "shards": layout.shards,
            "compressors": ZstdCodec(level=_ZSTD_LEVEL, checksum=True),
            "dimension_names": names,
        }
    else:
        options = {
            # Blosc is what every reader of OME-Zarr 0.4 knows; Zstandard alone is younger than
            # many of them, and does less with 16 bits whose bytes are not sorted.
            "compressors": Blosc("zstd", _ZSTD_LEVEL, Blosc.SHUFFLE),
            "chunk_key_encoding": {"name": "v2", "separator": "/"},  # as OME-Zarr demands
            "attributes": {"_ARRAY_DIMENSIONS": names},  # what xarray looks for
        }
    group.create_array(
        name,
        shape=shape,
        dtype=np.dtype(dtype.name),
        chunks=layout.chunks,
        fill_value=0,
        **options,
    )
