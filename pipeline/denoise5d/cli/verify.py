"""``denoise5d verify``."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
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
    check_levels,
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
    the same bit for bit; with an approximate halo, whole blocks. As many boxes of the pyramid are
    computed anew from the level below. The metadata must be those that the run wrote. Nothing is
    written.

    Exits with 0 if the run is done and all is right; with 3 at the first doubt, which names file,
    block and voxels, and says what to do; with 75 if what is done is right but some blocks are
    left; with 2 if there is nothing to compare with, as before a run, or after an edit of the YAML.

    \b
    Keys of --json:
      output                          path
      blocks, blocks_done             of the run; that were checked
      units, voxel_bytes              files' worth of voxels, and their bytes, decoded
      places, place_voxels            computed anew: how many, and voxels compared
      levels, level_blocks_done       of the pyramid: begun; blocks of all of them, checked
      level_boxes, level_voxels       computed anew from the level below
      unit_seconds, place_seconds     that both checks took
    """  # noqa: D301  \b is click's: do not wrap
    run = open_begun(load_config(yaml))
    rng = np.random.default_rng()
    begin = monotonic()
    with counter("blocks") as advance:
        units = check_units(run, advance)
    between = monotonic()
    chosen = choose_places(run, places, rng)
    with counter("places") as advance:
        compared = check_places(run, chosen, advance)
    with counter("boxes of the pyramid") as advance:
        boxes = check_levels(run, places, rng, advance)
    seconds = (between - begin, monotonic() - between)
    checked = _Checked(run, units, chosen, compared, boxes, seconds)
    if as_json:
        say(json.dumps(_json(checked), indent=2))
    else:
        show_table(f"Verified: {run.output.path}", _rows(checked))
    _judge(run)


@dataclass(frozen=True, slots=True)
class _Checked:
    run: BegunRun
    units: Units
    places: list[Place]
    voxels: int  # compared in places
    boxes: tuple[int, int]  # of the pyramid, and their voxels
    seconds: tuple[float, float]  # for units, and for places and boxes


def _judge(run: BegunRun) -> None:
    """Raise what a run amounts to that is right so far, and not done."""
    left = run.ledger.blocks - run.ledger.done_count
    if left:
        raise StoppedEarlyError(
            f"what is done is right, but {left} of {number(run.ledger.blocks, 'block')} are not "
            f"done: `denoise5d run` goes on"
        )
    unnamed = run.job.config.output.pyramid and run.named < len(run.job.plan.levels)
    if run.left or unnamed:
        raise StoppedEarlyError(
            f"what is done is right, but the pyramid is not complete, with "
            f"{number(run.left, 'block')} left: `denoise5d run` goes on"
        )


def _rows(checked: _Checked) -> list[tuple[str, str]]:
    run, units, chosen = checked.run, checked.units, checked.places
    kinds = Counter(place.kind for place in chosen)
    which = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    read, computed = (duration(value) for value in checked.seconds)
    same = f"{voxels(checked.voxels)}: the same bits"
    rows = [
        ("metadata", "as the run wrote them"),
        ("blocks", f"{units.blocks} of {run.ledger.blocks} done"),
        ("write units", f"{units.units}, {size(units.voxel_bytes)} decoded: checksums right"),
        ("places", f"{len(chosen)} computed anew ({which}), {same}" if chosen else "none"),
    ]
    if run.levels:
        boxes, compared = checked.boxes
        blocks = f"{number(units.level_blocks, 'block')} of {number(len(run.levels), 'level')}"
        anew = f"; {boxes} boxes computed anew, {voxels(compared)}: the same bits" if boxes else ""
        rows.append(("pyramid", blocks + anew))
    return [*rows, ("time", f"{read} for write units, {computed} for places")]


def _json(checked: _Checked) -> dict[str, object]:
    run, units = checked.run, checked.units
    return {
        "output": str(run.output.path),
        "blocks": run.ledger.blocks,
        "blocks_done": units.blocks,
        "units": units.units,
        "voxel_bytes": units.voxel_bytes,
        "places": len(checked.places),
        "place_voxels": checked.voxels,
        "levels": len(run.levels),
        "level_blocks_done": units.level_blocks,
        "level_boxes": checked.boxes[0],
        "level_voxels": checked.boxes[1],
        "unit_seconds": round(checked.seconds[0], 3),
        "place_seconds": round(checked.seconds[1], 3),
    }
