"""The sections of the report that have pictures."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from denoise5d.errors import NoiseError
from denoise5d.findings import Findings
from denoise5d.geometry import AXES, Index
from denoise5d.inspection import ChannelFindings, View
from denoise5d.noise import NoiseEstimate, NoiseModel
from denoise5d.noise_survey import ChannelNoise
from denoise5d.quantities import duration, grey_level, number, voxels
from denoise5d.report import statistics, work
from denoise5d.report.canvas import png
from denoise5d.report.html import (
    Html,
    element,
    facts,
    figure,
    gallery,
    joined,
    section,
    table,
    wide_figure,
)
from denoise5d.report.noise import NoiseChart, noise_figure
from denoise5d.report.views import MOST_Z, Spacing, contrast, planes, profiles, standardised
from denoise5d.residuals import CELL, ResidualStatistics
from denoise5d.verdicts import (
    ALIKE_BOUNDS,
    LEVEL_BOUNDS,
    MEAN_BOUNDS,
    OPPOSED_BOUNDS,
    SEAM_BOUNDS,
    STRUCTURE_BOUNDS,
    VARIANCE_BOUNDS,
)


def _place(centre: Index, shape: Index) -> str:
    """Write where a voxel is, without axes of length 1."""
    axes = zip(AXES, centre, shape, strict=True)
    return ", ".join(f"{axis} {at}" for axis, at, n in axes if n > 1)


def _channel(findings: Findings, channel: int) -> str:
    """Name a channel, where there are several."""
    return f"channel {findings.channel_names[channel]}"


def _noise(model: NoiseModel) -> str:
    if model.gain == 0:
        return f"sigma {model.offset**0.5:.4g}"
    return f"gain {model.gain:.4g}, offset {grey_level(model.offset)}"


def places_section(findings: Findings) -> Html:
    """Show the places with most to see."""
    info = findings.run.image.info
    spacing = Spacing.of(info.scales, info.units)
    words = (
        f"The places with most structure among boxes all over the image, far from each other. "
        f"Before and after have the same contrast; the residual is black and white at "
        f"{MOST_Z:g} standard deviations of the noise. It should look like even noise, without "
        f"anything of the image in it."
    )
    if info.shape[2] > 1:
        words += (
            " Large: XY; on its right YZ, below XZ, cut where the yellow marks are, with the "
            "voxels' true proportions."
        )
    parts = [part for view in findings.inspection.views for part in _view(findings, view, spacing)]
    return section("Before, after, residual", "places", element("p", words), *parts)


def _view(findings: Findings, view: View, spacing: Spacing) -> Iterator[Html]:
    model = findings.run.noise[view.centre[1]]
    where = _place(view.centre, findings.run.image.info.shape)
    low, high = contrast(view)
    levels = f"grey levels {grey_level(low)} to {grey_level(high)}"
    before, after, residual = planes(view, model, spacing)
    cut = "three planes" if view.noisy.shape[0] > 1 else "plane"
    yield element("h3", f"At {where}" if where else "The image")
    yield gallery(
        [
            figure(before, f"Noisy image, {cut} at {where}", f"Before: {levels}"),
            figure(after, f"Denoised image, {cut} at {where}", f"After: {levels}"),
            figure(residual, f"Residual, {cut} at {where}", f"Residual: {_spread(view, model)}"),
        ]
    )
    charts = [
        figure(
            chart,
            f"Grey levels before and after along {letter} through {where}",
            f"Along {letter}, through the middle of the place. {_inside(view, model, letter)}",
        )
        for letter, chart in profiles(view, model, spacing)
    ]
    yield gallery(charts)


def _spread(view: View, model: NoiseModel) -> str:
    z = standardised(view.noisy, view.denoised, model)
    return f"mean {z.mean():+.3f} σ, standard deviation {z.std():.3f} σ, in this place"


def _inside(view: View, model: NoiseModel, letter: str) -> str:
    """Say how many of the noisy voxels of a line are within two standard deviations."""
    _, _, z, y, x = (c - a for c, a in zip(view.centre, view.box.start, strict=True))
    noisy, denoised = {
        "X": (view.noisy[z, y], view.denoised[z, y]),
        "Z": (view.noisy[:, y, x], view.denoised[:, y, x]),
        "T": (view.noisy_times, view.denoised_times),
    }[letter]
    within = np.abs(standardised(noisy, denoised, model)) <= 2
    return f"{within.sum()} of {within.size} noisy voxels lie in the band (of noise: 95 %)."


def intensities_section(findings: Findings) -> Html:
    """Show the grey levels of each channel."""
    words = (
        "Of the same voxels, in boxes all over the image. Noise widens the histogram before; "
        "after, the brightest and the darkest are closer to what is there. In a small image boxes "
        "overlap, and voxels count more than once."
    )
    charts = [_histogram(findings, found) for found in findings.inspection.channels]
    return section("Grey levels", "levels", element("p", words), gallery(charts))


def _histogram(findings: Findings, found: ChannelFindings) -> Html:
    before, after = (float(values.mean()) for values in (found.noisy, found.denoised))
    caption = (
        f"{_channel(findings, found.channel).capitalize()}: mean {grey_level(before)} before, "
        f"{grey_level(after)} after, of {voxels(found.noisy.size)}"
    )
    alternative = f"Histogram before and after, {_channel(findings, found.channel)}"
    return figure(statistics.histogram(found), alternative, caption)


def noise_section(findings: Findings) -> Html:
    """Show the noise that was used, and what the image says of it."""
    words = (
        "The variance of a camera's noise is a line over the grey level: gain x grey level + "
        "offset. Everything below is measured against the noise that the run used."
    )
    used = [
        (_channel(findings, channel), _noise(model), _found(survey))
        for channel, (model, survey) in enumerate(
            zip(findings.run.noise, findings.noise, strict=True)
        )
    ]
    shown = [each for each in findings.noise if isinstance(each.found, NoiseEstimate)]
    charts = [_noise_chart(findings, each) for each in shown[: len(findings.inspection.channels)]]
    doubts = [
        element("p", f"! {_channel(findings, each.channel)}: {doubt}")
        for each in findings.noise
        for doubt in each.doubts
    ]
    return section(
        "Noise",
        "noise",
        element("p", words),
        table(("", "used by the run", "found in the image"), used),
        *doubts,
        gallery(charts),
    )


def _found(survey: ChannelNoise) -> str:
    if isinstance(survey.found, NoiseError):
        return f"cannot be told: {survey.found}"
    return _noise(survey.found.model)


def _noise_chart(findings: Findings, survey: ChannelNoise) -> Html:
    assert isinstance(survey.found, NoiseEstimate)
    used = findings.run.noise[survey.channel]
    given = used if used != survey.found.model else None
    chart = NoiseChart(_noise(survey.found.model), survey.found, given)
    name = _channel(findings, survey.channel)
    caption = f"{name.capitalize()}: each cell is a few voxels of the image."
    return figure(png(noise_figure([chart])), f"Variance against mean, {name}", caption)


def residual_section(findings: Findings) -> Html:
    """Show the statistics of the residual, channel by channel."""
    words = (
        "The residual is what was taken away, before − after, in standard deviations σ of the "
        "noise that the run used. If only noise was taken, its mean is 0 at every grey level; its "
        "variance is a little below 1, since some noise always stays (a mean of N voxels leaves "
        "1/N of it, and makes neighbours differ as much); else its neighbours know nothing of each "
        "other; and it varies no more where there "
        "is structure. Green bands are what is taken for right."
    )
    bounds = (
        f"Right are: a mean up to ±{MEAN_BOUNDS[0]:g} σ overall and ±{LEVEL_BOUNDS[0]:g} σ at one "
        f"grey level; a variance of {VARIANCE_BOUNDS[0][0]:g} to {VARIANCE_BOUNDS[0][1]:g}; "
        f"correlations of -{OPPOSED_BOUNDS[0]:g} to {ALIKE_BOUNDS[0]:g}; and means over {CELL} x "
        f"{CELL} pixels that vary up to {STRUCTURE_BOUNDS[0]:g} times as much as white noise's. A "
        f"blur of one voxel, or a gain that is a third off, goes beyond them."
    )
    parts = [
        part
        for found in findings.inspection.channels
        if found.residual is not None
        for part in _residual(findings, found.channel, found.residual)
    ]
    return section("Residual", "residual", element("p", words), element("p", bounds), *parts)


def _residual(findings: Findings, channel: int, found: ResidualStatistics) -> Iterator[Html]:
    name = _channel(findings, channel)
    if findings.run.image.info.shape[1] > 1:
        yield element("h3", name.capitalize())
    left = f", {100 * found.left_out:.1f} % of them left out (one value only)"
    yield facts(
        [
            ("looked at", f"{voxels(found.voxels)}{left if found.left_out > 0.0005 else ''}"),
            ("mean", f"{found.mean:+.4f} σ"),
            ("variance", f"{found.variance:.4f} σ²"),
        ]
    )
    yield gallery(
        [
            figure(
                statistics.residual_levels(found),
                f"Variance and mean of the residual over the grey level, {name}",
                "Variance and mean, from the darkest to the brightest twelfth of the cells",
            ),
            figure(
                statistics.correlations(found),
                f"Correlation of the residual with its neighbours, {name}",
                "Correlation with the neighbours along each axis",
            ),
            figure(
                statistics.structure(found),
                f"Variance of cell means of the residual over the contrast, {name}",
                f"Structure left in it: means over {CELL} x {CELL} pixels, from the flattest tenth "
                f"of the cells to the tenth with most structure",
            ),
            figure(
                statistics.residual_histogram(found),
                f"Histogram of the residual, {name}",
                "How often each value is; few photons make the right side heavier",
            ),
        ],
        pairs=True,
    )


def seams_section(findings: Findings) -> Html:
    """Show jumps across the faces of blocks against jumps beside them."""
    plan, found = findings.run.job.plan, findings.inspection.seams
    built = (
        "The halo is exact: every block read all that its voxels depend on, so that the result is "
        "that of the whole image, and by construction there is no seam."
        if plan.exact_halo
        else "The halo is approximate: blocks did not read all that their voxels depend on."
    )
    if not found:
        one = "No axis but C is cut into blocks, so there is no seam."
        return section("Seams", "seams", element("p", f"{one} {built}"))
    low, high = SEAM_BOUNDS
    words = (
        "A jump is by how much a step between two neighbours differs from the steps before and "
        "after it. Were there a seam, jumps across the faces of blocks (0 in the charts) would be "
        "larger than those a few voxels beside them. A ratio is taken for a seam if it is above "
        f"{low:g}, for none if it is below {high:g}, each with three standard errors and times the "
        "largest ratio beside the faces: the image may have structure just there. Bars are two "
        "standard errors."
    )
    rows, charts = [], []
    for each in found:
        if not each.patches or each.worst is None:
            rows.append((each.axis, str(each.faces), "0", "not measured", "", ""))
            continue
        ratio, error = each.ratio
        worst, box = each.worst
        middle = [(a + b) // 2 for a, b in zip(box.start, box.stop, strict=True)]
        at = ", ".join(f"{axis} {m}" for axis, m in zip(AXES, middle, strict=True))
        rows.append(
            (each.axis, str(each.faces), str(each.patches), f"{ratio:.3f} ± {2 * error:.3f}",
             f"{each.jump:.3f} σ", f"{worst:.2f} at {at}")
        )  # fmt: skip
        caption = f"Along {each.axis}: {each.patches} patches of {number(each.faces, 'face')}"
        charts.append(
            figure(statistics.seams(each), f"Jumps across faces along {each.axis}", caption)
        )
    head = ("axis", "faces", "patches", "ratio", "typical jump", "largest of a patch")
    return section(
        "Seams", "seams", element("p", built), element("p", words), table(head, rows),
        gallery(charts),
    )  # fmt: skip


def work_section(findings: Findings) -> Html:
    """Show how the run went."""
    timeline = findings.timeline
    shown = sum(worker.stages is not None for worker in timeline.workers)
    few = f" Shown are {shown} of {len(timeline.workers)}." if shown < len(timeline.workers) else ""
    wide = wide_figure(
        work.lanes(timeline),
        "What each worker did over time",
        f"What each worker did: as high as there were blocks in it, two at most. All waiting for "
        f"the kernel is drawn before it.{few}",
    )
    charts = gallery(
        [
            figure(work.rates(timeline), "Throughput over time", "Throughput over time"),
            figure(
                work.memory(timeline, findings.projected_bytes),
                "Peak memory of the workers against the plan",
                f"Peak memory of each worker against what the plan gives it.{few}",
            ),
        ]
    )
    pauses = [f"after {duration(at)} at work: {duration(gap)}" for at, gap in timeline.pauses[:20]]
    paused = element("p", f"Pauses that are left out: {'; '.join(pauses)}.") if pauses else Html("")
    return section("The run", "work", wide, charts, paused, _retries(findings))


def _retries(findings: Findings) -> Html:
    timeline = findings.timeline
    title = element("h3", "Retries")
    blocks = findings.run.ledger.blocks
    if not timeline.retried and not timeline.reasons:
        words = f"{number(blocks, 'block')}, each done at the first attempt of its driver."
        return joined(title, element("p", words))
    words = f"{timeline.retried} of {number(blocks, 'block')} took more than one attempt."
    if not timeline.reasons:
        words += " The ledger does not say why."
        return joined(title, element("p", words))
    rows = [
        (str(count), reason, f"block {timeline.examples[reason]}")
        for reason, count in timeline.reasons.most_common()
    ]
    return joined(title, element("p", words), table(("times", "reason", "for one"), rows))
