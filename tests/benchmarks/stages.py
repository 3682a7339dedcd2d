"""Where the kernel's time goes, and how far each stage is from what a core can do.

``python tests/benchmarks/stages.py`` runs the defaults on a 4-D image, with one thread, under
Linux's ``perf``. Operations are counted from the formulas: a multiplication and an addition are
two, and what is done in vain (margins, rounded-up lanes) is none. The bound is the rate of NumPy's
matrix product in the same process, which has fused multiply-adds that the kernel does without.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np

from denoise5d import resolve_parameters
from denoise5d.geometry import Index
from denoise5d.parameters import Parameters
from peers import fast, standard
from scaling import scene
from tables import Cell, arguments, markdown, write

SHAPE: Index = (6, 1, 24, 192, 192)
SAMPLES_PER_SECOND = 2000


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage: the functions that do it, and its operations per voxel; None: only moves data."""

    name: str
    functions: tuple[str, ...]
    operations: float | None


def stages(parameters: Parameters) -> list[Stage]:
    """Return the stages of both estimators, with the operations that a voxel needs."""
    ridge = parameters.ridge
    assert ridge is not None
    pairs = (prod(2 * w + 1 for w in parameters.windows[0]) - 1) / 2
    lengths = [2 * p + 1 for p in parameters.patch]
    box = 2 * (sum(lengths) - len(lengths))  # additions along each axis, for distances and weights
    rows = prod(2 * p + 1 for p in ridge.patch[:4])
    width = 2 * ridge.patch[4] + 1
    n, k, offsets = rows * width, ridge.group, prod(2 * s + 1 for s in ridge.search)
    refs = 1 / prod(ridge.stride)  # a voxel
    return [
        Stage("pilot: distances", ("distances",), 3 * pairs),
        Stage("pilot: box sums", ("sum_rows",), box * pairs),
        Stage("pilot: weights", ("weights",), 7 * pairs),
        Stage("pilot: aggregation", ("accumulate",), 2 * 3 * pairs),
        Stage(
            "search", ("patch_distances", "Round::search_row"),
            refs * offsets * (3 * rows * ridge.stride[4] + width),
        ),
        Stage("selection", ("select_least",), None),
        Stage("gathering", ("gather_columns", "gather_rows"), None),
        Stage("Gram matrix", ("gram",), refs * n * k * (k + 1)),
        Stage("factor", ("factor",), refs * k**3 / 3),
        Stage("inverse", ("solve",), refs * k**3 * 4 / 3),
        Stage("product", ("multiply",), refs * 2 * n * k**2),
        Stage(
            "aggregation", ("scatter", "scatter_mean", "Round::add_up"), refs * n * k * 3
        ),
    ]  # fmt: skip


def child(repeats: int) -> None:
    """Run the kernel, and tell what a matrix product does meanwhile in the same process."""
    a = np.ones((1024, 1024), np.float32)
    best = min(_seconds(lambda: a @ a) for _ in range(5))
    print(f"bound {2 * 1024**3 / best}")
    sample = scene(SHAPE)
    for name, method in (("fast", fast), ("standard", standard)):
        times = [
            _seconds(lambda method=method: method(sample.image, sample.noise, 1))
            for _ in range(repeats if name == "standard" else 1)
        ]
        print(f"{name} {sum(times)}")


def _seconds(call: Any) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start


def profile(repeats: int) -> tuple[dict[str, float], dict[str, float]]:
    """Return what the child has told, and the seconds of each of the kernel's functions."""
    with TemporaryDirectory() as folder:
        data = str(Path(folder) / "perf.data")
        record = ["perf", "record", "-q", "-F", str(SAMPLES_PER_SECOND), "-o", data]
        told = subprocess.run(
            [*record, sys.executable, __file__, "--child", str(repeats)],
            check=True, text=True, capture_output=True,
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
        ).stdout  # fmt: skip
        report = subprocess.run(
            ["perf", "report", "--stdio", "-n", "--sort", "symbol", "-i", data],
            check=True, text=True, capture_output=True,
        ).stdout  # fmt: skip
    lines = (line.split() for line in told.splitlines() if len(line.split()) == 2)
    return {name: float(value) for name, value in lines}, seconds_of(report)


def seconds_of(report: str) -> dict[str, float]:
    """Return the seconds of each function of the kernel from perf's report with samples.

    >>> line = "  12.80%   4000  [.] denoise5d::v3::(anonymous namespace)::gram(denoise5d::Group)"
    >>> seconds_of(line)
    {'gram': 2.0}
    """
    seconds: dict[str, float] = {}
    for samples, symbol in re.findall(r"%\s+(\d+)\s+\[\.\] denoise5d::(\S.*)$", report, re.M):
        name = symbol.replace("(anonymous namespace)::", "").partition("(")[0]
        name = name.partition("  ")[0].strip()  # what follows is perf's own
        parts = [part for part in name.split("::") if part not in ("baseline", "v3", "v4")]
        name = "::".join(parts).partition("<")[0]
        seconds[name] = seconds.get(name, 0) + int(samples) / SAMPLES_PER_SECOND
    return seconds


def table(told: dict[str, float], seconds: dict[str, float], repeats: int) -> tuple[str, Any]:
    """Return the stages with their share and rates; the pilot has run once more, for `fast`."""
    voxels = prod(SHAPE)
    rows: list[list[Cell]] = []
    total = sum(seconds.values())
    if not total:
        sys.exit("perf sees no functions in the kernel: build with -Cinstall.strip=false")
    for stage in stages(resolve_parameters(SHAPE)):
        spent = sum(seconds.get(name, 0) for name in stage.functions)
        runs = repeats + 1 if stage.name.startswith("pilot") else repeats
        rate = None
        if stage.operations is not None and spent > 0:
            rate = stage.operations * voxels * runs / spent
        rows.append([
            stage.name, 100 * spent / total, 1e9 * spent / runs / voxels, stage.operations,
            None if rate is None else rate / 1e9,
            None if rate is None else 100 * rate / told["bound"],
        ])  # fmt: skip
    left = 100 - sum(float(row[1] or 0) for row in rows)
    rows.append(["all else", left, None, None, None, None])
    head = ["stage", "% of time", "ns a voxel", "operations a voxel", "GFLOP/s", "% of the bound"]
    text = markdown(head, rows, 1)
    bound = f"The bound, a matrix product with one thread: {told['bound'] / 1e9:.0f} GFLOP/s."
    return f"{bound}\n\n{text}", [dict(zip(head, row, strict=True)) for row in rows]


def main() -> None:
    parser = arguments("The kernel's time by stage, with one thread.")
    parser.add_argument("--child", type=int, metavar="REPEATS", help="run what is profiled")
    options = parser.parse_args()
    if options.child:
        return child(options.child)
    if not shutil.which("perf"):
        sys.exit("perf is missing: apt-get install linux-perf (Debian), linux-tools-generic")
    repeats = 1 if options.quick else 3
    told, seconds = profile(repeats)
    text, numbers = table(told, seconds, repeats)
    write(options.output, "stages", text, {"stages": numbers, **told}, quick=options.quick)
    return None


if __name__ == "__main__":
    main()
