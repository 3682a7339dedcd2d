"""Images on disk: reading Zarr and OME-Zarr, making and filling the output.

The only place that knows zarr. Outside of it an image is 5-D, TCZYX, in native byte order.
"""

from denoise5d.store.base import Image, ImageInfo
from denoise5d.store.disk import (
    check_target,
    free_bytes,
    free_files,
    is_ours,
    made_by_conversion,
    output_errors,
    publish,
    read_provenance,
    remove,
    staged,
)
from denoise5d.store.formats import METADATA_FILES, zarr_format_of
from denoise5d.store.image import is_zarr, listed_datasets, open_image
from denoise5d.store.metadata import (
    Description,
    Window,
    checked_axes,
    complete_channels,
    has_windows,
    is_complete,
    native_dtype,
    standard_unit,
)
from denoise5d.store.output import (
    Output,
    build_output,
    create_level,
    create_output,
    describe_channels,
    describe_levels,
    is_untouched,
    open_output,
)
from denoise5d.store.region import limit_threads
from denoise5d.store.values import checksum, convert_dtype

__all__ = [
    "METADATA_FILES",
    "Description",
    "Image",
    "ImageInfo",
    "Output",
    "Window",
    "build_output",
    "check_target",
    "checked_axes",
    "checksum",
    "complete_channels",
    "convert_dtype",
    "create_level",
    "create_output",
    "describe_channels",
    "describe_levels",
    "free_bytes",
    "free_files",
    "has_windows",
    "is_complete",
    "is_ours",
    "is_untouched",
    "is_zarr",
    "limit_threads",
    "listed_datasets",
    "made_by_conversion",
    "native_dtype",
    "open_image",
    "open_output",
    "output_errors",
    "publish",
    "read_provenance",
    "remove",
    "staged",
    "standard_unit",
    "zarr_format_of",
]
