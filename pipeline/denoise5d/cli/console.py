"""Where the command prints to, and how numbers are written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

output = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)


def show_error(message: str) -> None:
    """Print an error on stderr, as it is: brackets in it are no mark-up."""
    errors.print(Text.assemble(("error: ", "bold red"), message))


def show_table(title: str, rows: Iterable[tuple[str, str]]) -> None:
    """Print names and values in two columns."""
    table = Table(title=title, title_justify="left", show_header=False, box=None, padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(Text(name), Text(value))
    output.print(table, soft_wrap=False)


@contextmanager
def counter(label: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on a terminal; give the function that says how many are done, and of how many."""
    with Progress(console=errors, disable=not errors.is_terminal) as progress:
        task = progress.add_task(label, total=None)

        def advance(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        yield advance


def gib(count: float) -> str:
    """Write bytes in GiB."""
    return f"{count / 2**30:.2f} GiB"


def voxels(count: float) -> str:
    """Write a number of voxels with a prefix, three digits: ``1.31 Mvoxel``."""
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= factor:
            return f"{count / factor:.3g} {prefix}voxel"
    return f"{count:.3g} voxel"


def duration(seconds: float) -> str:
    """Write a time span as ``h:mm:ss``; below ten seconds with a decimal."""
    return f"{seconds:.1f} s" if seconds < 10 else str(timedelta(seconds=round(seconds)))


def shape(lengths: Iterable[int]) -> str:
    """Write five lengths as ``T 17 · C 1 · Z 1501 · Y 2048 · X 1936``."""
    return " · ".join(f"{axis} {n}" for axis, n in zip("TCZYX", lengths, strict=True))
