"""Planes of images side by side, with the same contrast."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from denoise5d.report.canvas import DPI, FRAME

_PANEL, _GAP, _MARGIN = 3.6, 0.08, 0.12
_CAPTION, _BAR, _BAR_LABELS = 0.34, 0.16, 0.75
"""Lengths in inches."""


def save_comparison(path: Path, panels: dict[str, NDArray[Any]], *, detail: int = 72) -> None:
    """Draw planes side by side with the same contrast, and a detail of each below.

    ::

        before    after     truth
        [plane]   [plane]   [plane]   |
        [detail]  [detail]  [detail]  | grey levels

    Parameters
    ----------
    path : Path
        The PNG to write.
    panels : dict of ndarray
        Planes (y, x) of one shape by their captions; the contrast is that of the last.
    detail : int
        Side of the detail in voxels; it is where the last panel is brightest.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    planes = list(panels.values())
    low, high = np.percentile(planes[-1], [0.5, 99.8])
    side = min(detail, *planes[-1].shape)
    top, left = _brightest(planes[-1], side)
    sheet = _Sheet(len(planes), _PANEL * planes[-1].shape[0] / planes[-1].shape[1])
    figure = Figure(figsize=sheet.size, dpi=DPI)
    FigureCanvasAgg(figure)
    for column, (caption, plane) in enumerate(panels.items()):
        parts = (plane, plane[top : top + side, left : left + side])
        axes = [figure.add_axes(sheet.panel(row, column)) for row in range(2)]
        for axis, part in zip(axes, parts, strict=True):
            image = axis.imshow(part, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
        axes[0].set_title(caption, fontsize=12)
        axes[0].add_patch(_frame(top, left, side))
        for spine in axes[1].spines.values():
            spine.set_edgecolor(FRAME)
    figure.colorbar(image, cax=figure.add_axes(sheet.bar), label="grey level")
    figure.savefig(path)


@dataclass(frozen=True, slots=True)
class _Sheet:
    """Places of the panels as matplotlib wants them: fractions left, bottom, width, height."""

    columns: int
    height: float  # of the planes; details are squares

    @property
    def size(self) -> tuple[float, float]:
        width = 2 * _MARGIN + self.columns * (_PANEL + _GAP) + _BAR + _BAR_LABELS
        return width, 2 * _MARGIN + _CAPTION + self.height + _GAP + _PANEL

    def panel(self, row: int, column: int) -> tuple[float, float, float, float]:
        left = _MARGIN + column * (_PANEL + _GAP)
        if row == 0:
            return self._place(left, _MARGIN + _PANEL + _GAP, _PANEL, self.height)
        return self._place(left, _MARGIN, _PANEL, _PANEL)

    @property
    def bar(self) -> tuple[float, float, float, float]:
        left = _MARGIN + self.columns * (_PANEL + _GAP)
        return self._place(left, _MARGIN, _BAR, self.height + _GAP + _PANEL)

    def _place(
        self, left: float, bottom: float, width: float, height: float
    ) -> tuple[float, float, float, float]:
        across, up = self.size
        return left / across, bottom / up, width / across, height / up


def _brightest(plane: NDArray[Any], side: int) -> tuple[int, int]:
    """Return the corner of the brightest square of a coarse lattice of squares."""
    step = max(1, side // 2)
    corners = [
        (y, x)
        for y in range(0, plane.shape[0] - side + 1, step)
        for x in range(0, plane.shape[1] - side + 1, step)
    ]
    return max(corners, key=lambda c: float(plane[c[0] : c[0] + side, c[1] : c[1] + side].mean()))


def _frame(top: int, left: int, side: int) -> Any:
    from matplotlib.patches import Rectangle

    corner = (left - 0.5, top - 0.5)
    return Rectangle(corner, side, side, fill=False, edgecolor=FRAME, linewidth=1.5)
