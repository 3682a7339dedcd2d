"""Pictures of results and curves, drawn with matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from cases import Sample
from measures import psnr, stable_residual

_DPI = 90
_DETAIL = 80
_COLOURS = {
    "ndsafir 4": "tab:red",
    "bm4d": "tab:green",
    "fast": "tab:cyan",
    "standard": "tab:blue",
    "best": "black",
}


def draw_results(path: Path, shown: dict[str, tuple[Sample, dict[str, NDArray[Any]]]]) -> None:
    """Draw results side by side, and below each what was taken from the image.

    ::

        case      noisy   method  ...  truth
                          residual ...  noise      (in standard deviations, -3 to 3)

    Parameters
    ----------
    path : Path
        The PNG to write.
    shown : dict
        By caption: the case and the results by method, all cases with the same methods.
    """
    methods = list(next(iter(shown.values()))[1])
    columns, rows = len(methods) + 2, 3 * len(shown)  # of three rows one holds titles
    figure = Figure(figsize=(1.7 * columns + 0.3, 3.65 * len(shown)), dpi=_DPI)
    FigureCanvasAgg(figure)
    heights = {"height_ratios": [0.12, 1, 1] * len(shown)}
    axes = figure.subplots(rows, columns, squeeze=False, gridspec_kw=heights)
    for row, (caption, (sample, results)) in enumerate(shown.items()):
        panels = {"noisy": sample.image, **results, "truth": sample.truth}
        truth = _detail(sample.truth)
        low, high = np.percentile(truth, [0.5, 99.8])
        for column, (name, panel) in enumerate(panels.items()):
            top, below = axes[3 * row + 1, column], axes[3 * row + 2, column]
            top.imshow(_detail(panel), cmap="gray", vmin=low, vmax=high, interpolation="nearest")
            score = "" if name == "truth" else f" {psnr(panel, sample.truth):.1f} dB"
            top.set_title(name + score, fontsize=9, pad=3)
            if name != "noisy":
                residual = stable_residual(sample.image, panel, sample.noise)
                below.imshow(
                    _detail(residual), cmap="gray", vmin=-3, vmax=3, interpolation="nearest"
                )
        axes[3 * row + 1, 0].set_ylabel(caption, fontsize=9)
        note = "noisy image minus\nresult, in units\nof the noise"
        axes[3 * row + 2, 0].text(0.5, 0.5, note, fontsize=9, ha="center", va="center")
    for axis in axes.ravel():
        axis.set_xticks([])
        axis.set_yticks([])
        for spine in axis.spines.values():
            spine.set_visible(False)
    figure.subplots_adjust(0.03, 0.003, 0.997, 1, 0.02, 0.02)
    figure.savefig(path)


def _detail(stack: NDArray[Any]) -> NDArray[Any]:
    """Return the middle of the middle plane of the middle frame."""
    plane = stack[stack.shape[0] // 2, 0, stack.shape[2] // 2]
    inner = [slice(max(0, (n - _DETAIL) // 2), (n + _DETAIL) // 2) for n in plane.shape]
    return plane[inner[0], inner[1]]


def draw_borders(path: Path, curves: dict[str, dict[str, list[float]]]) -> None:
    """Draw the error over the distance from the border, a panel a group and axis."""
    rows = -(-len(curves) // 4)
    figure = Figure(figsize=(11, 2.7 * rows + 0.3), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, 4, squeeze=False, sharey=True).ravel()
    for axis in panels[len(curves) :]:
        axis.set_visible(False)
    for axis, (place, by_method) in zip(panels, curves.items(), strict=False):
        for method, curve in by_method.items():
            axis.plot(curve, label=method, color=_COLOURS[method], marker=".", markersize=4)
        axis.axhline(1, color="gray", linewidth=0.8, linestyle=":")
        axis.set_title(place, fontsize=10)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.supxlabel("voxels from the border", fontsize=10)
    figure.supylabel("RMS error over that of the same voxels in a larger image", fontsize=10)
    panels[0].legend(fontsize=8)
    figure.savefig(path)
