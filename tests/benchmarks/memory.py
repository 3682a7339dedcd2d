"""Peak memory of the kernel's call: ``python tests/benchmarks/memory.py``.

Each call runs in a process of its own. What counts is the highest resident memory during the call
over that before there was any image, so input, output and thread scratch are in it; the unit is
the block in float32. Needs Linux (``/proc``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from cases import CAMERAS, PHOTONS, part_of_embryo, photographed
from denoise5d import resolve_parameters
from denoise5d.geometry import Index
from denoise5d.parameters import Parameters
from peers import THREADS, computed
from tables import Cell, arguments, markdown, write

SHAPES: dict[str, Index] = {  # 64 MiB each in float32
    "4-D": (4, 1, 16, 512, 512),
    "3-D": (1, 1, 64, 512, 512),
    "2-D+t": (16, 1, 1, 1024, 1024),
    "2-D": (1, 1, 1, 4096, 4096),
}
QUICK_SHAPES: dict[str, Index] = {
    name: (t, c, z, y // 2, x // 2) for name, (t, c, z, y, x) in SHAPES.items()
}

DTYPES = ("uint16", "float32")

LIMIT = 5.0
"""Blocks in float32 that 16-bit data may take at most."""


def _rounds(shape: Index, rounds: int) -> Parameters:
    parameters = resolve_parameters(shape)
    assert parameters.ridge is not None
    return replace(parameters, ridge=replace(parameters.ridge, rounds=rounds))


METHODS: dict[str, Callable[[Index], Parameters]] = {
    "safir, 1 iteration": lambda shape: resolve_parameters(shape, iterations=1, ridge=False),
    "safir, 2 iterations": lambda shape: resolve_parameters(shape, iterations=2, ridge=False),
    "safir, 3 iterations": lambda shape: resolve_parameters(shape, iterations=3, ridge=False),
    "standard": lambda shape: _rounds(shape, 1),
    "best": lambda shape: _rounds(shape, 2),
}


def peak_blocks(method: str, dtype: str, shape: Index) -> float:
    """Return the peak of one call in float32 blocks; to be run in a process of its own."""
    tile = (min(shape[0], 4), 1, min(shape[2], 16), 64, 64)
    small = photographed(part_of_embryo(tile, 3, PHOTONS["mid"]), CAMERAS[0], 3)
    parameters = METHODS[method](shape)
    computed(small.image, small.noise, METHODS[method](tile), THREADS)  # libraries, thread stacks
    before = _resident("VmRSS")
    repeats = [-(-n // m) for n, m in zip(shape, tile, strict=True)]
    image = np.tile(small.image.astype(dtype), repeats)
    Path("/proc/self/clear_refs").write_text("5")  # starts the high-water mark anew
    computed(image, small.noise, parameters, THREADS)
    return (_resident("VmHWM") - before) / (4 * image.size)


def _resident(field: str) -> int:
    """Return a line of this process's status in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise OSError(f"no {field} in /proc/self/status; this benchmark needs Linux")


def report(peaks: dict[str, dict[str, float]], mebibytes: float) -> str:
    """Return the Markdown, and whether 16-bit data stay within the limit."""
    rows: list[list[Cell]] = [[name, *(found[d] for d in DTYPES)] for name, found in peaks.items()]
    worst = max(found["uint16"] for found in peaks.values())
    verdict = "met" if worst <= LIMIT else "MISSED"
    return "\n\n".join(
        [
            f"Peak in blocks in float32 ({mebibytes:.0f} MiB here), input, output and the scratch "
            f"of {THREADS} threads included:",
            markdown(["block and method", *DTYPES], rows),
            f"16-bit data take at most {LIMIT:g} blocks: {worst:.2f}, {verdict}.",
        ]
    )


def main() -> None:
    options = arguments("Peak memory of the kernel's call.").parse_args()
    shapes = QUICK_SHAPES if options.quick else SHAPES
    context = get_context("spawn")
    peaks: dict[str, dict[str, float]] = {}
    for group, shape in shapes.items():
        for method in METHODS:
            for dtype in DTYPES:
                with context.Pool(1) as process:
                    found = process.apply(peak_blocks, (method, dtype, shape))
                peaks.setdefault(f"{group}, {method}", {})[dtype] = found
            print(group, method, peaks[f"{group}, {method}"], flush=True)
    mebibytes = 4 * np.prod(shapes["4-D"]) / 2**20
    numbers: dict[str, Any] = {"shapes": shapes, "peak_blocks": peaks}
    write(options.output, "memory", report(peaks, float(mebibytes)), numbers, quick=options.quick)


if __name__ == "__main__":
    main()
