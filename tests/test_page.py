"""The page for Python is a notebook whose code runs and whose output is what it prints."""

from __future__ import annotations

import subprocess
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from page import PAGE, PICTURE, run_page


def test_the_page_runs_and_prints_what_it_shows(tmp_path: Path) -> None:
    text = PAGE.read_text()
    cells = list(run_page(text, tmp_path))
    plt.close("all")
    for cell in cells:
        assert cell.printed == cell.said, cell.code
    assert sum(bool(cell.said) for cell in cells) > 12
    pictures = PICTURE.findall(text)
    assert pictures
    assert set(pictures) == {path.name for path in tmp_path.glob("*.png")}


def test_its_pictures_are_small() -> None:
    for picture in PICTURE.findall(PAGE.read_text()):
        assert (PAGE.parent / picture).stat().st_size < 150_000, picture


def test_wrong_output_and_failing_commands_are_seen(tmp_path: Path) -> None:
    page = "```python\nprint(1 + 1)\n```\n\n```text\n3\n```\n"
    [cell] = run_page(page, tmp_path)
    assert (cell.said, cell.printed) == ("3\n", "2\n")
    with pytest.raises(subprocess.CalledProcessError):
        list(run_page("```console\n$ denoise5d run missing.yaml\n```\n", tmp_path))
