"""``denoise5d convert`` and ``schema``."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path

import click

from denoise5d.cli.console import counter, say, shape, voxels
from denoise5d.config import json_schema
from denoise5d.convert import convert as convert_file


@click.command(
    epilog="""\b
Example:
  denoise5d convert film.tif film.zarr --axes TYX
  denoise5d convert plate embryo.zarr --pattern 't{T}/img_c{C}_z{Z}.tif'
  denoise5d convert embryo.czi embryo.zarr --series 2"""
)
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--axes", help="Axes of the file from slowest to fastest, such as TZYX.")
@click.option(
    "--series", type=click.IntRange(min=0), help="Which image of a file with several, from 0."
)
@click.option("--dataset", help="Which array of a Zarr or HDF5, as a path inside it.")
@click.option(
    "--pattern",
    help="Names of the TIFFs in the folder SOURCE, with {T}, {C} and {Z} for their numbers.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Processes at the same time; by default up to 8, as CPUs, memory and image allow.",
)
@click.option("--overwrite", is_flag=True, help="Replace a store that denoise5d made.")
def convert(
    source: Path,
    target: Path,
    axes: str | None,
    series: int | None,
    dataset: str | None,
    pattern: str | None,
    workers: int | None,
    overwrite: bool,
) -> None:
    """Convert an image to the OME-Zarr that `run` reads.

    SOURCE is a TIFF, OME-TIFF or ImageJ stack, a folder of TIFFs, a CZI, ND2, LIF, HDF5, Imaris or
    BigDataViewer file, or a Zarr in another layout, of any size: docs/formats.md has what is kept
    of each. It is streamed, and --axes is needed only where it does not name its axes itself.
    TARGET appears when it is whole; if the conversion is interrupted, the same command goes on.
    """
    if series is not None and dataset is not None:
        raise click.UsageError("give --series or --dataset, not both")
    with counter("planes") as advance:
        image = convert_file(
            source / pattern if pattern else source,
            target,
            axes=axes,
            dataset=dataset if series is None else str(series),
            overwrite=overwrite,
            workers=workers,
            progress=advance,
        )
    say(f"{target}: {shape(image.shape)}; {image.dtype}, {voxels(prod(image.shape))}")


@click.command(
    epilog="""\b
Example:
  denoise5d schema > denoise5d.schema.json
and as the first line of the YAML:
  # yaml-language-server: $schema=denoise5d.schema.json"""
)
def schema() -> None:
    """Print the JSON schema of the YAML, for editors."""
    say(json.dumps(json_schema(), indent=2))
