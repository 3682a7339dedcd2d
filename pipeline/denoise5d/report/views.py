"""A place of an image, before and after: three planes through it, and lines along each axis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from denoise5d.inspection import View
from denoise5d.noise import NoiseModel
from denoise5d.report.canvas import (
    BLUE,
    CHART,
    FRAME,
    GREY,
    SKY,
    legend_above,
    new_chart,
    new_figure,
    plain,
    png,
)

_WIDTH, _TALLEST = 4.4, 6.0
_LEFT, _RIGHT, _TOP, _BOTTOM, _GAP = 0.62, 0.12, 0.12, 1.1, 0.07
_BAR, _BAR_BOTTOM = 0.13, 0.46
"""Lengths in inches."""

MOST_Z = 4.0
"""Standard deviations of noise at black and white of a residual."""

_SHORT = {"micrometer": "µm", "nanometer": "nm", "millimeter": "mm", "second": "s",
          "millisecond": "ms", "minute": "min", "hour": "h"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Spacing:
    """Distances of voxels, to draw with.

    Attributes
    ----------
    scales : tuple of float
        TCZYX, above 0.
    units : tuple of str
        What they are in.
    """

    scales: tuple[float, ...]
    units: tuple[str, ...]

    @classmethod
    def of(cls, scales: Sequence[float], units: Sequence[str | None]) -> Spacing:
        """Take what the metadata say; where they give no unit, count in voxels along X."""
        sound = [scale if scale > 0 else 1.0 for scale in scales]
        known = all(units[axis] for axis in (3, 4))
        if not known:
            sound[2:] = [scale / sound[4] for scale in sound[2:]]
        words = [plain(_SHORT.get(unit or "", unit or "voxels")) for unit in units]
        if not known:
            words[2:] = ["voxels"] * 3
        if not units[0]:
            sound[0], words[0] = 1.0, "time points"
        return cls(tuple(sound), tuple(words))


def standardised(noisy: NDArray[Any], denoised: NDArray[Any], noise: NoiseModel) -> NDArray[Any]:
    """Return the residual in standard deviations of the noise, 0 where the model gives none."""
    sigma = np.sqrt(noise.variance(denoised.astype(np.float64)))
    difference = noisy.astype(np.float64) - denoised
    z: NDArray[Any] = np.divide(difference, sigma, out=np.zeros_like(difference), where=sigma > 0)
    return z


def contrast(view: View) -> tuple[float, float]:
    """Return the grey levels at black and white, by what was denoised."""
    low, high = (float(v) for v in np.percentile(view.denoised, [0.5, 99.8]))
    return (low, high) if high > low else (low - 1, high + 1)


def planes(view: View, noise: NoiseModel, spacing: Spacing) -> tuple[bytes, bytes, bytes]:
    """Draw before, after and residual; the first two with the same contrast."""
    low, high = contrast(view)
    residual = standardised(view.noisy, view.denoised, noise)
    return (
        _planes(view, view.noisy, spacing, (low, high), "grey level"),
        _planes(view, view.denoised, spacing, (low, high), "grey level"),
        _planes(view, residual, spacing, (-MOST_Z, MOST_Z), "(before − after) / σ of the noise"),
    )


def _planes(
    view: View, volume: NDArray[Any], spacing: Spacing, ends: tuple[float, float], label: str
) -> bytes:
    """Draw XY, with YZ on its right and XZ below, all at one scale; XY alone of a single plane."""
    _, _, z, y, x = (c - a for c, a in zip(view.centre, view.box.start, strict=True))
    sizes = [n * s for n, s in zip(volume.shape, spacing.scales[2:], strict=True)]
    deep, tall, wide = sizes if volume.shape[0] > 1 else (0.0, *sizes[1:])
    gap = _GAP if deep else 0.0
    inch = min((_WIDTH - _LEFT - _RIGHT - gap) / (wide + deep), _TALLEST / (tall + deep))
    height = _TOP + (tall + deep) * inch + gap + _BOTTOM
    figure = new_figure((_WIDTH, height), placed=True)

    def place(left: float, bottom: float, across: float, up: float) -> Any:
        return figure.add_axes((left / _WIDTH, bottom / height, across / _WIDTH, up / height))

    base = _BOTTOM + deep * inch + gap
    main = place(_LEFT, base, wide * inch, tall * inch)
    shown = _plane(main, volume[z], "YX", view, spacing, ends)
    if deep:
        side = place(_LEFT + wide * inch + gap, base, deep * inch, tall * inch)
        _plane(side, volume[:, :, x].T, "YZ", view, spacing, ends)
        below = place(_LEFT, _BOTTOM, wide * inch, deep * inch)
        _plane(below, volume[:, y], "ZX", view, spacing, ends)
        main.set_xticks([])
        side.set_yticks([])
    (below if deep else main).set_xlabel(f"x ({spacing.units[4]})")
    main.set_ylabel(f"y ({spacing.units[3]})")
    if deep:
        below.set_ylabel(f"z ({spacing.units[2]})")
        side.set_xticks([])
        side.set_xlabel("z")
    bar = place(_LEFT, _BAR_BOTTOM, (wide + deep) * inch + gap, _BAR)
    figure.colorbar(shown, cax=bar, orientation="horizontal", label=label)
    return png(figure)


def _plane(
    axes: Any, plane: NDArray[Any], letters: str, view: View, spacing: Spacing,
    ends: tuple[float, float],
) -> Any:  # fmt: skip
    """Draw one plane, rows and columns along the axes of `letters`; mark where the others cut."""
    up, across = ("TCZYX".index(letter) for letter in letters)
    start, scales = view.box.start, spacing.scales
    left, top = (start[axis] * scales[axis] for axis in (across, up))
    extent = (left, left + plane.shape[1] * scales[across], top + plane.shape[0] * scales[up], top)
    shown = axes.imshow(
        plane, cmap="gray", vmin=ends[0], vmax=ends[1], extent=extent, aspect="auto",
        interpolation="nearest",
    )  # fmt: skip
    middle = [(view.centre[axis] + 0.5) * scales[axis] for axis in (across, up)]
    for begin, end in ((0.0, 0.06), (0.94, 1.0)):
        axes.axvline(middle[0], begin, end, color=FRAME, linewidth=1.2)
        axes.axhline(middle[1], begin, end, color=FRAME, linewidth=1.2)
    axes.tick_params(labelsize=8)
    axes.locator_params(nbins=5)
    return shown


def profiles(view: View, noise: NoiseModel, spacing: Spacing) -> Iterator[tuple[str, bytes]]:
    """Yield the letter of each axis longer than 1, and a chart of grey levels along it."""
    _, _, z, y, x = (c - a for c, a in zip(view.centre, view.box.start, strict=True))
    lines = {
        "X": (view.noisy[z, y], view.denoised[z, y], view.box.start[4]),
        "Z": (view.noisy[:, y, x], view.denoised[:, y, x], view.box.start[2]),
        "T": (view.noisy_times, view.denoised_times, view.first),
    }
    for letter, (noisy, denoised, first) in lines.items():
        if len(denoised) > 1:
            axis = "TCZYX".index(letter)
            middle = 0.0 if letter == "T" else 0.5  # a time point has no width
            where = (first + np.arange(len(denoised)) + middle) * spacing.scales[axis]
            label = f"{letter.lower()} ({spacing.units[axis]})"
            yield letter, _profile(where, noisy, denoised, noise, label)


def _profile(
    where: NDArray[Any], noisy: NDArray[Any], denoised: NDArray[Any], noise: NoiseModel, label: str
) -> bytes:
    figure, axes = new_chart(label, "grey level", size=(CHART[0], 2.8))
    axes.locator_params(axis="x", integer="time points" in label)
    after = denoised.astype(np.float64)
    sigma = np.sqrt(noise.variance(after))
    axes.fill_between(where, after - 2 * sigma, after + 2 * sigma, color=SKY, alpha=0.3,
                      linewidth=0, label="after ± 2 σ")  # fmt: skip
    axes.plot(where, noisy, ".-", color=GREY, linewidth=0.6, markersize=4, label="before")
    axes.plot(where, after, color=BLUE, linewidth=1.8, label="after")
    legend_above(figure, axes)
    return png(figure)
