"""A crop and what several ways to denoise make of it: results above, residuals below."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from denoise5d.report.canvas import DPI

_MOST_COLUMNS = 4
"""Results in a row, beside the raw crop."""

_LARGE, _SMALL, _FEW, _MOST_PIXELS = 520, 340, 3, 700
"""Pixels of a panel's longer side: of a few panels, of more, how many a few are, and at most."""

_MARGIN, _GAP, _LINE, _TITLE = 0.15, 0.12, 0.155, 0.62
_NARROWEST, _LOWEST = 2.3, 1.5
"""Lengths in inches: a panel has room for its caption, and for the bars of grey and colour."""

_LETTERS = 14.5
"""In an inch of a caption."""

_RANGE = 3
"""Standard deviations of the noise at the ends of the residuals' colours."""


@dataclass(frozen=True, slots=True)
class PreviewPanel:
    """One way to denoise.

    Attributes
    ----------
    caption, below : str
        Above the result and above the residual; each line of them is wrapped where it is too long.
    result : ndarray, YX
        In grey levels.
    residual : ndarray, YX
        Raw minus result over the noise's standard deviation; NaN where that is 0.
    """

    caption: str
    below: str
    result: NDArray[Any]
    residual: NDArray[Any]


@dataclass(frozen=True, slots=True)
class VoxelSize:
    """Of the crop.

    Attributes
    ----------
    y, x : float
        Distance of two voxels.
    unit : str
        What it is in; ``voxels`` where that is not known.
    """

    y: float
    x: float
    unit: str


def save_preview(
    path: Path, title: str, raw: NDArray[Any], panels: Sequence[PreviewPanel], voxel: VoxelSize
) -> None:
    """Draw a crop beside its results, all with the same contrast, and the residuals below.

    ::

        raw           fast        standard    best
        [plane]       [plane]     [plane]     [plane]
        grey bar      [residual]  [residual]  [residual]     one scale of colours for all
        colour bar

    Parameters
    ----------
    path : Path
        The PNG, SVG or PDF to write.
    title : str
        What is above it all.
    raw : ndarray, YX
        The crop as it is in the image.
    panels : sequence of PreviewPanel
        At least one; more than four go into further rows, with the raw crop in each.
    voxel : VoxelSize
        For the scale bar and the proportions.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    sheet = _Sheet.of(raw.shape, panels, voxel)
    figure = Figure(figsize=sheet.size, dpi=DPI)
    FigureCanvasAgg(figure)
    drawing = _Drawing(figure, sheet, _contrast(raw, panels), voxel)
    drawing.title(title)
    for band in range(sheet.bands):
        drawing.raw(band, raw)
    for number, panel in enumerate(panels):
        band, column = divmod(number, sheet.columns)
        drawing.panel(band, column + 1, panel)
    figure.savefig(path)


def _contrast(raw: NDArray[Any], panels: Sequence[PreviewPanel]) -> tuple[float, float]:
    """Return the grey levels of black and white, the same for all: those that the results need."""
    values = np.concatenate([panel.result.ravel() for panel in panels]).astype(np.float64)
    low, high = np.percentile(values, [0.1, 99.8])
    if high > low:
        return float(low), float(high)
    return float(low), float(max(low + 1, raw.max()))


@dataclass(frozen=True, slots=True)
class _Sheet:
    """Places of everything in inches from the top left; `place` gives them as matplotlib wants."""

    bands: int
    columns: int  # of results
    image: tuple[float, float]  # width and height of a panel
    lines: tuple[int, int]  # of the captions above results and residuals

    @classmethod
    def of(cls, shape: tuple[int, ...], panels: Sequence[PreviewPanel], voxel: VoxelSize) -> _Sheet:
        bands = ceil(len(panels) / _MOST_COLUMNS)
        columns = ceil(len(panels) / bands)
        tall, wide = shape[0] * voxel.y / voxel.x, float(shape[1])
        longest = max(tall, wide)
        room = _LARGE if len(panels) <= _FEW else _SMALL
        zoom = room // longest if longest <= room else min(1.0, _MOST_PIXELS / longest)
        image = (zoom * wide / DPI, zoom * tall / DPI)
        width = max(image[0], _NARROWEST)
        above, below = (
            max(len(_lines(text, width)) for text in texts)
            for texts in ([p.caption for p in panels], [p.below for p in panels])
        )
        return cls(bands, columns, image, (above, below))

    @property
    def room(self) -> float:
        """Width of the room for a panel and its caption."""
        return max(self.image[0], _NARROWEST)

    @property
    def band(self) -> float:
        """Height of a row of results with its residuals."""
        height = self.image[1] + max(self.image[1], _LOWEST)
        return height + (sum(self.lines) + 1) * _LINE + 2 * _GAP

    @property
    def size(self) -> tuple[float, float]:
        width = 2 * _MARGIN + (self.columns + 1) * (self.room + _GAP) - _GAP
        return max(width, 6.4), 2 * _MARGIN + _TITLE + self.bands * self.band

    def corner(self, band: int, column: int, row: int) -> tuple[float, float]:
        """Return the top left of a panel's room: row 0 has results, row 1 residuals."""
        left = _MARGIN + column * (self.room + _GAP)
        top = _MARGIN + _TITLE + band * self.band + (self.lines[0] + 0.5) * _LINE
        if row == 1:
            top += self.image[1] + _GAP + (self.lines[1] + 0.5) * _LINE
        return left, top

    def place(
        self, left: float, top: float, width: float, height: float
    ) -> tuple[float, float, float, float]:
        across, down = self.size
        return left / across, 1 - (top + height) / down, width / across, height / down


