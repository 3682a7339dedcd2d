"""``denoise5d report``."""

from __future__ import annotations

import os
from pathlib import Path

import click

from denoise5d.cli.console import counter, say, show_table
from denoise5d.cli.plan import yaml_argument
from denoise5d.config import load_config
from denoise5d.errors import OutputError, RefusedError
from denoise5d.findings import finished_run, gather
from denoise5d.ledger import run_folder
from denoise5d.report import can_draw, write_report


def _html(_context: click.Context, _parameter: click.Parameter, path: Path | None) -> Path | None:
    if path is not None and path.suffix.lower() not in (".html", ".htm"):
        raise click.BadParameter(f"must end with .html, got {path.name}")
    if path is not None and not path.absolute().parent.is_dir():
        raise click.BadParameter(f"the folder of the report must exist, got {path.parent}")
    return path


@click.command(
    epilog="""\b
Example:
  denoise5d report embryo.yaml
  denoise5d report --output embryo.html embryo.yaml"""
)
@yaml_argument
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=_html,
    metavar="FILE",
    help="The page to write; by default report.html, beside the ledger of the run.",
)
def report(yaml: Path, output: Path | None) -> None:
    """Write a page that shows what was done, and how well.

    One HTML file that needs nothing else: before, after and residual at several places, grey
    levels, noise, statistics of the residual, a check for seams, and how the run went. However
    large the image, a few hundred small boxes of it are read.

    Exits with 75 if blocks of the image are left to do, with 2 if no run was begun or the YAML has
    changed since. The checks of the page are no exit code; `denoise5d verify` has one.
    """
    if not can_draw():
        raise RefusedError("a report needs matplotlib: pip install 'denoise5d[report]'")
    run = finished_run(load_config(yaml))
    path = output or run_folder(run.output.path) / "report.html"
    if not os.access(path.absolute().parent, os.W_OK):  # before minutes of work
        raise OutputError(
            f"the folder {path.parent} cannot be written: name a file elsewhere with --output"
        )
    with counter("looking") as look, counter("noise") as listen:
        findings = gather(run, look, listen)
    write_report(path, findings)
    show_table(
        f"Checks of {run.output.path}",
        [(f"{v.subject}", f"{v.grade.value}: {v.words}") for v in findings.verdicts],
    )
    say(f"\nReport: {path}")
