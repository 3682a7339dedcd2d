"""Runs a page of the documents like a notebook: its code in order, its output compared or renewed.

``python tests/page.py`` runs docs/python.md, writes the output that its code gives into it, and
puts the pictures that it makes beside it. Look at both before you commit them.

A block of Python shares its names with those before it. What it prints is in the block of text
that follows it. Lines of a console that begin with ``$ denoise5d`` are run, too.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import chdir, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import matplotlib as mpl

PAGE = Path(__file__).parents[1] / "docs" / "python.md"
PICTURE = re.compile(r"!\[[^\]]*\]\(([^)]+)\)")

_CELL = re.compile(
    r"```(?P<language>python|console)\n(?P<code>.*?)```\n(?:\n```text\n(?P<output>.*?)```\n)?",
    re.DOTALL,
)
_COMMAND = re.compile(r"^\$ denoise5d (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Cell:
    """A block of code, what the page says that it prints, and what it printed."""

    code: str
    said: str
    printed: str


def run_page(text: str, folder: Path) -> Iterator[Cell]:
    """Run the cells of a page one after the other in a folder."""
    mpl.use("Agg")
    names: dict[str, Any] = {}
    for found in _CELL.finditer(text):
        code, printed = found["code"], StringIO()
        place = f"<cell in line {1 + text.count(chr(10), 0, found.start())}>"
        with chdir(folder), redirect_stdout(printed):
            if found["language"] == "python":
                exec(compile(code, place, "exec"), names)
            else:
                for words in _COMMAND.findall(code):
                    _denoise5d(words.split("#")[0].split())
        yield Cell(code, found["output"] or "", printed.getvalue())


def _denoise5d(words: list[str]) -> None:
    subprocess.run(
        [sys.executable, "-m", "denoise5d.cli", *words],
        check=True,
        capture_output=True,
        env=os.environ | {"TMPDIR": str(Path.cwd())},  # where dask leaves its files
    )


def main() -> None:
    """Renew the output and the pictures of the page."""
    text = PAGE.read_text()
    with tempfile.TemporaryDirectory() as name:
        cells = list(run_page(text, Path(name)))
        for picture in PICTURE.findall(text):
            shutil.copy(Path(name) / picture, PAGE.parent / picture)
    printed = iter(cell.printed for cell in cells)

    def renewed(found: re.Match[str]) -> str:
        output = next(printed)
        code = f"```{found['language']}\n{found['code']}```\n"
        return code + (f"\n```text\n{output}```\n" if output else "")

    PAGE.write_text(_CELL.sub(renewed, text))


if __name__ == "__main__":
    main()
