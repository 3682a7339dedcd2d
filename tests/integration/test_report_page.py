"""The report in a real browser, on a desk and in a hand: nothing sticks out, all is shown."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from browser import INSTALL, PROGRAMS, Browser, chromium, find_chromium
from denoise5d.cli import cli
from denoise5d.execute import Run
from runs import Project, structured

Start = Callable[..., Run]

REQUIRED = "DENOISE5D_REQUIRE_CHROMIUM"
"""Environment variable with which a missing browser is a failure."""

SCRIPT = """(() => {
  const root = document.documentElement, all = [...document.querySelectorAll("body *")];
  const clips = e => { for (let p = e.parentElement; p; p = p.parentElement)
    if (getComputedStyle(p).overflowX !== "visible") return true; return false; };
  return {
    width: root.scrollWidth,
    window: window.innerWidth,
    outside: all.filter(e => !clips(e) && e.getBoundingClientRect().right > innerWidth + 1)
      .map(e => e.outerHTML.slice(0, 80)),
    images: document.images.length,
    broken: [...document.images].filter(i => !i.complete || i.naturalWidth === 0).length,
    unnamed: [...document.images].filter(i => !i.alt).length,
    scripts: document.scripts.length,
    title: document.title,
    headings: document.querySelectorAll("h2").length,
    small: [...document.querySelectorAll("p, td, th, figcaption, li")]
      .filter(e => parseFloat(getComputedStyle(e).fontSize) < 12).length,
  };
})()"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = find_chromium()
    if program is None:
        reason = f"none of {', '.join(PROGRAMS)} found: {INSTALL}"
        if os.environ.get(REQUIRED):
            pytest.fail(f"{REQUIRED} is set, and {reason}")
        pytest.skip(reason)
    with chromium(program, tmp_path_factory.mktemp("chromium")) as started:
        yield started


@pytest.fixture
def page(project: Project, start: Start) -> Path:
    """A report with all there may be: channels, time, depth, seams, long lines."""
    project.image(structured((3, 2, 12, 64, 96), "uint16"), chunks=(1, 1, 4, 32, 48))
    project.write(output={"chunks": [3, 1, 12, 32, 48]}, blocks={"shape": [3, 1, 12, 32, 48]})
    project.yaml.write_text(f"# {'a long line ' * 60}\n# {'x' * 500}\n" + project.yaml.read_text())
    start(project)
    result = CliRunner().invoke(cli, ["report", str(project.yaml)], catch_exceptions=False)
    assert result.exit_code == 0
    return Path(result.output.rpartition("Report: ")[2].strip())


def test_on_a_desk_and_in_a_hand(browser: Browser, page: Path) -> None:
    for width in (1280, 400):
        shown = browser.show(page, width, SCRIPT)
        found = shown.values
        assert found["window"] == width
        assert found["width"] <= width, f"{found['width']} at {width}: {found['outside']}"
        assert found["outside"] == []
        assert found["images"] >= 20
        assert found["broken"] == 0
        assert found["unnamed"] == 0
        assert found["scripts"] == 0
        assert found["small"] == 0
        assert found["headings"] == 8
        assert found["title"] == "out.zarr: report of denoise5d"
        assert shown.requests == [page.as_uri()]
        assert shown.complaints == []


def test_the_test_sees_what_sticks_out_and_is_fetched(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "bad.html"
    file.write_text(
        "<!doctype html><div style='width: 2000px'>wide</div><img src='missing.png'>"
        "<script>console.log('noise')</script>"
    )
    shown = browser.show(file, 400, SCRIPT)
    assert shown.values["width"] > 400
    assert shown.values["outside"]
    assert shown.values["broken"] == shown.values["unnamed"] == 1
    assert shown.requests == [file.as_uri(), (tmp_path / "missing.png").as_uri()]
    assert any("noise" in complaint for complaint in shown.complaints)
