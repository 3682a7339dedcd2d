"""What all pictures have in common. They need matplotlib: the extra ``denoise5d[report]``."""

from __future__ import annotations

from importlib.util import find_spec

DPI = 110
"""Pixels an inch of pictures for the screen."""

ORANGE, BLUE, RED, GREY = "#e69f00", "#0072b2", "#d55e00", "#8c8c8c"
"""Colours that also the colour-blind tell apart."""

FRAME = "#ffb000"
"""Around details of an image: to be seen on black and on white."""


def can_draw() -> bool:
    """Tell whether matplotlib is installed."""
    return find_spec("matplotlib") is not None
