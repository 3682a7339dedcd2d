"""Picture quality, ours against the peers': ``python tests/benchmarks/quality.py``.

Writes quality.md, quality.json and pictures. Peers are computed once and remembered in the output
folder; `--fresh` computes them again.
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any, TypeAlias

from cases import GROUPS, Case, all_cases, quick_cases
from measures import mean_of, psnr, ssim
from peers import OURS, installed, remembered
from tables import Cell, absent_line, arguments, markdown, write

Scores: TypeAlias = dict[str, dict[str, float]]  # method -> {"psnr": dB, "ssim": 0 .. 1}

COLUMNS = ("noisy", "ndsafir", "bm4d", "fast", "standard", "best", "paper")

TARGETS = (  # group, peer, dB that the mean of `standard` must be above it
    ("2-D", "ndsafir", 0.3),
    ("2-D+t", "ndsafir", 0.3),
    ("3-D", "ndsafir", 2.0),
    ("4-D", "ndsafir", 2.0),
    ("3-D", "bm4d", 0.0),
    ("4-D", "bm4d", 1.5),
)


def scores(case: Case, memory: Path, *, fresh: bool) -> Scores:
    """Run every method on a case; "ndsafir" is the better of its 3 and 4 iterations."""
    sample = case.sample()
    results = {"noisy": sample.image}
    for name in installed():
        results[name] = remembered(memory, name, sample.image, sample.noise, fresh=fresh)
    for name, method in OURS.items():
        results[name] = method(sample.image, sample.noise)
    found = {
        name: {"psnr": psnr(result, sample.truth), "ssim": ssim(result, sample.truth)}
        for name, result in results.items()
    }
    runs = [found[name] for name in ("ndsafir 3", "ndsafir 4") if name in found]
    if runs:
        found["ndsafir"] = max(runs, key=lambda run: run["psnr"])
    return found


def run(cases: list[Case], options: Namespace) -> list[dict[str, Any]]:
    """Return one record a case, and say how each went."""
    records = []
    for case in cases:
        found = scores(case, options.output / "peers", fresh=options.fresh)
        records.append(
            {"name": case.name, "group": case.group, "purpose": case.purpose, "scores": found}
        )
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


def report(records: list[dict[str, Any]]) -> str:
    """Return the Markdown of all tables."""
    parts = [
        "PSNR in dB, the peak being the truth's range. `ndsafir`: the better of 3 and 4 iterations.",
        mean_table(records, "psnr", 2),
        markdown(["target, over the reporting cases", "reached", ""], verdicts(records)),
        *below(records),
        case_table(records, "psnr", 2),
        "SSIM, mean of all planes:",
        mean_table(records, "ssim", 3),
        case_table(records, "ssim", 3),
        absent_line(),
    ]
    return "\n\n".join(part for part in parts if part)


def main() -> None:
    parser = arguments("Picture quality against the peers.")
    parser.add_argument("--fresh", action="store_true", help="compute the peers again")
    parser.add_argument("--only", default="", help="cases whose name or purpose contains this")
    options = parser.parse_args()
    cases = quick_cases() if options.quick else all_cases()
    cases = [case for case in cases if options.only in f"{case.name} {case.purpose}"]
    records = run(cases, options)
    write(options.output, "quality", report(records), records)


if __name__ == "__main__":
    main()
