"""When the workers of a run did what: from its ledger, in bounded memory.

The ledger is read twice, however long it is: once to learn which workers there were and when none
was at work, once to count. Pauses, between two runs of the driver say, are left out of the time
axis; where one was is kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from denoise5d.geometry import BlockGrid
from denoise5d.ledger import Ledger
from denoise5d.records import BlockRecord

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

STAGES = ("read", "wait", "kernel", "write", "verify")
"""In the order in which a block goes through them; all its waiting is put before the kernel."""

_BINS = 240
_PAUSE_SECONDS = 60.0
"""Without a block in work for so long, time is cut out."""

_BATCH = 2**13
"""Records that are held at a time."""

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
    rates: Floats = field(default_factory=lambda: np.zeros(_BINS))
    active: Floats = field(default_factory=lambda: np.zeros(_BINS))
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
    by_name, sessions = _survey(ledger.records())
    workers = sorted(by_name.values(), key=_by_number)
    timeline = Timeline(
        sessions, workers, np.linspace(0, sum(b - a for a, b in sessions), _BINS + 1)
    )
    shown = workers[:: -(-len(workers) // _MOST_LANES)]
    rows = {worker.name: row for row, worker in enumerate(shown)}
    axis = _Axis(sessions, timeline.worked)
    in_work, voxels = _Coverage((len(shown) + 1) * len(STAGES)), _Coverage(1)
    for batch in _batches(ledger.records(), _BATCH):
        _count(timeline, batch, grid, axis, rows, in_work, voxels)
    stages = in_work.bins().reshape(len(shown) + 1, len(STAGES), _BINS)
    for worker, lane in zip(shown, stages, strict=False):  # the last lane is that of all others
        worker.stages = lane
    timeline.rates = voxels.bins()[0] / axis.width
    timeline.active = stages.sum(axis=(0, 1))
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


def _by_number(worker: Worker) -> tuple[int, str]:
    """Sort ``worker-9`` before ``worker-10``."""
    digits = "".join(c for c in worker.name if c.isdecimal())
    return (int(digits) if digits else 0, worker.name)


class _Axis:
    """From moments to bins of the axis without pauses."""

    def __init__(self, sessions: list[tuple[float, float]], worked: float) -> None:
        self._begins = np.array([begin for begin, _ in sessions])
        lengths = np.array([end - begin for begin, end in sessions])
        self._before = np.concatenate([[0.0], np.cumsum(lengths)[:-1]])
        self.width = max(worked / _BINS, 1e-9)

    def places(self, moments: Floats) -> Floats:
        """Return where moments lie, in bins."""
        session = np.maximum(0, np.searchsorted(self._begins, moments, side="right") - 1)
        seconds: Floats = self._before[session] + moments - self._begins[session]
        return seconds / self.width


class _Coverage:
    """How much many spans cover of each bin, in rows, without a loop over the bins of each span.

    What a span from a to b covers up to x is ``ramp(x - a) - ramp(x - b)``, with
    ``ramp(u) = max(u, 0)``. So each end goes into its bin twice, as itself and times its place, and
    sums from the left give what is covered up to each edge.
    """

    def __init__(self, rows: int) -> None:
        self._ends = np.zeros((rows, _BINS + 1))
        self._places = np.zeros((rows, _BINS + 1))

    def add(self, rows: Ints, begins: Floats, ends: Floats, weights: Floats) -> None:
        """Add spans, in bins."""
        for at, sign in ((begins, 1), (ends, -1)):
            inside = np.clip(at, 0, _BINS)
            cells = rows * (_BINS + 1) + inside.astype(np.int64)
            for sums, values in ((self._ends, weights), (self._places, weights * inside)):
                found = np.bincount(cells, sign * values, minlength=sums.size)
                sums += found.reshape(sums.shape)

    def bins(self) -> Floats:
        """Return what is covered of each bin."""
        edges = np.arange(_BINS + 1)
        before = [np.cumsum(sums, axis=1)[:, :-1] for sums in (self._ends, self._places)]
        covered = edges[1:] * before[0] - before[1]
        return np.diff(covered, axis=1, prepend=0)


def _batches(records: Iterator[BlockRecord], size: int) -> Iterator[list[BlockRecord]]:
    while batch := list(islice(records, size)):
        yield batch


def _count(
    timeline: Timeline, batch: list[BlockRecord], grid: BlockGrid, axis: _Axis,
    rows: dict[str, int], in_work: _Coverage, voxels: _Coverage,
) -> None:  # fmt: skip
    """Count blocks where their stages were, and their voxels where their kernel was."""
    row = np.array([rows.get(record.worker, len(rows)) for record in batch])
    at = axis.places(np.array([_span(record)[0] for record in batch]))
    sizes = _core_voxels(grid, np.array([record.block for record in batch]))
    for number, stage in enumerate(STAGES):
        seconds = np.array([getattr(record.seconds, stage) for record in batch])
        end = at + seconds / axis.width
        in_work.add(row * len(STAGES) + number, at, end, np.ones(len(batch)))
        if stage == "kernel":
            length = np.maximum(end - at, 1e-9)
            voxels.add(np.zeros_like(row), end - length, end, sizes / length)
        timeline.seconds[stage] += float(seconds.sum())
        at = end
    timeline.voxels += int(sizes.sum())
    for record in batch:
        timeline.retried += record.attempts > 1
        _add_reasons(timeline, record)


def _core_voxels(grid: BlockGrid, blocks: Ints) -> Ints:
    """Return how many voxels the cores of blocks have."""
    cells = np.unravel_index(blocks, grid.counts)
    lengths = (
        np.minimum(length, n - cell * length)
        for cell, length, n in zip(cells, grid.block_shape, grid.image_shape, strict=True)
    )
    voxels: Ints = np.prod(list(lengths), axis=0, dtype=np.int64)
    return voxels


def _add_reasons(timeline: Timeline, record: BlockRecord) -> None:
    for reason in record.failures:
        words = reason[:_REASON_LENGTH]
        if words not in timeline.reasons and len(timeline.reasons) >= _MOST_REASONS:
            words = "other reasons"
        timeline.reasons[words] += 1
        timeline.examples.setdefault(words, record.block)
