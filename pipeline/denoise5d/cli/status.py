"""``denoise5d status``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from denoise5d.cli.console import duration, gib, show_table, voxels
from denoise5d.cli.run import yaml_argument
from denoise5d.config import load_config
from denoise5d.status import Status, read_status


@click.command()
@yaml_argument
@click.option("--json", "as_json", is_flag=True, help="Print the status as JSON.")
def status(yaml: Path, as_json: bool) -> None:
    """Say how far a run has come: while it runs, after a crash, and when it is done."""
    found = read_status(load_config(yaml).output.path)
    if as_json:
        click.echo(json.dumps(asdict(found), indent=2))
    else:
        show_table(f"Status of {yaml}", _rows(found))


def _rows(found: Status) -> list[tuple[str, str]]:
    rows = [("output", found.output), ("state", _state_words(found))]
    if found.state == "not begun":
        return rows
    share = 100 * found.voxels_done / found.voxels
    rows += [
        ("blocks", f"{found.blocks_done} of {found.blocks} done ({share:.1f} % of the voxels)"),
        ("voxels", f"{voxels(found.voxels_done)} of {voxels(found.voxels)}"),
    ]
    if found.voxels_per_second:
        rows.append(("rate", f"{voxels(found.voxels_per_second)}/s over the last blocks"))
    if found.seconds_left is not None:
        rows.append(("time left", duration(found.seconds_left)))
    if found.blocks_done:
        rows += [
            (
                "workers' time",
                f"read {duration(found.read_seconds)}, kernel {duration(found.kernel_seconds)}, "
                f"write {duration(found.write_seconds)}, verify {duration(found.verify_seconds)}",
            ),
            ("peak memory", f"{gib(found.peak_bytes)} a worker"),
            ("retried", f"{found.retried} blocks"),
        ]
    return rows


def _state_words(found: Status) -> str:
    if found.state == "running":
        return f"running: {found.owner}"
    if found.state == "stopped":
        return "stopped: `denoise5d run` with the same YAML goes on"
    return found.state
