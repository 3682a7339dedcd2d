"""Picture quality, ours against the peers': ``python tests/benchmarks/quality.py``.

Writes quality.md, quality.json, quality.png and borders.png. Peers are computed once and
remembered in the output folder; `--fresh` computes them again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

import looks
from cases import GROUPS, Case, Image, Noise, Sample, all_cases, quick_cases
from measures import mean_of, psnr, ssim
from peers import OURS, installed, remembered
from pictures import draw_borders, draw_results
from tables import Cell, arguments, markdown, write

COLUMNS = ("noisy", "ndsafir", "bm4d", "fast", "standard", "best", "paper")

SHOWN = (
    Case("2-D", "brick", "mid"),
    Case("2-D+t", "puncta", "mid", 1.5),
    Case("3-D", "shells", "mid"),
    Case("4-D", "membranes", "low", 0.5),
)
"""Cases for the picture, all for reporting."""

PANELS = ("ndsafir", "bm4d", "standard", "best")

TARGETS = (  # group, peer, dB that the mean of `standard` must be above it
    ("2-D", "ndsafir", 0.3),
    ("2-D+t", "ndsafir", 0.3),
    ("3-D", "ndsafir", 2.0),
    ("4-D", "ndsafir", 2.0),
    ("3-D", "bm4d", 0.0),
    ("4-D", "bm4d", 1.5),
)


class Runner:
    """Runs methods by name; peers are remembered in a folder."""

    def __init__(self, memory: Path, *, fresh: bool) -> None:
        self.memory, self.fresh = memory, fresh
        self.peers = list(installed())

    def __call__(self, method: str, image: Image, noise: Noise) -> NDArray[Any]:
        if method in OURS:
            return OURS[method](image, noise)
        return remembered(self.memory, method, image, noise, fresh=self.fresh)

    def results(self, sample: Sample) -> dict[str, NDArray[Any]]:
        """Return all results of a case; "ndsafir" is the better of its 3 and 4 iterations."""
        names = [*self.peers, *OURS]
        results = {name: self(name, sample.image, sample.noise) for name in names}
        runs = [results[name] for name in ("ndsafir 3", "ndsafir 4") if name in results]
        if runs:
            results["ndsafir"] = max(runs, key=lambda run: psnr(run, sample.truth))
        return {"noisy": sample.image, **results}


def measure(case: Case, runner: Runner) -> dict[str, Any]:
    """Run every method on a case and measure all there is."""
    sample = case.sample()
    results = runner.results(sample)
    return {
        "name": case.name,
        "group": case.group,
        "purpose": case.purpose,
        "scores": {
            name: {"psnr": psnr(result, sample.truth), "ssim": ssim(result, sample.truth)}
            for name, result in results.items()
        },
        "looks": {m: looks.look(sample, results[m]) for m in looks.METHODS if m in results},
    }


def measure_all(cases: list[Case], runner: Runner) -> list[dict[str, Any]]:
    """Return one record a case, and say how each went."""
    records = []
    for case in cases:
        records.append(measure(case, runner))
        found = records[-1]["scores"]
        shown = (f"{c} {found[c]['psnr']:.2f}" for c in COLUMNS if c in found)
        print(f"{case.name}: {', '.join(shown)}", flush=True)
    return records


def column(records: list[dict[str, Any]], method: str, score: str) -> list[float | None]:
    """Return one score of one method for all records, None where it did not run."""
    return [record["scores"].get(method, {}).get(score) for record in records]


def case_table(records: list[dict[str, Any]], score: str, digits: int) -> str:
    rows = [
        [record["name"], record["purpose"], *(column([record], c, score)[0] for c in COLUMNS)]
        for record in records
    ]
    return markdown(["case", "purpose", *COLUMNS], rows, digits)


def mean_table(records: list[dict[str, Any]], score: str, digits: int) -> str:
    """Return the means of each group, of the cases for tuning and of those for reporting."""
    rows: list[list[Cell]] = []
    for group in GROUPS:
        for purpose in ("tune", "report"):
            part = [r for r in records if r["group"] == group and r["purpose"] == purpose]
            means = [mean_of(column(part, c, score)) for c in COLUMNS]
            rows += [[f"{group}, {purpose} ({len(part)})", *means]] if part else []
    return markdown(["mean of", *COLUMNS], rows, digits)


def differences(records: list[dict[str, Any]], method: str, peer: str) -> list[tuple[float, str]]:
    """Return dB of `method` above `peer` and the case, worst first."""
    pairs = zip(
        column(records, method, "psnr"), column(records, peer, "psnr"), records, strict=True
    )
    return sorted((a - b, r["name"]) for a, b, r in pairs if a is not None and b is not None)


def verdicts(records: list[dict[str, Any]]) -> list[list[Cell]]:
    """Return the targets, what was reached in the reporting cases, and whether it is enough."""
    reporting = [r for r in records if r["purpose"] == "report"]
    rows: list[list[Cell]] = []
    for group, peer, target in TARGETS:
        part = differences([r for r in reporting if r["group"] == group], "standard", peer)
        if part:
            gain = sum(d for d, _ in part) / len(part)
            goal = f"{group}: mean at least {target:+g} dB over {peer}"
            rows.append([goal, f"{gain:+.2f}", _met(gain >= target)])
    for method, peer in (("standard", "ndsafir"), ("paper", "ndsafir 4")):
        part = differences(records, method, peer)
        if part:
            worst = f"{part[0][0]:+.2f} ({part[0][1]})"
            rows.append([f"{method}: on no case below {peer}", worst, _met(part[0][0] >= 0)])
    return rows


def _met(true: bool) -> str:
    return "met" if true else "MISSED"


def below(records: list[dict[str, Any]]) -> list[str]:
    """Return a line for every peer with the cases where our defaults are below it."""
    lines = []
    for peer in ("ndsafir", "bm4d"):
        lost = [f"{name} ({d:+.2f})" for d, name in differences(records, "standard", peer) if d < 0]
        lines += [f"`standard` below {peer}: {', '.join(lost)}."] if lost else []
    return lines


def report(records: list[dict[str, Any]]) -> list[str]:
    """Return the Markdown of the scores."""
    return [
        "## Scores",
        "PSNR in dB, peak: the truth's range. `ndsafir`: the better of 3 and 4 iterations; `bm4d`: "
        "volume by volume, a film of planes as one volume; `fast`, `standard`, `best`: ours; "
        "`paper`: our `method: safir` with 4 iterations and ndsafir's patch.",
        mean_table(records, "psnr", 2),
        markdown(["target, over the reporting cases", "reached", ""], verdicts(records)),
        *below(records),
        "SSIM, mean of all planes:",
        mean_table(records, "ssim", 3),
        "PSNR of every case:",
        case_table(records, "psnr", 2),
        "SSIM of every case:",
        case_table(records, "ssim", 3),
    ]


def report_looks(
    records: list[dict[str, Any]], runner: Runner, folder: Path
) -> tuple[list[str], dict[str, Any]]:
    """Measure and draw what the scores do not show; return Markdown and numbers."""
    peers = [name for name in ("ndsafir 4", "bm4d") if name in runner.peers]
    methods = [*peers, "fast", "standard", "best"]
    stairs, ratios = looks.stairs_table(runner, methods)
    curves = looks.border_curves(runner, methods)
    draw_borders(folder / "borders.png", curves)
    shown = {}
    for case in SHOWN:
        sample = case.sample()
        results = runner.results(sample)
        shown[case.name] = (sample, {m: results[m] for m in PANELS if m in results})
    draw_results(folder / "quality.png", shown)
    parts = [
        "## Beyond the scores",
        looks.aspects_table(records),
        "Mean light over true light on flat steps (a volume):",
        stairs,
        "The error near a border, over that of the same voxels where the image goes on:",
        looks.border_table(curves, methods),
        "![Error near borders](borders.png)",
        "![Results and residuals](quality.png)",
    ]
    return parts, {"stairs": ratios, "borders": curves}


def main() -> None:
    parser = arguments("Picture quality against the peers.")
    parser.add_argument("--fresh", action="store_true", help="compute the peers again")
    parser.add_argument("--only", default="", help="cases whose name or purpose contains this")
    parser.add_argument("--scores", action="store_true", help="nothing beyond PSNR and SSIM")
    options = parser.parse_args()
    cases = quick_cases() if options.quick else all_cases()
    cases = [case for case in cases if options.only in f"{case.name} {case.purpose}"]
    options.output.mkdir(parents=True, exist_ok=True)
    runner = Runner(options.output / "peers", fresh=options.fresh)
    records = measure_all(cases, runner)
    parts, numbers = report(records), {"cases": records}
    if not options.scores:
        more, found = report_looks(records, runner, options.output)
        parts, numbers = parts + more, numbers | found
    write(options.output, "quality", "\n\n".join(parts), numbers, quick=options.quick)


if __name__ == "__main__":
    main()
