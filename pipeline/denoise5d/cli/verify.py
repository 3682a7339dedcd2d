"""``denoise5d verify``."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from time import monotonic

import click
import numpy as np

from denoise5d.begun import BegunRun, open_begun
from denoise5d.cli.console import counter, duration, number, say, show_table, size, voxels
from denoise5d.cli.plan import yaml_argument
from denoise5d.config import load_config
from denoise5d.errors import StoppedEarlyError
from denoise5d.verify import (
    Place,
    Units,
    check_places,
    check_units,
    choose_places,
)

_MOST_PLACES = 10_000


@click.command(
    epilog="""\b
Example:
  denoise5d verify embryo.yaml
  denoise5d verify --places 100 embryo.yaml"""
)
@yaml_argument
@click.option(
    "--places",
    type=click.IntRange(0, _MOST_PLACES),
    default=8,
    show_default=True,
    metavar="N",
    help="Places to compute anew, others each time.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was checked as JSON.")
def verify(yaml: Path, places: int, as_json: bool) -> None:
    """Check the output: every file, and places computed anew.

    Every file of every block that is done is decoded and compared with its checksum in the ledger.
    Small boxes, most of them where blocks meet, are computed anew from the input alone and must be
    the same bit for bit; with an approximate halo, whole blocks. The metadata must be those that
    the run wrote. Nothing is written.

    Exits with 0 if the run is done and all is right; with 3 at the first doubt, which names file,
    block and voxels, and says what to do; with 75 if what is done is right but some blocks are
    left; with 2 if there is nothing to compare with, as before a run, or after an edit of the YAML.

    \b
    Keys of --json:
      output                          path
      blocks, blocks_done             of the run; that were checked
      units, voxel_bytes              files' worth of voxels, and their bytes, decoded
      places, place_voxels            computed anew: how many, and voxels compared
      unit_seconds, place_seconds     that both checks took
    """  # noqa: D301  \b is click's: do not wrap
    run = open_begun(load_config(yaml))
    begin = monotonic()
    with counter("blocks") as advance:
        units = check_units(run, advance)
    between = monotonic()
    chosen = choose_places(run, places, np.random.default_rng())
    with counter("places") as advance:
        compared = check_places(run, chosen, advance)
    seconds = (between - begin, monotonic() - between)
    if as_json:
        say(json.dumps(_json(run, units, chosen, compared, seconds), indent=2))
    else:
        show_table(f"Verified: {run.output.path}", _rows(run, units, chosen, compared, seconds))
    left = run.ledger.blocks - units.blocks
    if left:
        raise StoppedEarlyError(
            f"what is done is right, but {left} of {number(run.ledger.blocks, 'block')} are not "
            f"done: `denoise5d run` goes on"
        )


def _rows(
    run: BegunRun, units: Units, chosen: list[Place], compared: int, seconds: tuple[float, float]
) -> list[tuple[str, str]]:
    kinds = Counter(place.kind for place in chosen)
    which = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    read, computed = (duration(value) for value in seconds)
    anew = f"{len(chosen)} computed anew ({which}), {voxels(compared)}: the same bits"
    return [
        ("metadata", "as the run wrote them"),
        ("blocks", f"{units.blocks} of {run.ledger.blocks} done"),
        ("write units", f"{units.units}, {size(units.voxel_bytes)} decoded: checksums right"),
        ("places", anew if chosen else "none"),
        ("time", f"{read} for write units, {computed} for places"),
    ]


def _json(
    run: BegunRun, units: Units, chosen: list[Place], compared: int, seconds: tuple[float, float]
) -> dict[str, object]:
    return {
        "output": str(run.output.path),
        "blocks": run.ledger.blocks,
        "blocks_done": units.blocks,
        "units": units.units,
        "voxel_bytes": units.voxel_bytes,
        "places": len(chosen),
        "place_voxels": compared,
        "unit_seconds": round(seconds[0], 3),
        "place_seconds": round(seconds[1], 3),
    }
