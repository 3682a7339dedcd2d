"""Pictures of results. Needs matplotlib, which the extra ``denoise5d[report]`` brings."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def can_draw() -> bool:
    """Tell whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def save_comparison(
    path: Path, panels: dict[str, NDArray[Any]], *, title: str, details: int = 96
) -> None:
    """Draw planes side by side with the same contrast, and a detail of each below.

    Parameters
    ----------
    path : Path
        The PNG to write.
    panels : dict of ndarray
        Planes (y, x) of one shape by their captions; the contrast is that of the last.
    title : str
        Above all of them.
    details : int
        Side of the detail in voxels; it is where the last panel is brightest.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    last = list(panels.values())[-1]
    low, high = np.percentile(last, [1, 99.7])
    height, width = last.shape
    side = min(details, height, width)
    top, left = _brightest(last, side)
    figure = Figure(figsize=(3.6 * len(panels), 7.6), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(panels), squeeze=False)
    for column, (caption, plane) in enumerate(panels.items()):
        detail = plane[top : top + side, left : left + side]
        for row, part in enumerate((plane, detail)):
            axis = axes[row, column]
            image = axis.imshow(part, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
        axes[0, column].set_title(caption, fontsize=11)
        box = ((left, top), side, side)
        axes[0, column].add_patch(_frame(*box))
    axes[1, 0].set_ylabel(f"detail, {side} x {side} voxels")
    figure.colorbar(image, ax=axes, label="grey level", shrink=0.6)
    figure.suptitle(title, fontsize=12)
    figure.savefig(path)


def _brightest(plane: NDArray[Any], side: int) -> tuple[int, int]:
    """Return the corner of the brightest square of a coarse lattice of squares."""
    step = max(1, side // 2)
    corners = [
        (y, x)
        for y in range(0, plane.shape[0] - side + 1, step)
        for x in range(0, plane.shape[1] - side + 1, step)
    ]
    return max(corners, key=lambda c: float(plane[c[0] : c[0] + side, c[1] : c[1] + side].mean()))


def _frame(corner: tuple[int, int], width: int, height: int) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle(corner, width, height, fill=False, edgecolor="#ffb000", linewidth=1.2)
