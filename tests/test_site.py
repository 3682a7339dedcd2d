"""The documentation as a site: whole, without dead links, without the network."""

from __future__ import annotations

import html
import importlib.util
import re
import subprocess
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import denoise5d
from denoise5d.cli import cli
from denoise5d.config.models import SECTIONS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path.stem for path in DOCS.glob("*.md"))


@dataclass
class Page(HTMLParser):
    """What a page names, links to and loads."""

    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if "id" in values:
            self.ids.add(values["id"])
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag == "link" and values.get("rel") in ("stylesheet", "icon", "preload"):
            self.loads.append(values["href"])
        if "src" in values:
            self.loads.append(values["src"])

    handle_startendtag = handle_starttag


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site; a warning is an error."""
    folder = tmp_path_factory.mktemp("site")
    options = ["-q", "-E", "-a", "-W", "--keep-going", "-d", str(folder / "doctrees")]
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, str(DOCS), str(folder / "html")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return folder / "html"


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Page]:
    """Read every page."""
    found = {}
    for path in sorted(site.glob("*.html")):
        found[path.name] = Page()
        found[path.name].feed(path.read_text())
    return found


def test_make_builds_the_same() -> None:
    lines = (ROOT / "Makefile").read_text()
    assert "python -m sphinx -q -E -a -W --keep-going docs build/docs" in lines


def test_every_page_is_in_the_contents(pages: dict[str, Page]) -> None:
    assert len(PAGES) > 10
    assert [f"{page}.html" for page in PAGES if f"{page}.html" not in pages] == []
    listed = {"index.html", *pages["index.html"].links}
    assert [f"{page}.html" for page in PAGES if f"{page}.html" not in listed] == []


def test_links_and_anchors_lead_somewhere(site: Path, pages: dict[str, Page]) -> None:
    dead = []
    for name, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or not (parts.path or parts.fragment):
                continue
            target = unquote(parts.path) or name
            if not (site / target).is_file():
                dead.append((name, link))
            elif parts.fragment and target.endswith(".html"):
                dead += [(name, link)] * (unquote(parts.fragment) not in pages[target].ids)
    assert dead == []


def test_links_to_elsewhere_are_well_formed(pages: dict[str, Page]) -> None:
    outside = [link for page in pages.values() for link in page.links if urlsplit(link).scheme]
    assert len(outside) > 10
    for link in outside:
        parts = urlsplit(link)
        assert parts.scheme == "https", link
        assert re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+", parts.netloc), link


def test_nothing_is_loaded_from_elsewhere(site: Path, pages: dict[str, Page]) -> None:
    for name, page in pages.items():
        assert len(page.loads) > 3, name
        for address in page.loads:
            parts = urlsplit(address)
            assert parts.scheme + parts.netloc == "", (name, address)
            assert (site / parts.path).is_file(), (name, address)
    for style in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", style.read_text()), style


def test_every_key_is_in_the_reference(site: Path, pages: dict[str, Page]) -> None:
    ids = pages["configuration.html"].ids
    for place, model in SECTIONS.items():
        for key in model.model_fields:
            if (*place, key) not in SECTIONS:
                assert f"confval-{'.'.join((*place, key))}" in ids
    text = (site / "configuration.html").read_text()
    for words in ("from 1 to 6", "between 0 and 1", "it must be given", "signal_lead: 300"):
        assert words in re.sub(r"<[^>]*>", "", text)


def test_keys_in_pages_are_links(pages: dict[str, Page]) -> None:
    assert "configuration.html#confval-cluster.walltime" in pages["cluster.html"].links


def test_every_command_and_option_is_in_the_reference(pages: dict[str, Page]) -> None:
    ids = pages["commands.html"].ids
    for name, command in cli.commands.items():
        assert f"denoise5d-{name}" in ids
        names = [n for p in command.params for n in p.opts if n.startswith("--")]
        for option in names:
            assert f"cmdoption-denoise5d-{name}-{option.removeprefix('--')}" in ids


def test_help_keeps_its_lines(site: Path) -> None:
    text = re.sub(r"<[^>]*>", "", (site / "commands.html").read_text())
    assert "\b" not in text
    assert "\ndenoise5d run embryo.yaml --overwrite    after a change" in text


def test_every_public_name_is_in_the_api(pages: dict[str, Page]) -> None:
    assert {f"denoise5d.{name}" for name in denoise5d.__all__} <= pages["api.html"].ids


def test_example_files_are_shown(site: Path, pages: dict[str, Page]) -> None:
    files = [*ROOT.glob("configs/*.yaml"), *ROOT.glob("slurm/*.sbatch")]
    assert {path.name.replace(".", "-").lower() for path in files} <= pages["examples.html"].ids
    assert "exclusive" in (site / "examples.html").read_text()


def test_formulas_are_drawn(site: Path) -> None:
    source, shown = (DOCS / "algorithm.md").read_text(), (site / "algorithm.html").read_text()
    blocks = source.count("$$") // 2
    inline = len(re.findall(r"(?<!\$)\$[^$]+\$(?!\$)", re.sub(r"\$\$.*?\$\$", "", source)))
    assert blocks > 8
    assert shown.count('<svg class="formula"') == blocks + inline
    assert "<math" not in shown


def test_figures_are_current() -> None:
    spec = importlib.util.spec_from_file_location("draw", DOCS / "figures" / "draw.py")
    assert spec is not None
    assert spec.loader is not None
    draw = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(draw)
    for name in draw.FIGURES:
        text = html.unescape((DOCS / "figures" / f"{name}.svg").read_text())
        assert draw.drawn_from() in text, f"{name}: python docs/figures/draw.py"
    assert {path.stem for path in (DOCS / "figures").glob("*.svg")} == set(draw.FIGURES)
