"""Draw the figures of the algorithm's page, from the numbers that the program uses.

    python docs/figures/draw.py

Each SVG bears what it was drawn from, so that a test can tell when it is out of date.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from denoise5d import estimate_noise, reach, resolve_parameters
from denoise5d.geometry import BlockGrid, Box
from denoise5d.parameters import Parameters
from denoise5d.report.canvas import BLUE, GREY, ORANGE, RED

HERE = Path(__file__).parent

PLANE = (1, 1, 1, 512, 512)
VOLUME = (9, 1, 40, 512, 512)
GAIN, BLACK, READ_NOISE = 3.92, 100.0, 2.0

T, Z, Y, X = 0, 2, 3, 4


def _square(radius: float, centre: tuple[float, float] = (0, 0), **style: Any) -> Rectangle:
    """Return the outline of the pixels within a radius of a centre (x, y)."""
    x, y = centre
    side = 2 * radius + 1
    return Rectangle((x - side / 2, y - side / 2), side, side, **style)


def _hollow(colour: str, **style: Any) -> dict[str, Any]:
    return {"fill": False, "edgecolor": colour, "linewidth": 1.8} | style


# ---- windows ----


def windows() -> Figure:
    """Draw SAFIR's search windows: those of a plane by iteration, and that of a 4-D image."""
    figure = Figure(figsize=(9.2, 7.2))
    above = figure.add_gridspec(1, 3, wspace=0.08, left=0.09, right=0.99, top=0.88, bottom=0.53)
    below = figure.add_gridspec(
        3, 3, wspace=0, hspace=0.1, left=0.3, right=0.74, top=0.36, bottom=0.01
    )
    _iterations(figure, above, resolve_parameters(PLANE, ridge=False))
    _all_axes(figure, below, resolve_parameters(VOLUME, ridge=False))
    keys = {
        "voxel to estimate": Rectangle((0, 0), 1, 1, facecolor="black"),
        "voxels that may be averaged": Rectangle((0, 0), 1, 1, facecolor=BLUE, alpha=0.45),
        "its patch": Rectangle((0, 0), 1, 1, **_hollow(RED)),
        "the patch of one of them": Rectangle((0, 0), 1, 1, **_hollow(RED, linestyle=":")),
    }
    figure.legend(keys.values(), keys.keys(), loc="upper center", ncols=4, frameon=False)
    return figure


def _iterations(figure: Figure, places: Any, parameters: Parameters) -> None:
    """Draw a panel an iteration, all to the same scale."""
    patch = parameters.patch[X]
    span = parameters.windows[-1][X] + patch + 2
    for n, window in enumerate(parameters.windows):
        axes = figure.add_subplot(places[n])
        radius = window[X]
        axes.add_patch(_square(radius, facecolor=BLUE, alpha=0.45))
        axes.add_patch(_square(0, facecolor="black"))
        axes.add_patch(_square(patch, **_hollow(RED)))
        axes.add_patch(_square(patch, (radius, radius), **_hollow(RED, linestyle=":")))
        voxels = (2 * radius + 1) ** 2
        axes.set_title(
            f"one plane, iteration {n + 1}: radius {radius}, {voxels} voxels", fontsize=9
        )
        axes.set(xlim=(-span, span), ylim=(span, -span), aspect="equal", xlabel="x (voxels)")
        axes.set(ylabel="y (voxels)", xticks=range(-8, 9, 4), yticks=range(-8, 9, 4))
        axes.label_outer()


def _all_axes(figure: Figure, places: Any, parameters: Parameters) -> None:
    """Draw a panel for each time point and plane of the one window of a 4-D image."""
    (window,) = parameters.windows
    patch, span = parameters.patch, 3.5
    for row, column in np.ndindex(2 * window[Z] + 1, 2 * window[T] + 1):
        z, t = row - window[Z], column - window[T]
        axes = figure.add_subplot(places[row, column])
        axes.add_patch(_square(window[X], facecolor=BLUE, alpha=0.45))
        if abs(z) <= patch[Z] and abs(t) <= patch[T]:
            axes.add_patch(_square(patch[X], **_hollow(RED)))
        if (z, t) == (0, 0):
            axes.add_patch(_square(0, facecolor="black"))
        axes.set(xlim=(-span, span), ylim=(span, -span), aspect="equal", xticks=[], yticks=[])
        if row == 0:
            axes.set_title(_around("t", t), fontsize=10)
        if column == 0:
            axes.set_ylabel(_around("z", z), rotation=0, ha="right", va="center")
    voxels = math.prod(2 * radius + 1 for radius in window)
    figure.text(
        0.52, 0.415, f"T and Z, the only iteration: {voxels} voxels", ha="center", fontsize=9
    )


