"""How time grows with threads, voxels, contents and windows.

``python tests/benchmarks/scaling.py``
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from cases import CAMERAS, PHOTONS, Sample, part_of_embryo, photographed
from denoise5d import resolve_parameters
from denoise5d.geometry import Box, Index
from denoise5d.machine import available_cpus
from denoise5d.parameters import Parameters, resolve_ridge
from denoise5d.phantom import Embryo
from peers import computed, fast, standard
from tables import Cell, arguments, markdown, write

THREAD_SHAPES: dict[str, Index] = {"4-D": (4, 1, 24, 256, 256), "3-D": (1, 1, 48, 320, 320)}

OVERSUBSCRIBED = 76
"""Threads asked for whatever the machine has: a node's."""

MEGAVOXELS = (1, 2, 4, 8, 16, 32, 64, 100)


def scene(shape: Index) -> Sample:
    """Return an image of any size: a part of the embryo, repeated along Y and X."""
    t, c, z, y, x = shape
    tile = (t, c, z, min(y, 128), min(x, 128))
    small = photographed(part_of_embryo(tile, 3, PHOTONS["mid"]), CAMERAS[0], 3)
    repeats = (1, 1, 1, -(-y // tile[3]), -(-x // tile[4]))
    image = np.tile(small.image, repeats)[..., :y, :x]
    return Sample(image, np.ascontiguousarray(image), small.noise)


def seconds(call: Callable[..., object], *args: object) -> float:
    start = perf_counter()
    call(*args)
    return perf_counter() - start


def threads(repeats: int) -> tuple[str, Any]:
    """Time 1, all and far too many threads in turns; check that the bits are the same."""
    counts = sorted({1, available_cpus(), OVERSUBSCRIBED})
    rows: list[list[Cell]] = []
    for group, shape in THREAD_SHAPES.items():
        sample = scene(shape)
        for name, method in (("fast", fast), ("standard", standard)):
            first = method(sample.image, sample.noise, 1)
            results = [method(sample.image, sample.noise, n) for n in counts]
            same = all(np.array_equal(first, result) for result in results)
            times: dict[int, list[float]] = {n: [] for n in counts}
            for _ in range(repeats):
                for n in counts:
                    times[n].append(seconds(method, sample.image, sample.noise, n))
            for n in counts:
                gain = median(a / b for a, b in zip(times[1], times[n], strict=True))
                share = gain / min(n, available_cpus())
                rows.append([f"{group} {name}", n, median(times[n]), gain, share, _yes(same)])
    head = ["image", "threads", "seconds", "times as fast", "efficiency per CPU", "same bits"]
    return markdown(head, rows), [dict(zip(head, row, strict=True)) for row in rows]


def voxels(most: int) -> tuple[str, Any]:
    """Time the defaults on 4-D images from 1 to `most` million voxels."""
    rows: list[list[Cell]] = []
    for mega in (m for m in MEGAVOXELS if m <= most):
        side = round((mega * 1e6 / (4 * 16)) ** 0.5)
        sample = scene((4, 1, 16, side, side))
        taken = seconds(standard, sample.image, sample.noise, available_cpus())
        count = prod(sample.image.shape) / 1e6
        rows.append([f"{count:.1f}", taken, count / taken])
    head = ["million voxels", "seconds", "million voxels per second"]
    return markdown(head, rows), [dict(zip(head, row, strict=True)) for row in rows]


def windows(shape: Index) -> tuple[str, Any]:
    """Time larger search windows of both stages against the smallest."""
    sample = scene(shape)
    plain = resolve_parameters(shape, ridge=False)
    runs: dict[str, Parameters] = {}
    for n in (1, 2, 3, 4):
        patch_window = (1, 0, 1, n, n)
        runs[f"SAFIR, window {list(patch_window)}"] = replace(plain, windows=(patch_window,))
    for n in (1, 2, 3, 4):
        ridge = resolve_ridge(shape, search=(1, 0, 1, n, n))
        runs[f"and refinement, search {list(ridge.search)}"] = replace(plain, ridge=ridge)
    rows: list[list[Cell]] = []
    for name, parameters in runs.items():
        window = parameters.ridge.search if parameters.ridge else parameters.windows[0]
        offsets = prod(2 * w + 1 for w in window)
        call = (computed, sample.image, sample.noise, parameters, available_cpus())
        taken = median(seconds(*call) for _ in range(3))
        rows.append([name, offsets, taken, taken / sample.image.size * 1e9])
    head = ["stages", "offsets", "seconds", "ns a voxel"]
    return markdown(head, rows), [dict(zip(head, row, strict=True)) for row in rows]


def contents() -> tuple[str, Any]:
    """Time images of one shape that hold more or less: background is cheap to the refinement."""
    shape = THREAD_SHAPES["4-D"]
    dark = np.full(shape, PHOTONS["mid"] / 50, np.float32)
    whole = Embryo(shape, seed=3, peak=PHOTONS["mid"]).render(Box.whole(shape))
    samples = {
        "background alone": photographed(dark, CAMERAS[0], 3),
        "the demo's embryo, with what is around it": photographed(whole, CAMERAS[0], 3),
        "tissue from border to border": scene(shape),
    }
    times: dict[str, list[list[float]]] = {name: [] for name in samples}
    for _ in range(3):
        for name, sample in samples.items():
            call = (sample.image, sample.noise, available_cpus())
            times[name].append([seconds(fast, *call), seconds(standard, *call)])
    rows: list[list[Cell]] = []
    for name, runs in times.items():
        pilot, both = (median(column) for column in zip(*runs, strict=True))
        rows.append([name, pilot, both - pilot, prod(shape) / both / 1e6])
    head = ["image", "pilot, s", "refinement, s", "million voxels per second"]
    return markdown(head, rows), [dict(zip(head, row, strict=True)) for row in rows]


def _yes(true: bool) -> str:
    return "yes" if true else "NO"


def main() -> None:
    options = arguments("Time over threads, voxels, contents and windows.").parse_args()
    parts, numbers = [], {}
    for name, title, (table, found) in (
        ("threads", "Threads, in turns:", threads(1 if options.quick else 3)),
        ("voxels", "Voxels, 4-D, defaults:", voxels(8 if options.quick else MEGAVOXELS[-1])),
        ("contents", "What the image holds, 4-D, defaults, in turns:", contents()),
        ("windows", "Search windows, 4-D:", windows(THREAD_SHAPES["4-D"])),
    ):
        parts += [title, table]
        numbers[name] = found
    write(options.output, "scaling", "\n\n".join(parts), numbers, quick=options.quick)


if __name__ == "__main__":
    main()
