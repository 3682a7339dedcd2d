"""Charts of a whole channel: its grey levels, its residual, and the cuts between its blocks."""

from __future__ import annotations

from math import pi, sqrt
from typing import Any

import numpy as np

from denoise5d.inspection import ChannelFindings
from denoise5d.report.canvas import BLUE, GREY, ORANGE, RED, SKY, legend_above, new_chart, png
from denoise5d.residuals import LAGS, ResidualStatistics
from denoise5d.seams import Seams
from denoise5d.verdicts import (
    ALIKE_BOUNDS,
    OPPOSED_BOUNDS,
    SEAM_BOUNDS,
    STRUCTURE_BOUNDS,
    VARIANCE_BOUNDS,
)

_BINS = 160


def histogram(found: ChannelFindings) -> bytes:
    """Draw the grey levels of the same voxels, before and after."""
    figure, axes = new_chart("grey level", "share of the voxels")
    low, high = np.percentile(found.noisy, [0.01, 99.99])
    whole = found.noisy.dtype.kind in "ui"
    step = max((high - low) / _BINS, 1e-12)
    if whole:  # bins of as many grey levels each
        step = max(1.0, np.ceil(step))
        low = np.floor(low) - 0.5
    edges = low + step * np.arange(int(np.ceil((high - low) / step)) + 2)
    for values, colour, label in ((found.noisy, GREY, "before"), (found.denoised, BLUE, "after")):
        counts, _ = np.histogram(values, edges)
        axes.stairs(counts / values.size, edges, color=colour, linewidth=1.6, label=label)
    axes.set_yscale("log")
    legend_above(figure, axes)
    return png(figure)


def residual_histogram(found: ResidualStatistics) -> bytes:
    """Draw how often each z is, with the curve of Gaussian noise."""
    figure, axes = new_chart("residual (σ of the noise)", "density")
    axes.stairs(found.density, found.edges, fill=True, color=SKY, alpha=0.6, label="residual")
    z = np.linspace(found.edges[0], found.edges[-1], 301)
    curve = np.exp(-(z**2) / 2) / sqrt(2 * pi)
    axes.plot(z, curve, color="black", linewidth=1.2, label="Gaussian noise of the model")
    axes.set_yscale("log")
    axes.set_ylim(1e-6, 1)
    legend_above(figure, axes)
    return png(figure)


def residual_levels(found: ResidualStatistics) -> bytes:
    """Draw variance and mean of the residual over the grey level."""
    figure, axes = new_chart("grey level after", "of the residual")
    _band(axes, *VARIANCE_BOUNDS[0])
    axes.plot(found.levels, found.level_variances, "o-", color=BLUE, markersize=5,
              label="variance (σ²)")  # fmt: skip
    axes.plot(found.levels, found.level_means, "s-", color=ORANGE, markersize=5, label="mean (σ)")
    axes.axhline(0, color="black", linewidth=0.6)
    top = max(1.2, float(found.level_variances.max()) + 0.1)
    axes.set_ylim(min(-0.2, float(found.level_means.min()) - 0.1), top)
    legend_above(figure, axes)
    return png(figure)


def correlations(found: ResidualStatistics) -> bytes:
    """Draw the correlation with neighbours along each axis."""
    figure, axes = new_chart("distance of the voxels", "correlation of the residual")
    _band(axes, -OPPOSED_BOUNDS[0], ALIKE_BOUNDS[0])
    many = len(found.correlations)
    colours = dict(zip("TZYX", (RED, ORANGE, SKY, BLUE), strict=True))
    hatches = dict(zip("TZYX", ("//", "", "..", ""), strict=True))
    for number, (axis, values) in enumerate(found.correlations.items()):
        places = np.arange(1, len(values) + 1) + (number - (many - 1) / 2) * 0.8 / many
        axes.bar(places, values, 0.7 / many, color=colours[axis], label=axis.lower(),
                 hatch=hatches[axis], edgecolor="black", linewidth=0.6)  # fmt: skip
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xticks(range(1, LAGS + 1), [f"{n} voxel{'s' * (n > 1)}" for n in range(1, LAGS + 1)])
    most = max([0.15, *(abs(v) for values in found.correlations.values() for v in values)])
    axes.set_ylim(-1.2 * most, 1.2 * most)
    legend_above(figure, axes)
    return png(figure)


def structure(found: ResidualStatistics) -> bytes:
    """Draw how much cell means of the residual vary, from the flattest parts to those with most."""
    figure, axes = new_chart("contrast of the result in a cell (σ)", "variance / white noise's")
    _band(axes, 0, STRUCTURE_BOUNDS[0])
    places = np.arange(1, len(found.structures) + 1)
    axes.bar(places, found.structure_ratios, 0.8, color=BLUE, label="measured")
    axes.axhline(1, color="black", linewidth=0.8, linestyle="--", label="white noise")
    axes.set_xticks(places, [f"{value:.2g}" for value in found.structures], fontsize=8)
    axes.set_ylim(0, max(1.4, 1.1 * float(found.structure_ratios.max())))
    legend_above(figure, axes)
    return png(figure)


def seams(found: Seams) -> bytes:
    """Draw jumps across faces and beside them."""
    assert found.profile is not None
    assert found.errors is not None
    letter = found.axis.lower()
    figure, axes = new_chart(f"distance from the face along {letter} (voxels)", "jump / others")
    _band(axes, 2 - SEAM_BOUNDS[0], SEAM_BOUNDS[0])
    offsets = np.array(found.offsets)
    axes.axvline(0, color=GREY, linewidth=1, linestyle=":")
    for chosen, colour, mark, label in (
        (offsets != 0, BLUE, "o", "beside the faces"),
        (offsets == 0, RED, "D", "across the faces"),
    ):
        axes.errorbar(
            offsets[chosen], found.profile[chosen], 2 * found.errors[chosen], fmt=mark,
            color=colour, capsize=3, markersize=6, label=label,
        )  # fmt: skip
    axes.set_xticks(offsets)
    low, high = float(found.profile.min()), float(found.profile.max())
    axes.set_ylim(min(0.7, low - 0.1), max(1.3, 1.15 * high))
    legend_above(figure, axes)
    return png(figure)


def _band(axes: Any, low: float, high: float) -> None:
    """Shade what is right."""
    axes.axhspan(low, high, color=PALE_GREEN, linewidth=0, label="right", zorder=0)


PALE_GREEN = "#dcefe7"