def _around(axis: str, step: int) -> str:
    return axis if step == 0 else f"{axis} {'+' if step > 0 else '−'} {abs(step)}"


# ---- halo ----


def halo() -> Figure:
    """Draw two blocks with what they read, and what the reach is made of."""
    figure = Figure(figsize=(9.2, 4.3), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.25))
    parameters = resolve_parameters(VOLUME)
    _blocks(left, reach(parameters))
    _parts(right, parameters)
    return figure


def _blocks(axes: Any, margin: tuple[int, ...]) -> None:
    """Draw a block at the image's corner and one inside."""
    shape, block = (1, 1, 1, 192, 192), (1, 1, 1, 48, 48)
    grid = BlockGrid(shape, block, (0, 0, 0, margin[Y], margin[X]))
    for cell in grid:
        axes.add_patch(_rectangle(cell.core, fill=False, edgecolor=GREY, linewidth=0.8))
    for place in ((0, 0, 0, 0, 0), (0, 0, 0, 96, 96)):
        cell = grid[grid.index_of(place)]
        axes.add_patch(_rectangle(cell.padded, facecolor=ORANGE, alpha=0.55))
        axes.add_patch(_rectangle(cell.core, facecolor=BLUE, edgecolor=BLUE))
        middle = [(a + b) / 2 for a, b in zip(cell.core.start, cell.core.stop, strict=True)]
        axes.text(middle[X], middle[Y], "core:\nwritten", color="white", ha="center", va="center")
    white = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    axes.text(cell.padded.start[X], cell.padded.start[Y] - 5, "halo: read as well", bbox=white)
    axes.text(66, 24, "none outside the image", va="center", bbox=white)
    axes.add_patch(_rectangle(Box.whole(shape), fill=False, edgecolor="black", linewidth=2))
    axes.set(xlim=(-6, 198), ylim=(198, -6), aspect="equal")
    axes.set(xlabel="x (voxels)", ylabel="y (voxels)", xticks=range(0, 193, 48))
    axes.set(yticks=range(0, 193, 48))
    axes.set_title("two blocks of an image, with an exact halo", fontsize=10)


def _rectangle(box: Box, **style: Any) -> Rectangle:
    return Rectangle((box.start[X], box.start[Y]), box.shape[X], box.shape[Y], **style)


def _parts(axes: Any, parameters: Parameters) -> None:
    """Draw a bar an axis, of what makes up the reach."""
    total, names = reach(parameters), {"Y and X": X, "Z": Z, "T": T}
    for row, axis in enumerate(names.values()):
        begin = 0
        for label, length, style in _lengths(parameters, axis):
            bar = {"left": begin, "height": 0.55, "edgecolor": "black", "linewidth": 0.8}
            axes.barh(row, length, label=label if row == 0 else None, **bar, **style)
            begin += length
        assert begin == total[axis]
        axes.text(begin + 0.25, row, f"{begin}", va="center", weight="bold")
    axes.set(yticks=range(len(names)), yticklabels=names, xlim=(0, max(total) + 1.5))
    axes.set_xlabel("reach on each side (voxels)")
    axes.set_title("what an exact halo is made of, T and Z", fontsize=10)
    axes.legend(loc="upper right", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)


