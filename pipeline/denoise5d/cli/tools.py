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
  denoise5d convert film.tif film.zarr --axes TYX"""
)
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--axes", help="Axes of the file from slowest to fastest, such as TZYX.")
@click.option("--series", type=int, help="Which image of a file with several, from 0.")
@click.option("--overwrite", is_flag=True, help="Replace a store that denoise5d made.")
def convert(
    source: Path, target: Path, axes: str | None, series: int | None, overwrite: bool
) -> None:
    """Convert a TIFF to the OME-Zarr that `run` reads.

    SOURCE is a TIFF, OME-TIFF or ImageJ stack of any size; it is streamed, and --axes is needed
    only where it does not name its axes itself. TARGET is there as a whole at the end, or not at
    all.
    """
    with counter("planes") as advance:
        image = convert_file(
            source, target, axes=axes, series=series, overwrite=overwrite, progress=advance
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
