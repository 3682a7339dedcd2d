"""Formulas as drawings inside the page: the same in every browser, without scripts and fonts.

MathML would be lighter still, but without a font for mathematics, which many machines lack, roots
do not grow and indices are not lowered.
"""

from __future__ import annotations

import html
import re
from functools import cache
from itertools import starmap

import numpy as np
from docutils import nodes
from matplotlib.font_manager import FontProperties
from matplotlib.path import Path
from matplotlib.textpath import text_to_path
from numpy.typing import NDArray
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.typing import ExtensionMetadata
from sphinx.writers.html5 import HTML5Translator

_EM = 0.87 * text_to_path.FONT_SCALE
"""What fills a line of text, in the units of a drawing: Times is small beside other letters."""

_LETTERS = {Path.MOVETO: "M", Path.LINETO: "L", Path.CURVE3: "Q", Path.CURVE4: "C"}


@cache
def draw(tex: str) -> str:
    """Return a formula as SVG in the colour and size of the text around it."""
    font, text = FontProperties(math_fontfamily="stix"), f"${tex}$"
    scale = text_to_path.FONT_SCALE / font.get_size_in_points()
    lengths = text_to_path.get_text_width_height_descent(text, font, ismath=True)
    width, height, below = (scale * length for length in lengths)
    points, codes = text_to_path.get_text_path(font, text, ismath=True)
    steps = "".join(starmap(_step, Path(points, codes).iter_segments(simplify=False)))
    return (
        f'<svg class="formula" role="img" aria-label="{html.escape(tex)}" '
        f'style="height:{height / _EM:.3f}em;vertical-align:{-below / _EM:.3f}em" '
        f'viewBox="0 {below - height:.1f} {width:.1f} {height:.1f}"><path d="{steps}"/></svg>'
    )


def _step(points: NDArray[np.float64], code: np.uint8) -> str:
    """Write one step of an outline; y grows downwards in SVG."""
    if code == Path.CLOSEPOLY:
        return "Z"
    return _LETTERS[code] + " ".join(f"{x:.1f} {-y:.1f}" for x, y in points.reshape(-1, 2))


def _convert(node: nodes.Element, tex: str) -> str:
    try:
        return draw(tex)
    except ValueError as error:
        logging.getLogger(__name__).warning("formula %s: %s", tex, error, location=node)
        return ""


def _inline(writer: HTML5Translator, node: nodes.math) -> None:
    writer.body.append(_convert(node, node.astext().replace(r"\tfrac", r"\frac")))
    raise nodes.SkipNode


def _block(writer: HTML5Translator, node: nodes.math_block) -> None:
    large = re.sub(r"\\frac\b", r"\\dfrac", " ".join(node.astext().split()))
    formula = _convert(node, large.replace(r"\tfrac", r"\frac"))
    writer.body.append(f'<div class="formula">{formula}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> ExtensionMetadata:
    """Add the renderer of formulas."""
    app.add_html_math_renderer("drawn", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
