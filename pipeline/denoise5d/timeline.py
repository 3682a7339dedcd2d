"""When the workers of a run did what: from its ledger, in bounded memory.

The ledger is read twice, however long it is: once to learn which workers there were and when none
was at work, once to count. Pauses, between two runs of the driver say, are left out of the time
axis; where one was is kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from denoise5d.geometry import BlockGrid
from denoise5d.ledger import BlockRecord, Ledger

Floats: TypeAlias = NDArray[np.float64]

STAGES = ("read", "wait", "kernel", "write", "verify")
"""In the order in which a block goes through them; all its waiting is put before the kernel."""

_BINS = 240
_PAUSE_SECONDS = 60.0
"""Without a block in work for so long, time is cut out."""

_MOST_LANES = 16
"""Workers that are shown one by one."""

_MOST_REASONS, _REASON_LENGTH = 50, 160
"""Kinds of reasons that are told apart, by so many characters."""


@dataclass(slots=True)
class Worker:
    """What one worker did.

    Attributes
    ----------
    name : str
        As in the ledger.
    job : str or None
        Of SLURM.
    blocks : int
        That it did.
    peak_bytes : int
        The largest memory it had.
    stages : ndarray, shape (len(STAGES), bins), or None
        Mean number of blocks in each stage, bin by bin; None if the worker is not shown.
    """

    name: str
    job: str | None
    blocks: int = 0
    peak_bytes: int = 0
    stages: Floats | None = None


@dataclass(slots=True)
class Timeline:
    """A finished run over time.

    Attributes
    ----------
    sessions : list of (float, float)
        Begin and end of each stretch of work, in seconds since 1970, in order.
    workers : list of Worker
        All of them, by their names.
    edges : ndarray, shape (bins + 1,)
        Seconds of work, the pauses left out.
    rates : ndarray, shape (bins,)
        Voxels a second, all workers together.
    active : ndarray, shape (bins,)
        Mean number of blocks in work.
    seconds : dict of str to float
        Sums over all blocks, by stage.
    voxels : int
        Core voxels of all blocks.
    retried : int
        Blocks that took more than one attempt.
    reasons : Counter of str
        Why blocks were done again, and how often; shortened.
    examples : dict of str to int
        A block for each reason.
    """

    sessions: list[tuple[float, float]]
    workers: list[Worker]
    edges: Floats
    rates: Floats
    active: Floats
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    voxels: int = 0
    retried: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    examples: dict[str, int] = field(default_factory=dict)

    @property
    def worked(self) -> float:
        """Seconds, the pauses left out."""
        return float(self.edges[-1])

    @property
    def pauses(self) -> list[tuple[float, float]]:
        """Where on the axis a pause was left out, and how many seconds long it was."""
        found, at = [], 0.0
        for (begin, end), (following, _) in zip(self.sessions, self.sessions[1:], strict=False):
            at += end - begin
            found.append((at, following - end))
        return found

    @property
    def peak_bytes(self) -> int:
        """The largest memory of any worker."""
        return max(worker.peak_bytes for worker in self.workers)


def read_timeline(ledger: Ledger, grid: BlockGrid) -> Timeline:
    """Return what the records of a ledger tell.

    Parameters
    ----------
    ledger : Ledger
        With one block done at least.
    grid : BlockGrid
        Its blocks.
    """
    workers, sessions = _survey(ledger.records())
    edges = np.linspace(0, sum(end - begin for begin, end in sessions), _BINS + 1)
    names = sorted(workers, key=_by_number)
    for name in names[:: -(-len(names) // _MOST_LANES)]:
        workers[name].stages = np.zeros((len(STAGES), _BINS))
    timeline = Timeline(
        sessions, [workers[name] for name in names], edges, np.zeros(_BINS), np.zeros(_BINS)
    )
    clock = _Clock(sessions, edges)
    for record in ledger.records():
        shown = workers[record.worker].stages
        _add(timeline, record, grid[record.block].core.voxels, clock, shown)
        _add_reasons(timeline, record)
    return timeline


def _survey(records: Iterable[BlockRecord]) -> tuple[dict[str, Worker], list[tuple[float, float]]]:
    """Return the workers, and the stretches of time in which blocks were in work."""
    workers: dict[str, Worker] = {}
    stretches: list[tuple[float, float]] = []
    for record in records:
        worker = workers.setdefault(record.worker, Worker(record.worker, record.job))
        worker.blocks += 1
        worker.peak_bytes = max(worker.peak_bytes, record.peak_bytes)
        begin, end = _span(record)
        if stretches and begin <= stretches[-1][1] + _PAUSE_SECONDS:
            last = stretches.pop()
            begin, end = min(begin, last[0]), max(end, last[1])
        stretches.append((begin, end))
    return workers, _merged(stretches)


def _merged(stretches: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return disjoint stretches in order: records come in the order in which blocks ended."""
    merged: list[tuple[float, float]] = []
    for begin, end in sorted(stretches):
        if merged and begin <= merged[-1][1] + _PAUSE_SECONDS:
            begin, end = merged[-1][0], max(end, merged.pop()[1])
        merged.append((begin, end))
    return merged


