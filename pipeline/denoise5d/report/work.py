"""Charts of how a run went: its rate, its workers, their memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from denoise5d.report.canvas import (
    BLUE,
    CHART,
    GREY,
    ORANGE,
    PALE,
    PINK,
    RED,
    SKY,
    legend_above,
    new_chart,
    new_figure,
    plain,
    png,
)
from denoise5d.timeline import STAGES, Timeline, Worker

_COLOURS = dict(zip(STAGES, (SKY, PALE, BLUE, ORANGE, PINK), strict=True))
_WIDE = 9.2
_LANE, _FRAME = 0.32, 1.25
"""Inches: of the wide chart, of a worker in it, and of what is around them."""

_MIB = 2**20


def rates(timeline: Timeline) -> bytes:
    """Draw voxels a second over time."""
    factor, unit = _time_unit(timeline.worked)
    scale, prefix = (1e6, "million") if timeline.rates.max() >= 1e5 else (1e3, "thousand")
    figure, axes = new_chart(f"time at work ({unit})", f"{prefix} voxels per second")
    axes.stairs(timeline.rates / scale, timeline.edges / factor, fill=True, color=SKY, alpha=0.7)
    mean = timeline.voxels / timeline.worked / scale if timeline.worked else 0.0
    axes.axhline(mean, color="black", linewidth=1, linestyle="--", label=f"mean {mean:.3g}")
    _pauses(axes, timeline, factor)
    axes.set_xlim(0, timeline.worked / factor or 1)
    axes.set_ylim(0, None)
    legend_above(figure, axes)
    return png(figure)


def lanes(timeline: Timeline) -> bytes:
    """Draw what each worker did when: as high as there were blocks in it."""
    shown = [worker for worker in timeline.workers if worker.stages is not None]
    factor, unit = _time_unit(timeline.worked)
    figure = new_figure((_WIDE, _FRAME + _LANE * len(shown)))
    axes = figure.add_subplot()
    most = max(float(_stages(worker).sum(axis=0).max()) for worker in shown) or 1.0
    for row, worker in enumerate(reversed(shown)):  # the first on top
        base = np.full(len(timeline.rates), float(row))
        for stage, blocks in zip(STAGES, _stages(worker), strict=True):
            top = base + 0.88 * blocks / most
            axes.stairs(top, timeline.edges / factor, baseline=base, fill=True,
                        color=_COLOURS[stage], label=stage if row == 0 else None)  # fmt: skip
            base = top
    _pauses(axes, timeline, factor)
    axes.set_xlim(0, timeline.worked / factor or 1)
    axes.set_ylim(-0.12, len(shown))
    axes.set_yticks([row + 0.44 for row in range(len(shown))], _names(shown[::-1]), fontsize=8)
    axes.set_xlabel(f"time at work ({unit})")
    axes.set_ylabel("worker")
    axes.spines[["top", "right"]].set_visible(False)
    legend_above(figure, axes)
    return png(figure)


def memory(timeline: Timeline, projected: int | None) -> bytes:
    """Draw the largest memory of each worker beside what was planned."""
    shown = [worker for worker in timeline.workers if worker.stages is not None]
    size = (CHART[0], max(2.0, 1.1 + 0.24 * len(shown)))
    figure, axes = new_chart("peak memory (MiB)", "worker", size=size)
    rows = np.arange(len(shown))
    peaks = [worker.peak_bytes / _MIB for worker in shown]
    axes.barh(rows, peaks, 0.7, color=BLUE, label="measured")
    if projected is not None:
        axes.axvline(projected / _MIB, color=RED, linestyle="--", linewidth=1.8, label="planned")
    axes.set_yticks(rows, _names(shown), fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.1 * max([*peaks, (projected or 0) / _MIB]))
    legend_above(figure, axes)
    return png(figure)


def _stages(worker: Worker) -> Any:
    assert worker.stages is not None
    return worker.stages


def _names(workers: Sequence[Worker]) -> list[str]:
    """Return names short enough for a chart."""
    names = (w.name if len(w.name) <= 18 else w.name[:8] + "..." + w.name[-7:] for w in workers)
    return [plain(name) for name in names]


def _pauses(axes: Any, timeline: Timeline, factor: float) -> None:
    for number, (at, _) in enumerate(timeline.pauses):
        label = "pause left out" if number == 0 else None
        axes.axvline(at / factor, color=GREY, linestyle=":", linewidth=1.5, label=label)


def _time_unit(seconds: float) -> tuple[float, str]:
    """Return the seconds of a unit, and its name, that suit a span of time."""
    if seconds < 300:
        return 1.0, "s"
    return (60.0, "min") if seconds < 4 * 3600 else (3600.0, "h")
