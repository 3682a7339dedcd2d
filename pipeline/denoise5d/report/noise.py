"""The noise of an image: variance against mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from denoise5d.noise import NoiseEstimate, NoiseModel
from denoise5d.report.canvas import BLUE, GREY, ORANGE, RED, new_figure

_CHART, _LEGEND, _MOST_COLUMNS = (5.2, 4.0), 0.4, 2
"""Inches, and charts in a row."""

_MOST_ABOVE = 3.0
"""A line that is given may be so many times as high before it leaves the chart."""

_MOST_CELLS = 20_000
"""More are not to be told apart, and make the file large."""


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
    noise_figure(charts).savefig(path)


def noise_figure(charts: Sequence[NoiseChart]) -> Any:
    """Return the figure that `save_noise` saves."""
    columns = min(len(charts), _MOST_COLUMNS)
    rows = -(-len(charts) // columns)
    size = (columns * _CHART[0], rows * _CHART[1] + _LEGEND)
    figure = new_figure(size)
    panels = [figure.add_subplot(rows, columns, place + 1) for place in range(len(charts))]
    for axes, chart in zip(panels, charts, strict=True):
        _draw_cells(axes, chart.estimate)
        _draw_lines(axes, chart)
    handles, _ = panels[0].get_legend_handles_labels()
    figure.legend(handles=handles, loc="outside lower center", ncols=2 * columns, fontsize=9)
    return figure


def _draw_cells(axes: Any, estimate: NoiseEstimate) -> None:
    cells = estimate.sampled
    chosen = slice(None, None, -(-cells.number // _MOST_CELLS))
    many = cells.number > _MOST_CELLS // 10
    axes.plot(
        cells.mean[chosen],
        cells.variance[chosen],
        "o",
        color=GREY,
        markersize=2 if many else 3.5,
        alpha=0.25 if many else 0.5,
        markeredgewidth=0,
        rasterized=True,
    )
    axes.plot([], [], "o", color=GREY, markersize=4, label="cells of the image")  # to be seen


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
        estimate.means, estimate.variances, "o", color=ORANGE, **edge, label="points of the fit"
    )
    axes.plot(line, found, color=BLUE, linewidth=2, label="found")
    if chart.given is not None:
        values = chart.given.variance(line)
        top = max(top, min(float(values.max()), _MOST_ABOVE * top))
        axes.plot(line, values, "--", color=RED, linewidth=2, label="given in the YAML")
    axes.set(xlim=(line[0], line[-1]), ylim=(0, 1.3 * top))
    outside = (cells.mean < line[0]) | (cells.mean > line[-1]) | (cells.variance > 1.3 * top)
    counts = f"{len(estimate.means)} points of {estimate.cells} smooth cells"
    axes.set_title(f"{chart.title}\n{counts}; {outside.sum()} of {cells.number} out of sight",
                   fontsize=10)  # fmt: skip
    axes.set_xlabel("mean (grey levels)")
    axes.set_ylabel("variance (grey levels²)")
