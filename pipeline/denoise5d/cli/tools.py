"""``denoise5d convert``, ``schema`` and ``doctor``."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import click

from denoise5d.cli import console
from denoise5d.cli.console import gib, shape, show_table
from denoise5d.config import json_schema
from denoise5d.convert import convert as convert_file
from denoise5d.kernel import build_info, team_size
from denoise5d.machine import this_machine
from denoise5d.store import free_bytes


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--axes", help="Axes of the file from slowest to fastest, such as TZYX.")
@click.option("--series", type=int, help="Which image of a file with several, from 0.")
@click.option("--overwrite", is_flag=True, help="Replace a store that denoise5d made.")
def convert(
    source: Path, target: Path, axes: str | None, series: int | None, overwrite: bool
) -> None:
    """Convert a TIFF, OME-TIFF or ImageJ stack SOURCE to an OME-Zarr image TARGET."""
    with console.counter("planes") as advance:
        image = convert_file(
            source, target, axes=axes, series=series, overwrite=overwrite, progress=advance
        )
    console.output.print(f"{target}: {shape(image.shape)}, {image.dtype}")


@click.command()
def schema() -> None:
    """Print the JSON schema of the YAML, for editors that complete and check it."""
    click.echo(json.dumps(json_schema(), indent=2))


@click.command()
def doctor() -> None:
    """Say what this machine has, and what denoise5d makes of it."""
    machine = this_machine()
    info = build_info()
    team = team_size(machine.cpus)
    threads = f"{team}" if team == machine.cpus else f"{team} only: look at OMP_THREAD_LIMIT"
    sets = ", ".join(info["instruction_sets"])
    rows = [
        ("denoise5d", version("denoise5d")),
        ("Python", f"{platform.python_version()} on {platform.platform()}"),
        ("kernel", f"{info['compiler']}, {info['build_type']}, OpenMP {info['openmp'] or 'none'}"),
        ("instruction sets", f"{sets}; in use: {info['instruction_set']}"),
        ("processors", f"{machine.cpus}; threads the kernel gets: {threads}"),
        ("memory", gib(machine.memory_bytes)),
        ("free disk here", gib(free_bytes(Path.cwd()))),
    ]
    rows += [(name, version(name)) for name in ("numpy", "zarr", "dask", "distributed")]
    drawing = "installed" if find_spec("matplotlib") else "missing: pip install 'denoise5d[report]'"
    rows.append(("pictures", drawing))
    show_table("This machine", rows)
