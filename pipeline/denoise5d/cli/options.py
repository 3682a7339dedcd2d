"""What options of several commands have in common."""

from __future__ import annotations

from pathlib import Path

import click

_PICTURES = (".png", ".svg", ".pdf")


def picture_path(
    _context: click.Context, _parameter: click.Parameter, path: Path | None
) -> Path | None:
    """Check the name of a picture before anything is read."""
    if path is None:
        return None
    if path.suffix.lower() not in _PICTURES:
        raise click.BadParameter(f"must end with {', '.join(_PICTURES)}, got {path.name}")
    if not path.absolute().parent.is_dir():
        raise click.BadParameter(f"the folder of the picture must exist, got {path.parent}")
    return path