def _span(record: BlockRecord) -> tuple[float, float]:
    moment = datetime.fromisoformat(record.start)
    begin = moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
    return begin, begin + record.seconds.busy + record.seconds.wait


def _by_number(name: str) -> tuple[int, str]:
    """Sort ``worker-9`` before ``worker-10``."""
    digits = "".join(c for c in name if c.isdigit())
    return (int(digits) if digits else 0, name)


class _Clock:
    """From moments to bins of the axis without pauses."""

    def __init__(self, sessions: list[tuple[float, float]], edges: Floats) -> None:
        self._begins = np.array([begin for begin, _ in sessions])
        lengths = np.array([end - begin for begin, end in sessions])
        self._before = np.concatenate([[0.0], np.cumsum(lengths)[:-1]])
        self.width = max(float(edges[1]), 1e-9)

    def place(self, moment: float) -> float:
        """Return where a moment lies, in bins."""
        session = max(0, int(np.searchsorted(self._begins, moment, side="right")) - 1)
        seconds = float(self._before[session] + moment - self._begins[session])
        return min(max(0.0, seconds / self.width), float(_BINS))


def _shares(begin: float, end: float) -> Iterator[tuple[int, float]]:
    """Yield the bins that a span covers, and which share of each."""
    first, last = int(begin), min(int(end), _BINS - 1)
    for bin_ in range(first, last + 1):
        share = min(end, bin_ + 1) - max(begin, bin_)
        if share > 0:
            yield bin_, share


def _add(
    timeline: Timeline, record: BlockRecord, voxels: int, clock: _Clock, shown: Floats | None
) -> None:
    """Count a block where its stages were; its voxels where its kernel was."""
    moment, _ = _span(record)
    at, stages = clock.place(moment), asdict(record.seconds)
    for number, stage in enumerate(STAGES):
        length = stages[stage] / clock.width
        for bin_, share in _shares(at, min(at + length, _BINS)):
            timeline.active[bin_] += share
            if shown is not None:
                shown[number, bin_] += share
            if stage == "kernel":
                timeline.rates[bin_] += voxels * share / length / clock.width
        timeline.seconds[stage] += stages[stage]
        at += length
    timeline.voxels += voxels


def _add_reasons(timeline: Timeline, record: BlockRecord) -> None:
    timeline.retried += record.attempts > 1
    for reason in record.failures:
        words = reason[:_REASON_LENGTH]
        if words not in timeline.reasons and len(timeline.reasons) >= _MOST_REASONS:
            words = "other reasons"
        timeline.reasons[words] += 1
        timeline.examples.setdefault(words, record.block)
