"""The ledgers of a pyramid's levels, one each, beside that of the run."""

from __future__ import annotations

import re
from pathlib import Path

from denoise5d.ledger import Ledger, run_folder
from denoise5d.levels import PyramidLevel

_NAME = re.compile(r"level-([1-9][0-9]*)\.jsonl")


def level_ledger(output: Path, level: int) -> Path:
    """Return the ledger of a level of the pyramid of `output`."""
    return run_folder(output) / f"level-{level}.jsonl"


def level_ledgers(output: Path) -> dict[int, Path]:
    """Return the ledgers of levels that there are, by the number of the level, in its order."""
    folder = run_folder(output)
    names = [_NAME.fullmatch(path.name) for path in folder.glob("level-*.jsonl")]
    numbers = sorted(int(name[1]) for name in names if name)
    return {number: level_ledger(output, number) for number in numbers}


def open_level_ledger(
    output: Path, level: PyramidLevel, *, read_only: bool = False
) -> Ledger | None:
    """Open the ledger of a level of the pyramid; None if there is none, or of another level."""
    path = level_ledger(output, level.number)
    if not path.exists():
        return None
    ledger = Ledger.open(path, read_only=read_only)
    same = all(ledger.header.get(key) == value for key, value in level.header.items())
    return ledger if same else None
