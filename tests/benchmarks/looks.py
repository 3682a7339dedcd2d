"""Where PSNR does not look: residuals, flicker, contrast, brightness, lattice pattern, borders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cases import CAMERAS, GROUPS, Case, Noise, Sample, photographed
from denoise5d import resolve_parameters
from denoise5d.geometry import as_index
from measures import (
    autocorrelation,
    border_error,
    brightness,
    contrast_kept,
    flicker,
    lattice_pattern,
    lattice_phase,
    mean_of,
    stable_residual,
)
from tables import Cell, markdown

Run: TypeAlias = Callable[[str, NDArray[Any], Noise], NDArray[Any]]
"""Method's name, image, noise -> result."""

METHODS = ("ndsafir", "bm4d", "fast", "standard", "best")

ASPECTS = {
    "variance": "residual: variance, 1 is the noise's",
    "correlation": "residual: largest autocorrelation at lags 1 to 3, 0 for white noise",
    "flicker": "flicker left, share of the noise's",
    "dim": "contrast left in the dim half of the peaks",
    "bright": "contrast left in the bright half of the peaks",
    "brightness": "mean brightness: largest relative error at 8 levels",
    "lattice": "error's energy at the lattice's frequencies over their neighbours'",
    "phase": "RMS error at the worst place of the lattice's cell over that of all",
}
"""What `look` returns, in words."""


def look(sample: Sample, result: NDArray[Any]) -> dict[str, float]:
    """Measure all aspects of a result that its case has."""
    residual = stable_residual(sample.image, result, sample.noise)
    lags = autocorrelation(residual, 3)
    dim, bright = contrast_kept(result, sample.truth)
    found = {
        "variance": float(residual.var()),
        "correlation": max((c for row in lags.values() for c in row), key=abs),
        "dim": dim,
        "bright": bright,
        "lattice": lattice_pattern(result, sample.truth, stride(sample)),
        "phase": lattice_phase(result, sample.truth, stride(sample)),
    }
    if sample.truth.shape[0] > 1:
        found["flicker"] = flicker(result, sample.truth) / flicker(sample.image, sample.truth)
    if sample.black:
        found["brightness"] = brightness(result, sample.truth, sample.black, sample.noise.gain)
    return found


def stride(sample: Sample) -> tuple[int, ...]:
    """Distance of the refinement's reference patches, TCZYX."""
    ridge = resolve_parameters(as_index(sample.truth.shape)).ridge
    assert ridge is not None
    return ridge.stride


def aspects_table(records: list[dict[str, Any]]) -> str:
    """Return the mean of each aspect in each group; of some the worst case is of interest."""
    rows: list[list[Cell]] = []
    for aspect, words in ASPECTS.items():
        for group in GROUPS:
            part = [r["looks"] for r in records if r["group"] == group]
            values = {m: [p[m][aspect] for p in part if aspect in p.get(m, {})] for m in METHODS}
            if any(values.values()):
                rows.append([f"{words}; {group}", *(mean_of(values[m]) for m in METHODS)])
    return markdown(["mean of all cases", *METHODS], rows, 3)


STEPS = (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 400)
"""Photons of the flat steps that brightness is measured on."""


def stairs() -> Sample:
    """Return a volume of flat steps, 24 pixels wide, so that nothing but the inverse is tested."""
    photons = np.repeat(np.array(STEPS, np.float32), 24)
    return photographed(np.broadcast_to(photons, (1, 1, 12, 96, photons.size)), CAMERAS[0], 7)


def step_ratios(result: NDArray[Any], sample: Sample) -> list[float]:
    """Return mean light over true light on each step, 4 pixels from its edges."""
    steps = result.astype(np.float64).reshape(-1, len(STEPS), 24)[..., 4:-4].mean(axis=(0, 2))
    truth = sample.truth.astype(np.float64).reshape(-1, len(STEPS), 24)[..., 4:-4].mean(axis=(0, 2))
    return [float(x) for x in (steps - sample.black) / (truth - sample.black)]


def stairs_table(run: Run, methods: list[str]) -> tuple[str, dict[str, list[float]]]:
    """Run every method on the stairs; return the table and the ratios."""
    sample = stairs()
    ratios = {m: step_ratios(run(m, sample.image, sample.noise), sample) for m in methods}
    rows = [[f"{n:g}", *(ratios[m][i] for m in methods)] for i, n in enumerate(STEPS)]
    return markdown(["photons", *methods], rows, 3), ratios


BORDERS: tuple[tuple[Case, str, tuple[int, ...]], ...] = (
    (Case("2-D", "membranes", "mid"), "y, x", (0, 0, 0, 40, 40)),
    (Case("2-D+t", "membranes", "low", 0.5), "y, x", (0, 0, 0, 24, 24)),
    (Case("2-D+t", "membranes", "low", 0.5), "t", (3, 0, 0, 0, 0)),
    (Case("3-D", "membranes", "low"), "y, x", (0, 0, 0, 16, 16)),
    (Case("3-D", "membranes", "low"), "z", (0, 0, 5, 0, 0)),
    (Case("4-D", "membranes", "low", 0.5), "y, x", (0, 0, 0, 10, 10)),
    (Case("4-D", "membranes", "low", 0.5), "z", (0, 0, 3, 0, 0)),
    (Case("4-D", "membranes", "low", 0.5), "t", (1, 0, 0, 0, 0)),
)
"""Case, axes of the new borders, and how much is cut off at each end."""

_REACH = 12


def border_curves(run: Run, methods: list[str]) -> dict[str, dict[str, list[float]]]:
    """Return, by "group axes" and method, the error at distances from a border over that inside."""
    curves: dict[str, dict[str, list[float]]] = {}
    for case, axes, margin in BORDERS:
        whole = case.sample()
        cut = whole.cut(margin)
        across = [axis for axis in range(5) if margin[axis]]
        reach = min(_REACH, *((cut.truth.shape[axis] + 1) // 2 for axis in across))
        for method in methods:
            inside = replace(whole, truth=run(method, whole.image, whole.noise)).cut(margin).truth
            result = run(method, cut.image, cut.noise)
            curve = np.sqrt(border_error(result, inside, cut.truth, across, reach))
            curves.setdefault(f"{case.group} {axes}", {})[method] = curve.tolist()
    return curves


def border_table(curves: dict[str, dict[str, list[float]]], methods: list[str]) -> str:
    """Return the curves at a few distances: RMS error over that of the same voxels inside."""
    rows: list[list[Cell]] = []
    for place, by_method in curves.items():
        known = len(next(iter(by_method.values())))
        rows += [
            [f"{place}: distance {d}", *(by_method[m][d] for m in methods)]
            for d in (0, 1, 2, 4, 8)
            if d < known
        ]
    return markdown(["RMS error over that inside", *methods], rows)