@dataclass(frozen=True, slots=True)
class _Drawing:
    figure: Any
    sheet: _Sheet
    contrast: tuple[float, float]
    voxel: VoxelSize

    def title(self, title: str) -> None:
        """Write the title, and below it what the residuals are."""
        note = "Below: residuals, raw minus result. Structure in them has been taken away."
        for text, top, size, weight in ((title, 0.0, 11, "bold"), (note, 0.26, 9, "normal")):
            left, bottom, *_ = self.sheet.place(_MARGIN, _MARGIN + top, 0, 0)
            self.figure.text(left, bottom, text, va="top", fontsize=size, fontweight=weight)

    def raw(self, band: int, raw: NDArray[Any]) -> None:
        """Draw the raw crop with its scale bar; below it the bars of grey levels and colours."""
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize

        axes = self._plane(band, 0, 0, "raw", raw, **self._greys)
        _draw_scale(axes, raw.shape, self.voxel)
        left, top = self.sheet.corner(band, 0, 1)
        margin, width = 0.1 * self.sheet.room, 0.8 * self.sheet.room
        for style, down, label, extend in (
            (self._greys, 0.1, "grey level", "neither"),
            (self._colours, 0.85, "residual (standard deviations of the noise)", "both"),
        ):
            scale = ScalarMappable(Normalize(style["vmin"], style["vmax"]), style["cmap"])
            place = self.figure.add_axes(self.sheet.place(left + margin, top + down, width, 0.14))
            bar = self.figure.colorbar(scale, place, orientation="horizontal", extend=extend)
            bar.set_label(label, fontsize=8)
            bar.ax.tick_params(labelsize=8)

    def panel(self, band: int, column: int, panel: PreviewPanel) -> None:
        """Draw a result and its residual."""
        self._plane(band, column, 0, panel.caption, panel.result, **self._greys)
        self._plane(band, column, 1, panel.below, panel.residual, **self._colours)

    @property
    def _greys(self) -> dict[str, Any]:
        return {"cmap": "gray", "vmin": self.contrast[0], "vmax": self.contrast[1]}

    @property
    def _colours(self) -> dict[str, Any]:
        return {"cmap": "PuOr_r", "vmin": -_RANGE, "vmax": _RANGE}

    def _plane(
        self, band: int, column: int, row: int, caption: str, values: NDArray[Any], **style: Any
    ) -> Any:
        (width, height), room = self.sheet.image, self.sheet.room
        left, top = self.sheet.corner(band, column, row)
        indent = (room - width) / 2
        axes = self.figure.add_axes(self.sheet.place(left + indent, top, width, height))
        # What has more voxels than pixels is averaged; all else keeps the voxels to be seen.
        reduced = values.shape[1] > width * DPI + 1
        axes.imshow(
            values, aspect="auto", interpolation="antialiased" if reduced else "nearest", **style
        )
        axes.set(xticks=[], yticks=[])
        x, y, *_ = self.sheet.place(left + room / 2, top - 0.3 * _LINE, 0, 0)
        text = "\n".join(_lines(caption, room))
        self.figure.text(x, y, text, ha="center", va="bottom", fontsize=9, linespacing=1.15)
        return axes


def _lines(text: str, width: float) -> list[str]:
    """Wrap a caption, after commas only."""
    parts = re.sub(r"(?<!,) ", "\N{NO-BREAK SPACE}", text).split("\n")
    return [line for part in parts for line in wrap(part, int(width * _LETTERS))]


def _draw_scale(axes: Any, shape: tuple[int, ...], voxel: VoxelSize) -> None:
    """Draw a bar of a round length, a third of the width at most, with its length and unit."""
    from matplotlib.patheffects import withStroke

    length = _round_length(shape[1] * voxel.x / 3)
    end, outline = length / voxel.x, [withStroke(linewidth=2.5, foreground="black")]
    x, y = 0.05 * shape[1], 0.94 * shape[0]
    around = [withStroke(linewidth=5, foreground="black")]
    axes.plot(
        [x, x + end], [y, y], color="white", linewidth=3, solid_capstyle="butt", path_effects=around
    )
    axes.text(
        x + end / 2,
        y - 0.025 * shape[0],
        f"{length:g} {voxel.unit}",
        color="white",
        ha="center",
        va="bottom",
        fontsize=9,
        path_effects=outline,
    )
    axes.set(xlim=(-0.5, shape[1] - 0.5), ylim=(shape[0] - 0.5, -0.5))


def _round_length(most: float) -> float:
    """Return the largest of 1, 2, 5 times a power of ten that is not above `most`."""
    power = 10.0 ** floor(log10(most))
    return max(step * power for step in (1, 2, 5) if step * power <= most * (1 + 1e-9))
