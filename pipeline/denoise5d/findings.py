"""All that a report tells of a finished run, gathered in bounded time and memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias

from denoise5d.begun import BegunRun, open_begun
from denoise5d.budget import machine_of
from denoise5d.config import Config
from denoise5d.errors import PlanError, StoppedEarlyError
from denoise5d.identity import versions
from denoise5d.inspection import Inspection, inspect_run
from denoise5d.noise_survey import ChannelNoise, survey
from denoise5d.prepare import prepare
from denoise5d.quantities import number
from denoise5d.store import read_provenance
from denoise5d.timeline import Timeline, read_timeline
from denoise5d.verdicts import (
    Grade,
    Verdict,
    memory_verdict,
    noise_verdict,
    residual_verdicts,
    retry_verdict,
    seam_verdicts,
)

Progress: TypeAlias = Callable[[float, float], None]

_MOST_TEXT = 2**16
"""Characters of the YAML that are shown."""


@dataclass(frozen=True, slots=True)
class Findings:
    """A finished run, looked at.

    Attributes
    ----------
    run : BegunRun
        The run.
    inspection : Inspection
        What it made.
    noise : tuple of ChannelNoise
        What the image says of its noise now, channel by channel.
    timeline : Timeline
        How it went.
    projected_bytes : int or None
        Memory that the plan gives a worker; None if this machine cannot tell.
    verdicts : tuple of Verdict
        What is thought of all this.
    yaml : str
        The text of the YAML.
    provenance : mapping
        What the output says of how it was made.
    versions : dict of str
        Of what made the report.
    made : datetime
        When, UTC.
    """

    run: BegunRun
    inspection: Inspection
    noise: tuple[ChannelNoise, ...]
    timeline: Timeline
    projected_bytes: int | None
    verdicts: tuple[Verdict, ...]
    yaml: str
    provenance: Mapping[str, Any]
    versions: Mapping[str, str]
    made: datetime

    @property
    def channel_names(self) -> list[str]:
        """What the metadata call each channel, or its number."""
        entries = (self.run.image.info.channels or {}).get("channels", [])
        labels = [entry.get("label") if isinstance(entry, dict) else None for entry in entries]
        count = self.run.image.info.shape[1]
        labels += [None] * (count - len(labels))
        known = [label if label != f"channel {c}" else None for c, label in enumerate(labels)]
        return [f"{c}: {label}" if label else str(c) for c, label in enumerate(known[:count])]


def finished_run(config: Config) -> BegunRun:
    """Open the run of a YAML.

    Raises
    ------
    StoppedEarlyError
        If some blocks are left.
    OutputError, FingerprintError, WrongOutputError
        As from `open_begun`.
    """
    run = open_begun(config)
    left = run.ledger.blocks - run.ledger.done_count
    if left:
        raise StoppedEarlyError(
            f"a report is made of a finished run, and {left} of "
            f"{number(run.ledger.blocks, 'block')} {'is' if left == 1 else 'are'} not done: "
            f"`denoise5d run {config.source}` "
            f"goes on, `denoise5d status {config.source}` says how far it is"
        )
    return run


def gather(run: BegunRun, look: Progress, listen: Progress) -> Findings:
    """Gather what a report tells.

    Parameters
    ----------
    run : BegunRun
        As `finished_run` gives it.
    look, listen : callable
        Are told how many boxes have been read, and of how many: to look at the result, and to
        estimate the noise.
    """
    config = run.job.config
    inspection = inspect_run(run, look)
    noise = tuple(survey(config, listen))
    timeline = read_timeline(run.ledger, run.job.plan.grid)
    projected = _projected_bytes(run)
    return Findings(
        run=run,
        inspection=inspection,
        noise=noise,
        timeline=timeline,
        projected_bytes=projected,
        verdicts=tuple(_verdicts(run, inspection, noise, timeline, projected)),
        yaml=_text(config),
        provenance=read_provenance(config.output.path) or {},
        versions=versions(),
        made=datetime.now(UTC),
    )


def _verdicts(
    run: BegunRun,
    inspection: Inspection,
    noise: tuple[ChannelNoise, ...],
    timeline: Timeline,
    projected: int | None,
) -> list[Verdict]:
    many = run.image.info.shape[1] > 1

    def name(channel: int) -> str:
        return f", channel {channel}" if many else ""

    found = [noise_verdict(name(each.channel), each) for each in noise]
    for channel in inspection.channels:
        found += residual_verdicts(name(channel.channel), channel.residual)
    found += seam_verdicts(inspection.seams, exact=run.job.plan.exact_halo)
    found.append(memory_verdict(timeline.peak_bytes, projected))
    again = sum(timeline.reasons.values())
    found.append(retry_verdict(run.ledger.blocks, timeline.retried, again))
    if run.left:
        words = f"{number(run.left, 'block')} of its levels are left: `denoise5d run` goes on."
        found.append(Verdict("pyramid", Grade.DOUBT, words))
    return found


def _projected_bytes(run: BegunRun) -> int | None:
    """Return what the plan gives a worker, as far as this machine can plan the run."""
    config = run.job.config
    try:
        return prepare(config, run.image.info, machine_of(config)).plan.bytes_per_worker
    except PlanError:  # made on another machine, or a cluster that is not to be asked from here
        return None


def _text(config: Config) -> str:
    text = config.source.read_text(errors="replace")
    return text if len(text) <= _MOST_TEXT else text[:_MOST_TEXT] + "\n..."
