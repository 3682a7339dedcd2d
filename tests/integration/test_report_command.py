"""``denoise5d report`` of all kinds of runs, and what it refuses."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from html.parser import HTMLParser
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import zarr
from click.testing import CliRunner, Result

from denoise5d import inspection as inspection_module
from denoise5d.begun import open_begun
from denoise5d.cli import cli
from denoise5d.errors import (
    Denoise5dError,
    FingerprintError,
    OutputError,
    RefusedError,
    StoppedEarlyError,
)
from denoise5d.execute import Run
from denoise5d.findings import gather
from denoise5d.inspection import around, choose_places
from denoise5d.verdicts import Grade
from runs import Project, structured

Start = Callable[..., Run]


@pytest.fixture(autouse=True)
def one_view(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at one place of each channel: pictures take the time of these tests."""
    monkeypatch.setattr(inspection_module, "_VIEWS", 1)


def report(project: Project, *options: str) -> Result:
    return CliRunner().invoke(cli, ["report", str(project.yaml), *options], catch_exceptions=False)


class Outline(HTMLParser):
    """The headings, alternatives of pictures, and tags of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.headings: list[str] = []
        self.pictures: list[str] = []
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.names: list[str] = []
        self.text = ""
        self._heading = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self._heading = tag in ("h2", "h3")
        self.links += [f"{value}" for name, value in attrs if name == "href"]
        self.names += [f"#{value}" for name, value in attrs if name == "id"]
        if tag == "img":
            self.pictures.append(dict(attrs)["alt"] or "")

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._heading:
            self.headings.append(data)
            self._heading = False


def page_of(project: Project) -> Outline:
    result = report(project)
    assert result.exit_code == 0
    path = project.output.with_name("out.zarr.denoise5d") / "report.html"
    assert result.output.endswith(f"Report: {path}\n")
    assert path.stat().st_size < 4e6
    return Outline(path.read_text(encoding="utf-8"))


SECTIONS = ["Summary", "Before, after, residual", "Grey levels", "Noise", "Residual", "Seams",
            "The run", "How it was made"]  # fmt: skip

KINDS: dict[str, tuple[tuple[int, ...], str, dict[str, Any], set[str], int]] = {
    # shape, type, sections of the YAML, axes of profiles, axes with faces
    "time, channels, depth": (
        (9, 2, 12, 48, 64),
        "uint16",
        {"blocks": {"shape": [9, 1, 12, 16, 32]}, "output": {"chunks": [9, 1, 12, 16, 32]}},
        {"X", "Z", "T"},
        2,
    ),
    "a plane": (
        (1, 1, 1, 96, 128),
        "uint8",
        {"blocks": {"shape": [1, 1, 1, 96, 128]}},
        {"X"},
        0,
    ),
    "planes in time": (
        (20, 1, 1, 48, 48),
        "float32",
        {"blocks": {"shape": [8, 1, 1, 48, 48]}, "output": {"chunks": [2, 1, 1, 16, 16]}},
        {"X", "T"},
        1,
    ),
    "a tiny stack": ((1, 1, 5, 20, 21), "int16", {}, {"X", "Z"}, 0),
    "hardly a voxel": ((1, 1, 1, 16, 3), "uint16", {}, {"X"}, 0),
}


@pytest.mark.parametrize("kind", KINDS)
def test_of_all_kinds_of_images(kind: str, project: Project, start: Start) -> None:
    shape, dtype, sections, axes, cuts = KINDS[kind]
    image = structured(shape, dtype)
    given: dict[str, Any] = {"output": {"chunks": [1, 1, 4, 16, 16]}, **sections}
    start(project.image(image).write(**given))
    page = page_of(project)
    assert [h for h in page.headings if h in SECTIONS] == SECTIONS
    assert {p.split("along ")[1][0] for p in page.pictures if p.startswith("Grey levels")} == axes
    assert sum(p.startswith("Jumps across faces") for p in page.pictures) == cuts
    planes = [p for p in page.pictures if p.startswith(("Noisy", "Denoised", "Residual, "))]
    assert len(planes) % 3 == 0
    assert len(planes) >= 3
    assert all(("three planes" in p) == (shape[2] > 1) for p in planes)
    assert all(picture for picture in page.pictures)
    assert page.links == page.names
    assert len(page.names) == len(SECTIONS)


def test_numbers_and_verdicts_of_a_sound_run(project: Project, start: Start) -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:256, :256]
    truth = 200 + 80 * np.sin(x / 11) * np.cos(y / 13)
    image = rng.normal(truth, 9, (1, 1, 4, 256, 256)).astype(np.float32)
    project.image(image).write(
        noise={"sigma": 9}, denoise={"method": "ridge"}, blocks={"shape": [1, 1, 4, 64, 128]},
        output={"chunks": [1, 1, 4, 64, 64]},
    )  # fmt: skip
    start(project)
    findings = gather(open_begun(project.config()), lambda *_: None, lambda *_: None)
    (channel,) = findings.inspection.channels
    assert channel.residual is not None
    assert channel.residual.variance == pytest.approx(1, abs=0.1)
    grades = {verdict.subject: verdict.grade for verdict in findings.verdicts}
    doubted = {k for k, grade in grades.items() if grade is not Grade.GOOD}
    assert doubted == {"noise"}  # no camera's: it has no gain
    assert list(grades) == [
        "noise", "mean", "variance", "neighbours", "structure", "seams along Y", "seams along X",
        "memory", "retries",
    ]  # fmt: skip
    for view in findings.inspection.views:
        np.testing.assert_array_equal(view.noisy, image[view.box.slices][0, 0])
        np.testing.assert_array_equal(view.denoised, project.result()[view.box.slices][0, 0])


def test_text_from_outside_stays_text(project: Project, start: Start) -> None:
    evil = "<script>alert('$x$')</script>"
    array = structured((3, 2, 6, 32, 48), "uint16")
    group = zarr.open_group(project.input, mode="w", zarr_format=3)
    group.create_array("0", data=array, chunks=(1, 1, 6, 32, 48), fill_value=0)
    axes = [{"name": n, "type": t} for n, t in
            zip("tczyx", ["time", "channel", *["space"] * 3], strict=True)]  # fmt: skip
    axes[4]["unit"] = axes[3]["unit"] = "<b>$\\frac$"
    scale = [{"type": "scale", "scale": [1, 1, 2, 0.5, 0.5]}]
    group.attrs["ome"] = {
        "version": "0.5",
        "multiscales": [
            {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}
        ],
        "omero": {"channels": [{"label": evil}, {"label": "channel 1"}]},
    }
    project.write()
    project.yaml.write_text(f"# {evil}\n{project.yaml.read_text()}")
    start(project)
    lines = project.lines()
    record = json.loads(lines[1]) | {"attempts": 2, "failures": [evil], "worker": evil}
    lines[1] = json.dumps(record, separators=(",", ":"))
    project.ledger.write_text("\n".join(lines) + "\n")
    page = page_of(project)
    assert "script" not in page.tags
    assert page.text.count(evil) >= 4
    assert f"channel 0: {evil}" in page.text
    assert "channel 1" in page.text
    assert "channel 1: channel 1" not in page.text
    assert "took more than one attempt" in page.text


def test_where_it_is_written(project: Project, start: Start) -> None:
    start(project.image(structured((1, 1, 1, 32, 32), "uint16")).write())
    path = project.folder / "here.html"
    assert report(project, "--output", str(path)).output.endswith(f"Report: {path}\n")
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert not list(project.folder.glob("*.partial"))
    for wrong, words in (("here.pdf", "must end with .html"), ("no/here.html", "must exist")):
        runner = CliRunner()
        found = runner.invoke(
            cli, ["report", str(project.yaml), "--output", str(project.folder / wrong)]
        )
        assert found.exit_code == 2
        assert words in found.output


def refusal(project: Project, kind: type[Denoise5dError]) -> str:
    with pytest.raises(kind) as caught:
        report(project)
    assert caught.value.exit_code == kind.exit_code
    return str(caught.value)


def test_a_run_that_is_not_finished(project: Project, start: Start) -> None:
    project.image(structured((1, 1, 1, 64, 64), "uint16"))
    start(project.write(output={"chunks": [1, 1, 1, 16, 16]}, blocks={"shape": [1, 1, 1, 32, 32]}))
    project.ledger.write_text("\n".join(project.lines()[:2]) + "\n")
    words = refusal(project, StoppedEarlyError)
    assert "3 of 4 blocks are not done" in words
    assert f"`denoise5d run {project.yaml}` goes on" in words
    assert not (project.ledger.parent / "report.html").exists()


def test_a_pyramid_that_is_not_finished(project: Project, start: Start) -> None:
    quick = {"denoise": {"iterations": 1, "patch": [0, 0, 0, 1, 1]}}
    project.image(structured((1, 1, 1, 260, 40), "uint16"), chunks=(1, 1, 1, 130, 40))
    start(project.write(output={"pyramid": False}, **quick))
    assert "of its levels" not in report(project).output
    project.write(**quick)
    words = " ".join(report(project).output.split())
    assert "pyramid look here: 1 block of its levels" in words


def test_a_folder_that_cannot_be_written_is_noticed_first(
    project: Project, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(project.image(structured((1, 1, 1, 32, 32), "uint16")).write())
    module = import_module("denoise5d.cli.report")
    monkeypatch.setattr(module, "os", SimpleNamespace(access=lambda *_: False, W_OK=os.W_OK))
    monkeypatch.setattr(module, "gather", lambda *_: pytest.fail("it was worked in vain"))
    assert "name a file elsewhere with --output" in refusal(project, OutputError)


def test_no_run_or_another(project: Project, start: Start) -> None:
    project.image(structured((1, 1, 1, 32, 32), "uint16")).write()
    assert "no run of" in refusal(project, OutputError)
    start(project)
    project.write(denoise={"iterations": 1, "method": "safir"})
    refusal(project, FingerprintError)


def test_without_matplotlib(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    module = import_module("denoise5d.cli.report")  # by its name: the command has the same
    monkeypatch.setattr(module, "can_draw", lambda: False)
    assert "pip install 'denoise5d[report]'" in refusal(project, RefusedError)


def test_places_are_spread() -> None:
    shape = (10, 1, 20, 300, 300)
    places = [(9.0, (0, 0, 5, 50, 50)), (8.9, (0, 0, 5, 55, 50)), (4.0, (9, 0, 15, 250, 250))]
    assert choose_places(places, shape, 2) == [places[0][1], places[2][1]]
    assert choose_places(places, shape, 9) == [places[0][1], places[2][1], places[1][1]]
    assert choose_places([(1.0, (0,) * 5)] * 3, shape, 3) == [(0,) * 5]


def test_boxes_around_a_place_stay_in_the_image() -> None:
    shape = (3, 1, 10, 100, 100)
    assert around((0, 0, 9, 50, 99), (1, 1, 4, 20, 200), shape).slices == (
        slice(0, 1), slice(0, 1), slice(6, 10), slice(40, 60), slice(0, 100),
    )  # fmt: skip
