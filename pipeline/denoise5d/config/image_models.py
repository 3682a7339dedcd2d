"""The keys of the YAML on images: what is read, and what is written and how."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from denoise5d.config.fields import (
    AutoShape,
    AutoShards,
    Axes,
    DType,
    LocalPath,
    RuleBroken,
    Section,
    Shape,
    Text,
    broken_rules,
)
from denoise5d.layout import OutputFormat


class InputModel(Section):
    """The image to denoise."""

    path: LocalPath = Field(
        description="The image: an OME-Zarr 0.4 or 0.5 image or a plain Zarr array, 2-D to 5-D; or "
        "a file of another format that is read as it is, TIFF or CZI for example. "
        "A path that is not absolute starts at the folder of this YAML file.",
        examples=["embryo.zarr"],
    )
    axes: Axes | None = Field(
        default=None,
        description="What the axes of the array are, in its order: T time, C channel, Z depth, "
        "Y, X. Only needed if the image does not say so itself.",
        examples=["TZYX"],
    )
    shape: Shape | None = Field(
        default=None,
        description="Size of the image in voxels (T, C, Z, Y, X), 1 for an axis it lacks. Only to "
        "plan without having the image at hand; give dtype too.",
        examples=[[17, 1, 1501, 2048, 1936]],
    )
    dtype: DType | None = Field(
        default=None,
        description="Type of the grey values; cameras mostly give uint16. Goes with shape.",
        examples=["uint16"],
    )
    dataset: Text | None = Field(
        default=None,
        description="Which array of the store to take, as a path inside it; of a file with several "
        "images the number of one, from 0. Left out: the image in full resolution.",
        examples=["s1", "0"],
    )

    @model_validator(mode="after")
    def _shape_with_dtype(self) -> InputModel:
        if (self.shape is None) != (self.dtype is None):
            missing = "shape" if self.shape is None else "dtype"
            rule = "is missing, shape and dtype go together; give both or none"
            raise broken_rules([((missing,), rule)])
        return self


class OutputModel(Section):
    """The denoised image that is written."""

    path: LocalPath = Field(
        description="Where the denoised image goes: an OME-Zarr store. A path that is not "
        "absolute starts at the folder of this YAML file. Never the input itself.",
        examples=["embryo-denoised.zarr"],
    )
    format: OutputFormat = Field(
        default="ome-zarr-0.5",
        description="Version of OME-Zarr: 0.5 (Zarr v3), which bundles chunks in shards; or 0.4 "
        "(Zarr v2), which older programs read as well, and where each chunk is a file.",
        examples=["ome-zarr-0.5", "ome-zarr-0.4"],
    )
    dtype: Literal["same", "float32"] = Field(
        default="same",
        description="Type of the grey values: same as the input's (rounded, and cut off at the "
        "ends of its range), or float32, which keeps fractions and takes more disk.",
        examples=["same", "float32"],
    )
    chunks: AutoShape = Field(
        default="auto",
        description="Size in voxels (T, C, Z, Y, X) of the pieces that viewers load one by one.",
        examples=["auto", [1, 1, 64, 128, 128]],
    )
    shards: AutoShards = Field(
        default="auto",
        description="Size in voxels (T, C, Z, Y, X) of one file, which bundles many chunks, so "
        "that the image is not millions of files. A multiple of chunks. null: each chunk a file, "
        "as always with format: ome-zarr-0.4.",
        examples=["auto", None, [1, 1, 256, 512, 512]],
    )

    pyramid: bool = Field(
        default=True,
        description="Whether the image is also stored at half, a quarter ... of its resolution, so "
        "that viewers open it at once. Made when all blocks are done; may be changed at any time, "
        "also after the run: the same command then adds what is missing.",
        examples=[True, False],
    )

    @model_validator(mode="after")
    def _shards_that_there_can_be(self) -> OutputModel:
        if self.format == "ome-zarr-0.4" and isinstance(self.shards, tuple):
            rule = "must not stand beside format: ome-zarr-0.4, which has no shards"
            raise broken_rules([(("shards",), f"{rule}; remove one of the two")])
        if isinstance(self.chunks, tuple) and isinstance(self.shards, tuple):
            pairs = enumerate(zip(self.shards, self.chunks, strict=True))
            broken: list[RuleBroken] = [
                (("shards", i), f"must be a multiple of output.chunks[{i}], which is {chunk}")
                for i, (shard, chunk) in pairs
                if shard % chunk
            ]
            if broken:
                raise broken_rules(broken)
        return self
