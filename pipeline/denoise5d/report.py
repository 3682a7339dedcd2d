"""Pictures of results. Needs matplotlib, which the extra ``denoise5d[report]`` brings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from denoise5d.noise import NoiseEstimate, NoiseModel

_PANEL, _GAP, _MARGIN = 3.6, 0.08, 0.12
_CAPTION, _BAR, _BAR_LABELS = 0.34, 0.16, 0.75
_DPI = 110
"""Lengths in inches."""

_FRAME = "#ffb000"
_CELLS, _POINTS, _LINE, _GIVEN = "#8c8c8c", "#e69f00", "#0072b2", "#d55e00"
"""Colours that also the colour-blind tell apart."""

_CHART, _LEGEND, _MOST_COLUMNS = (5.2, 4.0), 0.4, 2
_MOST_ABOVE = 3.0
"""A line that is given may be so many times as high before it leaves the chart."""

_MOST_CELLS = 20_000
"""More are not to be told apart, and make the file large."""


def can_draw() -> bool:
    """Tell whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


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
    figure = Figure(figsize=sheet.size, dpi=_DPI)
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
            spine.set_edgecolor(_FRAME)
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
    return Rectangle(corner, side, side, fill=False, edgecolor=_FRAME, linewidth=1.5)


@dataclass(frozen=True, slots=True)
class NoiseChart:
    """The noise of one channel, to be drawn.

    Attributes
    ----------
    title : str
        What is above it.
    estimate : NoiseEstimate
        Cells, points and line.
    given : NoiseModel or None
        Another line to compare with: that of the YAML.
    """

    title: str
    estimate: NoiseEstimate
    given: NoiseModel | None


def save_noise(path: Path, charts: Sequence[NoiseChart]) -> None:
    """Draw variance against mean, a chart a channel: cells, the points of the fit, the line.

    Parameters
    ----------
    path : Path
        The PNG, SVG or PDF to write.
    charts : sequence of NoiseChart
        At least one.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(len(charts), _MOST_COLUMNS)
    rows = -(-len(charts) // columns)
    size = (columns * _CHART[0], rows * _CHART[1] + _LEGEND)
    figure = Figure(figsize=size, dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    panels = [figure.add_subplot(rows, columns, place + 1) for place in range(len(charts))]
    for axes, chart in zip(panels, charts, strict=True):
        _draw_cells(axes, chart.estimate)
        _draw_lines(axes, chart)
    handles, _ = panels[0].get_legend_handles_labels()
    figure.legend(handles=handles, loc="outside lower center", ncols=2 * columns, fontsize=9)
    figure.savefig(path)


def _draw_cells(axes: Any, estimate: NoiseEstimate) -> None:
    cells = estimate.sampled
    chosen = slice(None, None, -(-cells.number // _MOST_CELLS))
    many = cells.number > _MOST_CELLS // 10
    axes.plot(
        cells.mean[chosen],
        cells.variance[chosen],
        "o",
        color=_CELLS,
        markersize=2 if many else 3.5,
        alpha=0.25 if many else 0.5,
        markeredgewidth=0,
        rasterized=True,
    )
    axes.plot([], [], "o", color=_CELLS, markersize=4, label="cells of the image")  # to be seen


def _draw_lines(axes: Any, chart: NoiseChart) -> None:
    """Draw the points and the lines; what is seen is what they need, not the outermost cells."""
    estimate, cells = chart.estimate, chart.estimate.sampled
    left, right = float(estimate.means.min()), float(estimate.means.max())
    margin = 0.05 * (right - left)
    line = np.linspace(left - margin, right + margin, 200)
    found = estimate.model.variance(line)
    top = max(float(estimate.variances.max()), float(found.max()))
    edge = {"markeredgecolor": "black", "markeredgewidth": 0.5}
    axes.plot(
        estimate.means, estimate.variances, "o", color=_POINTS, **edge, label="points of the fit"
    )
    axes.plot(line, found, color=_LINE, linewidth=2, label="found")
    if chart.given is not None:
        values = chart.given.variance(line)
        top = max(top, min(float(values.max()), _MOST_ABOVE * top))
        axes.plot(line, values, "--", color=_GIVEN, linewidth=2, label="given in the YAML")
    axes.set(xlim=(line[0], line[-1]), ylim=(0, 1.3 * top))
    outside = (cells.mean < line[0]) | (cells.mean > line[-1]) | (cells.variance > 1.3 * top)
    counts = f"{len(estimate.means)} points of {estimate.cells} smooth cells"
    axes.set_title(f"{chart.title}\n{counts}; {outside.sum()} of {cells.number} out of sight",
                   fontsize=10)  # fmt: skip
    axes.set_xlabel("mean (grey levels)")
    axes.set_ylabel("variance (grey levels²)")
