"""The report of a finished run: one page that needs nothing but itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from shlex import quote

from denoise5d.findings import Findings
from denoise5d.geometry import AXES
from denoise5d.quantities import duration, number, shape, size, voxels
from denoise5d.report.html import (
    Html,
    code,
    document,
    element,
    facts,
    section,
    table,
)
from denoise5d.report.sections import (
    intensities_section,
    noise_section,
    places_section,
    residual_section,
    seams_section,
    work_section,
)
from denoise5d.verdicts import Grade, Verdict

_SYMBOLS = {Grade.GOOD: "✓", Grade.DOUBT: "!", Grade.BAD: "✗"}
_CLASSES = {Grade.GOOD: "good", Grade.DOUBT: "doubt", Grade.BAD: "bad"}


def write_report(path: Path, findings: Findings) -> None:
    """Write the report, whole or not at all.

    Parameters
    ----------
    path : Path
        The HTML file; one that is there is replaced.
    findings : Findings
        What it tells.
    """
    partial = path.with_name(path.name + ".partial")
    partial.write_text(report_page(findings), encoding="utf-8")
    partial.replace(path)


def report_page(findings: Findings) -> Html:
    """Return the report as HTML."""
    sections = [
        places_section(findings),
        intensities_section(findings),
        noise_section(findings),
        residual_section(findings),
        seams_section(findings),
        work_section(findings),
        _making(findings),
    ]
    name = findings.run.output.path.name
    return document(
        f"{name}: report of denoise5d",
        element("header", element("h1", f"{name}: what was done, and how well"), _what(findings)),
        element("nav", _contents(), aria_label="contents"),
        element("main", _summary(findings), *sections),
    )


_TITLES = {
    "summary": "Summary",
    "places": "Before, after, residual",
    "levels": "Grey levels",
    "noise": "Noise",
    "residual": "Residual",
    "seams": "Seams",
    "work": "The run",
    "making": "How it was made",
}


def _contents() -> Html:
    links = (element("a", title, href=f"#{name}") for name, title in _TITLES.items())
    return element("ul", *(element("li", link) for link in links))


def _what(findings: Findings) -> Html:
    made = f"{findings.made:%Y-%m-%d %H:%M} UTC"
    by = f"denoise5d {findings.versions['denoise5d']}"
    words = f"{findings.run.output.path}. Report made by {by} on {made}."
    return element("p", words, class_="soft")


def _summary(findings: Findings) -> Html:
    verdicts = findings.verdicts
    counts = {grade: sum(v.grade is grade for v in verdicts) for grade in Grade}
    words = f"All {len(verdicts)} checks found what is to be expected."
    if counts[Grade.GOOD] < len(verdicts):
        words = (
            f"{len(verdicts)} checks: {counts[Grade.GOOD]} right, {counts[Grade.DOUBT]} to look "
            f"at, {counts[Grade.BAD]} wrong."
        )
    ordered = sorted(verdicts, key=lambda v: -list(Grade).index(v.grade))
    return section(
        "Summary",
        "summary",
        element("p", words),
        element("ul", *(_verdict(verdict) for verdict in ordered), class_="verdicts"),
        facts(_key_numbers(findings)),
    )


def _verdict(verdict: Verdict) -> Html:
    grade = f"{_SYMBOLS[verdict.grade]} {verdict.grade.value}"
    return element(
        "li",
        element("span", grade, class_=f"grade {_CLASSES[verdict.grade]}"),
        element("span", element("strong", verdict.subject), verdict.words),
    )


def _key_numbers(findings: Findings) -> Iterator[tuple[str, str]]:
    run, timeline = findings.run, findings.timeline
    grid, info = run.job.plan.grid, run.image.info
    yield "image", f"{shape(grid.image_shape)}, {voxels(timeline.voxels)}, {info.dtype.name}"
    steps = ", ".join(
        f"{axis} {scale:g}{' ' + unit if unit else ''}"
        for axis, scale, unit, n in zip(AXES, info.scales, info.units, info.shape, strict=True)
        if n > 1 and axis != "C"
    )
    known = any(info.units[axis] for axis in (0, 2, 3, 4))
    yield "voxel size", steps if known else f"{steps} (the image names no units)"
    yield "blocks", f"{run.ledger.blocks} of {shape(grid.block_shape)} at most"
    rate = voxels(timeline.voxels / timeline.worked) if timeline.worked else "?"
    workers = number(len(timeline.workers), "worker")
    yield "time at work", f"{duration(timeline.worked)}, {rate}/s with {workers}"
    stages = ", ".join(f"{stage} {duration(s)}" for stage, s in timeline.seconds.items())
    yield "workers' time", stages
    planned = findings.projected_bytes
    plan = f", {size(planned)} planned" if planned is not None else ""
    yield "peak memory", f"{size(timeline.peak_bytes)} a worker{plan}"


def _making(findings: Findings) -> Html:
    run = findings.run
    identity = run.ledger.header.get("fingerprint", {})
    mark = blake2b(json.dumps(identity, sort_keys=True).encode(), digest_size=8).hexdigest()
    grid, layout = run.job.plan.grid, run.job.plan.layout
    halo = "exact: the result is that of the whole image, bit for bit"
    if not run.job.plan.exact_halo:
        halo = "approximate: the result depends on how the image is cut"
    rows = [
        ("input", str(run.job.config.input.path)),
        ("output", str(run.output.path)),
        ("begun", str(run.ledger.header.get("created", "?"))),
        ("fingerprint", mark),
        ("blocks", f"{shape(grid.counts)}, of {shape(grid.block_shape)}"),
        ("halo", f"{shape(grid.halo)}; {halo}"),
        ("redundancy", f"{grid.redundancy:.3f} voxels read for each that is written"),
        ("chunks", shape(layout.chunks)),
        ("shards", "none" if layout.shards is None else shape(layout.shards)),
    ]
    made = findings.provenance.get("versions", {})
    then = made if isinstance(made, dict) else {}
    kinds = [
        (name, str(then.get(name, "not noted")), now) for name, now in findings.versions.items()
    ]
    return section(
        _TITLES["making"],
        "making",
        facts(rows),
        element("h3", run.job.config.source.name),
        code(findings.yaml),
        element("h3", "To make it again"),
        code(f"denoise5d run --overwrite {quote(str(run.job.config.source))}"),
        element("h3", "Versions"),
        table(("", "of the run", "of this report"), kinds),
        element("h3", "Fingerprint: all that can change a voxel"),
        code(json.dumps(identity, indent=1)),
    )
