"""The page's HTML: all text is escaped, and nothing is fetched."""

from __future__ import annotations

from html import unescape
from html.parser import HTMLParser

import pytest

from denoise5d.report.html import (
    Html,
    code,
    document,
    element,
    facts,
    figure,
    joined,
    section,
    table,
)

EVIL = '<script>alert(1)</script> & "it\'s"'


class Tags(HTMLParser):
    """Counts tags and gathers text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.attributes: dict[str, str | None] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= dict(attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize(
    "made",
    [
        element("p", EVIL),
        joined(EVIL),
        code(EVIL),
        facts([(EVIL, EVIL)]),
        table([EVIL], [(EVIL, EVIL)]),
        figure(b"png", "a picture", EVIL),
        section(EVIL, "name", EVIL),
        document(EVIL, EVIL),
    ],
)
def test_text_stays_text(made: Html) -> None:
    found = Tags(made)
    assert "script" not in found.tags
    assert EVIL in found.text


def test_attributes_stay_attributes() -> None:
    found = Tags(element("img", alt='" onerror="alert(1)', src="data:x"))
    assert found.attributes == {"alt": '" onerror="alert(1)', "src": "data:x"}


def test_html_stays_html() -> None:
    assert element("p", element("b", "a < b"), class_="c") == '<p class="c"><b>a &lt; b</b></p>'
    assert element("meta", http_equiv="x") == '<meta http-equiv="x">'


def test_the_page_may_fetch_nothing() -> None:
    page = document("title", element("p", "text"))
    assert page.startswith("<!doctype html>\n")
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert policy in unescape(page)
    assert "<script" not in page
    assert "http:" not in page
    assert "https:" not in page
    assert "url(" not in page
