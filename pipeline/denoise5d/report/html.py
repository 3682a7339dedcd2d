"""HTML without a template: what is not made here is text, and escaped."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


_VOID = ("img", "meta", "br")


def element(tag: str, *content: str, **attributes: str) -> Html:
    """Return an element; content and values of attributes are escaped unless they are `Html`.

    Parameters
    ----------
    tag : str
        Its name.
    *content : str
        What is in it.
    **attributes : str
        ``class_`` and the like lose their underscore, others become hyphens.
    """
    values = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for name, value in attributes.items()
    )
    if tag in _VOID:
        return Html(f"<{tag}{values}>")
    return Html(f"<{tag}{values}>{joined(*content)}</{tag}>")


def joined(*content: str) -> Html:
    """Return pieces of text and HTML as HTML."""
    return Html("".join(c if isinstance(c, Html) else escape(c, quote=False) for c in content))


def figure(png: bytes, alternative: str, caption: str) -> Html:
    """Return a picture, in the page itself, with its caption.

    Parameters
    ----------
    png : bytes
        The picture.
    alternative : str
        What it shows, for those who cannot see it.
    caption : str
        Below it.
    """
    return element("figure", _image(png, alternative), element("figcaption", caption))


def wide_figure(png: bytes, alternative: str, caption: str) -> Html:
    """Return a picture that keeps its size: where there is no room it is moved in its own box."""
    image = _scrolling(_image(png, alternative), alternative)
    return element("figure", image, element("figcaption", caption))


def _image(png: bytes, alternative: str) -> Html:
    source = "data:image/png;base64," + b64encode(png).decode()
    return element("img", src=source, alt=alternative)


def gallery(figures: Iterable[Html], *, pairs: bool = False) -> Html:
    """Return figures beside each other, as many as there is room for, or two at most."""
    return element("div", *figures, class_="gallery pairs" if pairs else "gallery")


def facts(rows: Iterable[tuple[str, str]]) -> Html:
    """Return a table of names and values."""
    body = [
        element("tr", element("th", name, scope="row"), element("td", value))
        for name, value in rows
    ]
    return _scrolling(element("table", element("tbody", *body)))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Html:
    """Return a table with a head; the first cell of a row names it."""
    top = element("tr", *(element("th", cell, scope="col") for cell in head))
    body = [
        element("tr", element("th", first, scope="row"), *(element("td", cell) for cell in others))
        for first, *others in rows
    ]
    return _scrolling(element("table", element("thead", top), element("tbody", *body)))


def _scrolling(inside: Html, name: str = "table") -> Html:
    """Return a box of its own for what may be wider than the page; the keyboard reaches it."""
    return element("div", inside, class_="wide", tabindex="0", role="region", aria_label=name)


def code(text: str) -> Html:
    """Return text as it is, in lines."""
    return element("pre", element("code", text), tabindex="0")


def section(title: str, name: str, *content: str) -> Html:
    """Return a section with its heading, which `name` links to."""
    return element("section", element("h2", title), *content, id=name)


def document(title: str, *body: str) -> Html:
    """Return a whole page, which fetches nothing and runs nothing: its policy says so."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        Html(f"<style>{files(__package__).joinpath('style.css').read_text()}</style>"),
    )
    return Html("<!doctype html>\n" + element("html", head, element("body", *body), lang="en"))


_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
