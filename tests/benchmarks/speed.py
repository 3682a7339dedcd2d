"""Voxels per second, ours against the peers': ``python tests/benchmarks/speed.py``.

All methods take turns in one process with two threads each, and the median of the ratios of each
turn is reported: what else the machine does then hits all alike. Peers get the middle of the
image, since the whole would take them hours; rates are voxels per second.
"""

from __future__ import annotations

from statistics import median
from time import perf_counter
from typing import Any

from cases import CAMERAS, GROUPS, PHOTONS, Sample, part_of_embryo, photographed
from peers import OURS, THREADS, Method, installed
from tables import Cell, arguments, markdown, write

SHAPES = {  # T, C, Z, Y, X: of ours, and what ndsafir and bm4d get of it
    "2-D": ((1, 1, 1, 1024, 1024), (1, 1, 1, 256, 256), (1, 1, 1, 256, 256)),
    "2-D+t": ((10, 1, 1, 512, 512), (10, 1, 1, 96, 96), (10, 1, 1, 128, 128)),
    "3-D": ((1, 1, 32, 256, 256), (1, 1, 20, 80, 80), (1, 1, 24, 80, 80)),
    "4-D": ((5, 1, 16, 160, 160), (5, 1, 12, 48, 48), (1, 1, 16, 80, 80)),
}
"""bm4d gets one volume of a 4-D image, a larger one: it takes volumes one by one."""

NAMES = ("fast", "standard", "best")
RIVALS = ("ndsafir 4", "bm4d")

TARGETS = (  # group, method, peer, ratio
    ("4-D", "standard", "ndsafir 4", 60),
    ("4-D", "standard", "bm4d", 60),
    ("4-D", "fast", "ndsafir 4", 150),
    ("3-D", "standard", "ndsafir 4", 20),
    ("2-D", "standard", "ndsafir 4", 1),
)


def rate(method: Method, sample: Sample) -> float:
    """Return voxels per second of one run."""
    start = perf_counter()
    method(sample.image, sample.noise)
    return sample.image.size / (perf_counter() - start)


def turns(group: str, repeats: int, *, quick: bool) -> dict[str, list[float]]:
    """Return the rates of every method, one a turn."""
    large, *small = SHAPES[group]
    if quick:
        large = (*large[:3], large[3] // 2, large[4] // 2)
    whole = photographed(part_of_embryo(large, 3, PHOTONS["mid"]), CAMERAS[0], 3)
    parts = {
        name: whole.cut(tuple((a - b) // 2 for a, b in zip(large, shape, strict=True)))
        for name, shape in zip(RIVALS, small, strict=True)
    }
    peers = {name: call for name, call in installed().items() if name in RIVALS}
    OURS["fast"](whole.image, whole.noise)  # the first call starts the threads
    rates: dict[str, list[float]] = {name: [] for name in (*NAMES, *peers)}
    for _ in range(repeats):
        for name in NAMES:
            rates[name].append(rate(OURS[name], whole))
        for name, call in peers.items():
            rates[name].append(rate(call, parts[name]))
    return rates


def ratio(rates: dict[str, list[float]], method: str, peer: str) -> float | None:
    """Return the median over all turns of how much faster `method` is; None without the peer."""
    if peer not in rates:
        return None
    return median(a / b for a, b in zip(rates[method], rates[peer], strict=True))


def report(rates: dict[str, dict[str, list[float]]]) -> str:
    """Return the Markdown: rates, ratios, targets."""
    columns = (*NAMES, *RIVALS)
    speeds: list[list[Cell]] = []
    ratios: list[list[Cell]] = []
    for group, found in rates.items():
        mega = (median(found[c]) / 1e6 if c in found else None for c in columns)
        speeds.append([group, *mega])
        ratios += [
            [f"{group} over {peer}", *(ratio(found, m, peer) for m in NAMES)] for peer in RIVALS
        ]
    goals: list[list[Cell]] = []
    for group, method, peer, target in TARGETS:
        reached = ratio(rates[group], method, peer)
        if reached is not None:
            met = "met" if reached >= target else "MISSED"
            goals.append([f"{group}, {method}: {target} times {peer}", reached, met])
    return "\n\n".join(
        [
            f"Million voxels per second with {THREADS} threads, medians:",
            markdown(["image", *columns], speeds, 3),
            "Times as fast, median of the ratios:",
            markdown(["image", *NAMES], ratios, 1),
            markdown(["target", "reached", ""], goals, 1),
        ]
    )


def main() -> None:
    options = arguments("Voxels per second against the peers.").parse_args()
    repeats = 1 if options.quick else 3
    rates = {}
    for group in GROUPS:
        rates[group] = turns(group, repeats, quick=options.quick)
        print(group, {name: round(median(r)) for name, r in rates[group].items()}, flush=True)
    numbers: dict[str, Any] = {"threads": THREADS, "voxels_per_second": rates}
    write(options.output, "speed", report(rates), numbers, quick=options.quick)


if __name__ == "__main__":
    main()