def _lengths(parameters: Parameters, axis: int) -> list[tuple[str, int, dict[str, str]]]:
    """Return the parts of the reach on one axis, in voxels, and how they are drawn."""
    iterations, ridge = len(parameters.windows), parameters.ridge
    assert ridge is not None
    rounds = 2 * ridge.rounds  # a patch of the group reads as far again
    searched = sum(window[axis] for window in parameters.windows)
    compared = 2 * iterations * parameters.patch[axis]  # once to compare, once to vote
    return [
        ("SAFIR: search windows", searched, {"color": BLUE}),
        ("SAFIR: patches", compared, {"color": "#56b4e9", "hatch": "//"}),
        ("refinement: search", rounds * ridge.search[axis], {"color": ORANGE}),
        ("refinement: patches", rounds * ridge.patch[axis], {"color": "#f0e442", "hatch": "//"}),
    ]


# ---- noise ----


def noise() -> Figure:
    """Draw the line of a camera's variance, and what the transform makes of it."""
    figure = Figure(figsize=(9.2, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    _line(left)
    _transform(right)
    return figure


def _camera(photons: Any, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    return GAIN * rng.poisson(photons) + rng.normal(BLACK, READ_NOISE, np.shape(photons))


def _line(axes: Any) -> None:
    ramp = np.broadcast_to(np.linspace(1, 100, 384), (8, 256, 384))
    (estimate,) = estimate_noise(_camera(ramp, 0).astype(np.float32), axes="ZYX")
    edge = {"markeredgecolor": "black", "markeredgewidth": 0.5}
    axes.plot(estimate.means, estimate.variances, "o", color=ORANGE, **edge, label="measured")
    mean = np.array([BLACK, BLACK + 100 * GAIN])
    offset = READ_NOISE**2 - GAIN * BLACK
    axes.plot(mean, GAIN * mean + offset, color=BLUE, linewidth=2, label="gain · mean + offset")
    axes.plot(
        [BLACK], [READ_NOISE**2], "s", color="black", label="no light: black level, read noise²"
    )
    model = estimate.model
    words = f"camera: gain {GAIN:g}, offset {offset:.0f}\nfound: gain {model.gain:.2f}, "
    axes.text(0.97, 0.06, f"{words}offset {model.offset:.0f}", ha="right", transform=axes.transAxes)
    axes.set(xlabel="mean (grey levels)", ylabel="variance (grey levels²)", ylim=(-60, None))
    axes.set(xlim=(60, None))
    axes.legend(fontsize=9)


def _transform(axes: Any) -> None:
    photons = np.geomspace(0.2, 500, 24)
    grey = _camera(np.repeat(photons[:, None], 40_000, 1), 1)
    offset = READ_NOISE**2 - GAIN * BLACK
    stable = 2 / GAIN * np.sqrt(np.maximum(0, GAIN * grey + 3 / 8 * GAIN**2 + offset))
    axes.plot(photons, grey.std(1) / GAIN, "o-", color=ORANGE, label="before, in photons")
    axes.plot(photons, stable.std(1), "s-", color=BLUE, label="after the transform")
    axes.axhline(1, color="black", linewidth=0.8, linestyle=":")
    axes.set(xscale="log", yscale="log", xlabel="brightness (photons)")
    axes.set(ylabel="standard deviation of the noise")
    axes.set(xticks=[1, 10, 100], xticklabels=["1", "10", "100"])
    axes.set(yticks=[0.5, 1, 2, 5, 10, 20], yticklabels=["0.5", "1", "2", "5", "10", "20"])
    axes.minorticks_off()
    axes.legend(fontsize=9)


FIGURES: dict[str, Callable[[], Figure]] = {"windows": windows, "halo": halo, "noise": noise}


def drawn_from() -> str:
    """Return what the figures depend on: this script and the parameters of the program."""
    script = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]
    cases = [resolve_parameters(shape) for shape in (PLANE, VOLUME)]
    return f"draw.py {script}, {[(case, reach(case)) for case in cases]}"


def main() -> None:
    """Write every figure beside this script."""
    about = {"Date": None, "Description": drawn_from()}
    with mpl.rc_context({"svg.hashsalt": "denoise5d", "hatch.linewidth": 0.6}):
        for name, draw in FIGURES.items():
            draw().savefig(HERE / f"{name}.svg", metadata=about)


if __name__ == "__main__":
    main()
