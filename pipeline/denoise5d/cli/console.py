"""Where the command prints to, and how.

Results go to stdout, everything else (progress, log, errors) to stderr.
"""

from __future__ import annotations

import errno
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from shutil import get_terminal_size
from textwrap import wrap

import click
from rich.console import Console
from rich.progress import Progress
from rich.text import Text

# Given on, for the commands to have all they print with from here.
from denoise5d.quantities import clock as clock
from denoise5d.quantities import duration as duration
from denoise5d.quantities import grey_level as grey_level
from denoise5d.quantities import number as number
from denoise5d.quantities import shape as shape
from denoise5d.quantities import size as size
from denoise5d.quantities import voxels as voxels

errors = Console(stderr=True, highlight=False, soft_wrap=True)

_NARROWEST = 40


def say(text: str) -> None:
    """Print on stdout; do without a reader that has gone, as in ``denoise5d schema | head``."""
    try:
        click.echo(text)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def show_error(message: str) -> None:
    """Print an error on stderr, as it is: brackets in it are no mark-up."""
    errors.print(Text.assemble(("error: ", "bold red"), message))


def system_error_words(error: OSError) -> str:
    """Say what the operating system refused, and what to do about it."""
    advice = {
        errno.EACCES: "Change its permissions, or give another path.",
        errno.EPERM: "Change its permissions, or give another path.",
        errno.EROFS: "Give a path on a disk that can be written.",
        errno.ENOSPC: "Make space, then give the same command again.",
        errno.EDQUOT: "Make space, then give the same command again.",
    }
    what = error.filename or "the operating system refused"
    return f"{what}: {error.strerror or error}. {advice.get(error.errno or 0, '')}".rstrip()


def show_table(title: str, rows: Iterable[tuple[str, str]]) -> None:
    """Print names and values in two columns.

    On a terminal long values go on below their beginning; paths are never broken, so that they can
    be copied. Elsewhere a row is a line.
    """
    rows = list(rows)
    column = max(len(name) for name, _ in rows) + 4
    width = max(get_terminal_size().columns, _NARROWEST) if sys.stdout.isatty() else sys.maxsize
    lines = [title]
    for name, value in rows:
        parts = wrap(value, width - column, break_long_words=False, break_on_hyphens=False)
        first, *others = parts or [""]
        lines.append(click.style(f"  {name:{column - 2}}", bold=True) + first)
        lines += [" " * column + other for other in others]
    say("\n".join(lines))


def show_columns(head: Sequence[str] | None, rows: Sequence[Sequence[str]]) -> None:
    """Print rows of cells below each other: names on the left, all else on the right.

    Without a head there are two columns, both on the left.
    """
    lines = [*([head] if head else []), *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for row, (first, *others) in enumerate(lines):
        if head is None:
            text = f"{first:{widths[0]}}  {others[0]}"
        else:
            cells = (f"{cell:>{n}}" for cell, n in zip(others, widths[1:], strict=True))
            text = "  ".join([f"{first:{widths[0]}}", *cells])
        say("  " + (click.style(text, bold=True) if head and row == 0 else text))


@contextmanager
def counter(label: str) -> Iterator[Callable[[float, float], None]]:
    """Show a bar on a terminal; give the function that says how many are done, and of how many."""
    with Progress(console=errors, disable=not errors.is_terminal) as progress:
        task = progress.add_task(label, total=None)

        def advance(done: float, total: float) -> None:
            progress.update(task, completed=done, total=total)

        yield advance


def quoted(path: Path) -> str:
    """Write a path as a shell takes it, spaces and all."""
    return shlex.quote(str(path))
