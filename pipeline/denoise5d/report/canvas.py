"""What all pictures have in common. They need matplotlib: the extra ``denoise5d[report]``."""

from __future__ import annotations

from importlib.util import find_spec
from io import BytesIO
from typing import Any

DPI = 110
"""Pixels an inch of pictures for the screen."""

ORANGE, BLUE, RED, GREY = "#e69f00", "#0072b2", "#d55e00", "#8c8c8c"
SKY, PINK, PALE = "#56b4e9", "#cc79a7", "#d9d9d9"
"""Colours that also the colour-blind tell apart."""

FRAME = "#ffb000"
"""Around details of an image: to be seen on black and on white."""


CHART = (4.4, 3.1)
"""Inches of a chart in a page."""


def new_figure(size: tuple[float, float], *, placed: bool = False) -> Any:
    """Return a figure of a size in inches that is drawn without a screen.

    It finds room for all labels by itself, unless what is in it is `placed` by hand.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=DPI, layout=None if placed else "constrained")
    FigureCanvasAgg(figure)
    return figure


def new_chart(across: str, up: str, *, size: tuple[float, float] = CHART) -> tuple[Any, Any]:
    """Return a figure and its axes, with their labels."""
    figure = new_figure(size)
    axes = figure.add_subplot()
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def legend_above(figure: Any, axes: Any) -> None:
    """Name what is in a chart, in a line above it."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside upper center", ncols=len(labels), fontsize=8.5,
        frameon=False, columnspacing=1.2, handletextpad=0.5,
    )  # fmt: skip


def plain(text: str) -> str:
    """Return text from outside as pictures can show it: no formula, no letter that is missing."""
    shown = (c if c.isprintable() and ord(c) < 0x250 else "?" for c in text)
    return "".join(shown).replace("$", r"\$")


def png(figure: Any) -> bytes:
    """Return a figure as a PNG of at most 256 colours, which takes a third of the bytes."""
    from PIL import Image  # comes with matplotlib

    drawn, small = BytesIO(), BytesIO()
    figure.savefig(drawn, format="png")
    Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(
        small, "png", optimize=True
    )
    return small.getvalue()


def can_draw() -> bool:
    """Tell whether matplotlib is installed."""
    return find_spec("matplotlib") is not None
