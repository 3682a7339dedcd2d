"""The tutorial does what it says: every file, every command in order, and its pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tutorial import DOCS, PAGE, Command, File, Reader, missing, pictures, steps

pytestmark = pytest.mark.timeout(600)  # whichever test comes first waits for all commands


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """Somebody who has done it all."""
    reader = Reader(tmp_path_factory.mktemp("reader"))
    for step in steps(PAGE.read_text()):
        if isinstance(step, File):
            reader.write(step)
            continue
        code, output = reader.type(step)
        assert code == (75 if step.interrupted else 0), f"$ {step.line}\n{output}"
        assert missing(step.shown, output) is None, f"$ {step.line}\n{output}"
    return reader


def test_every_command_does_what_is_shown(reader: Reader) -> None:
    assert (reader.folder / "embryo-denoised.zarr").is_dir()
    commands = [step for step in steps(PAGE.read_text()) if isinstance(step, Command)]
    assert [step.interrupted for step in commands].count(True) == 1
    assert all(step.shown for step in commands[1:])


@pytest.mark.parametrize("name", pictures(PAGE.read_text()))
def test_pictures_are_current(reader: Reader, name: str) -> None:
    """A small copy must be alike: letters may differ by the version of matplotlib."""
    assert (DOCS / "tutorial" / name).stat().st_size < 300_000
    shown, made = (_small(folder / name) for folder in (DOCS / "tutorial", reader.folder))
    assert np.abs(shown - made).mean() < 2


def _small(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("L").resize((40, 30)), float)


def test_what_is_missing_is_found() -> None:
    output = "a  12.5 MiB\nb: /tmp/x/y done in 3 s\nc"
    assert missing(("a 12.6 MiB", "b: ...y done", "c"), output) is None
    assert missing(("b: ... done", "a 12.5 MiB"), output) == "a 12.5 MiB"
    assert missing(("a 12.5 GiB",), output) == "a 12.5 GiB"
    assert missing(("a 13.5 MiB",), output) == "a 13.5 MiB"


def test_every_picture_is_shown() -> None:
    kept = {path.name for path in (DOCS / "tutorial").glob("*.png")}
    assert kept == set(pictures(PAGE.read_text()))
    assert len(kept) > 2
