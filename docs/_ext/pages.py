"""Pages that are made of the program itself, and links that leave the folder of the pages.

Below a line ``<!-- site: NAME -->`` the site shows what the program says instead of what the file
says, which is for readers of the source.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

import commands
import configuration
import examples

_DOCS = Path(__file__).parents[1]


def _others() -> str:
    """Return a table of contents with the pages that the index does not name."""
    named = (_DOCS / "index.md").read_text().splitlines()
    pages = [path.stem for path in sorted(_DOCS.glob("*.md")) if path.stem != "index"]
    if others := [page for page in pages if page not in named]:
        return "\n".join(["```{toctree}", ":caption: More", ":hidden:", "", *others, "```", ""])
    return ""


_MADE: dict[str, Callable[[], str]] = {
    "commands": commands.reference,
    "configuration": configuration.reference,
    "examples": examples.listing,
    "others": _others,
}
_MARK = re.compile(r"^<!-- site: (\w+) -->\n.*", re.DOTALL | re.MULTILINE)

_LINKS = (
    (re.compile(r"\[[\w/-]+\.md\]\("), "[]("),  # the title instead of the name of the file
    (re.compile(r"\]\((?:\.\./)?README\.md"), "](quickstart.md"),
    (re.compile(r"\]\((?:\.\./)?CHANGELOG\.md"), "](changelog.md"),
    (re.compile(r"\]\((?:\.\./)?configs/?\)"), "](examples.md)"),
    (re.compile(r"\]\(\.\./(?:configs|slurm)/([\w-]+)\.(\w+)\)"), r"](examples.md#\1\2)"),
    (re.compile(r"\]\(LICENSE\)"), "](../LICENSE)"),
)
"""Files of the repository that are pages of the site."""


def _translate(text: str) -> str:
    for pattern, page in _LINKS:
        text = pattern.sub(page, text)
    return _MARK.sub(lambda mark: _MADE[mark[1]](), text)


def _on_source(_app: Sphinx, _page: str, content: list[str]) -> None:
    content[0] = _translate(content[0])


def _on_include(_app: Sphinx, _path: Path, _page: str, content: list[str]) -> None:
    content[0] = _translate(content[0])


def setup(app: Sphinx) -> ExtensionMetadata:
    """Translate every page and what it includes."""
    app.connect("source-read", _on_source)
    app.connect("include-read", _on_include)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
