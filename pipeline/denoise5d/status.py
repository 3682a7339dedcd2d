"""How far a run has come, read from its ledger alone: while it runs, after a crash, when done."""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from math import prod
from pathlib import Path
from typing import Any

from denoise5d.errors import InputError, OutputError
from denoise5d.geometry import BlockGrid, as_index
from denoise5d.jobs import read_driver_facts, recorded_jobs
from denoise5d.ledger import LEDGER_NAME, LOCK_NAME, Ledger, run_folder
from denoise5d.level_ledgers import open_level_ledger
from denoise5d.lock import Owner, is_dead, read_owner
from denoise5d.prepare import begun_levels
from denoise5d.records import BlockRecord
from denoise5d.slurm import Silent, queue
from denoise5d.slurm_words import QueuedJob
from denoise5d.store import open_image

_RECENT = 64
"""The rate is that of so many blocks, the last ones."""


@dataclass(frozen=True, slots=True)
class LevelStatus:
    """A level of the pyramid at one moment.

    Attributes
    ----------
    level : int
        Its number, from 1.
    blocks, blocks_done : int
        In all, and done.
    """

    level: int
    blocks: int
    blocks_done: int


@dataclass(frozen=True, slots=True)
class Status:
    """A run at one moment.

    Attributes
    ----------
    output : str
        Path of the output.
    state : str
        ``"not begun"``, ``"starting"`` (a driver is at work and has no blocks yet), ``"running"``,
        ``"stopped"`` or ``"done"``; ``"lost"`` if the ledger is there and the output is not.
    owner : str or None
        Who works on the output at this moment.
    blocks, blocks_done : int
        In all, and done.
    voxels, voxels_done : int
        Core voxels in all, and done.
    voxels_per_second : float or None
        Of all workers together, over the last blocks; None before the first.
    seconds_left : float or None
        At that rate, to denoise the image; None unless running.
    last_block : str or None
        When the last block was done, ISO 8601, UTC.
    read_seconds, kernel_seconds, write_seconds, verify_seconds : float
        Summed over the blocks that are done.
    peak_bytes : int
        The largest memory of any worker.
    retried : int
        Blocks that took more than one attempt.
    levels : tuple of LevelStatus
        Of the pyramid, if it is wanted; the blocks above are those of the image alone.
    jobs : tuple of QueuedJob or None
        Of this run, that have not ended; None if SLURM is not here, or does not answer.
    tunnel : str or None
        The command that brings the driver's web page to this machine; None without such a page.
    """

    output: str
    state: str
    owner: str | None = None
    blocks: int = 0
    blocks_done: int = 0
    voxels: int = 0
    voxels_done: int = 0
    voxels_per_second: float | None = None
    seconds_left: float | None = None
    last_block: str | None = None
    read_seconds: float = 0.0
    kernel_seconds: float = 0.0
    write_seconds: float = 0.0
    verify_seconds: float = 0.0
    peak_bytes: int = 0
    retried: int = 0
    levels: tuple[LevelStatus, ...] = ()
    jobs: tuple[QueuedJob, ...] | None = ()
    tunnel: str | None = None


class Tally:
    """Sums over the blocks of a run, in constant memory.

    Attributes
    ----------
    blocks, voxels : int
        That are done.
    seconds : dict of float
        Of the workers, by stage: read, kernel, write, verify.
    peak_bytes : int
        The largest memory of any worker.
    retried : int
        Blocks that took more than one attempt.
    last : datetime or None
        When the last block was done.
    """

    def __init__(self) -> None:
        self.blocks = self.voxels = self.peak_bytes = self.retried = 0
        self.seconds = {"read": 0.0, "kernel": 0.0, "write": 0.0, "verify": 0.0}
        self.last: datetime | None = None
        self._recent: deque[_Entry] = deque(maxlen=_RECENT)

    def add(self, record: BlockRecord, voxels: int) -> None:
        """Add a block and its core voxels."""
        stages = asdict(record.seconds)
        for stage in self.seconds:
            self.seconds[stage] += stages[stage]
        start = datetime.fromisoformat(record.start)
        end = start + timedelta(seconds=sum(stages.values()))
        files = record.seconds.read + record.seconds.write + record.seconds.verify
        entry = _Entry(record.worker, start, end, voxels, record.seconds.kernel, files)
        self._recent.append(entry)
        self.blocks += 1
        self.voxels += voxels
        self.peak_bytes = max(self.peak_bytes, record.peak_bytes)
        self.retried += record.attempts > 1
        self.last = max(entry.end, self.last or entry.end)

    def rate(self, *, since: datetime | None = None, workers: int | None = None) -> float | None:
        """Return voxels a second: what one worker does, times their number. None without blocks.

        A worker reads and writes while the kernel runs: the longer of the two counts. Pauses
        between two runs do not.

        Parameters
        ----------
        since : datetime, optional
            Blocks begun before it count only as long as there are no others: an earlier run may
            have had other workers.
        workers : int, optional
            How many there are; otherwise as many as did the last blocks.
        """
        entries = [e for e in self._recent if since is None or e.start >= since]
        entries = entries or list(self._recent)
        seconds = max(sum(e.kernel for e in entries), sum(e.files for e in entries))
        if seconds == 0:
            return None
        workers = workers or len({entry.worker for entry in entries})
        return workers * sum(entry.voxels for entry in entries) / seconds


@dataclass(frozen=True, slots=True)
class _Entry:
    worker: str
    start: datetime
    end: datetime
    voxels: int
    kernel: float
    files: float


def read_status(output: Path, *, pyramid: bool = False) -> Status:
    """Return the status of the run that writes `output`; raise OutputError if it is damaged.

    Parameters
    ----------
    output : Path
        The store.
    pyramid : bool
        Whether the run is done only when the levels of the pyramid are.
    """
    owner = _living_owner(run_folder(output) / LOCK_NAME)
    recorded = {record.job for record in recorded_jobs(output)}
    jobs = _jobs(recorded)
    if owner and jobs is not None and owner.job in recorded - {job.id for job in jobs}:
        owner = None  # it was killed, on a machine of which nothing else is known here
    status = _read_ledger(output, owner, pyramid=pyramid)
    tunnel = None if owner is None else _tunnel(output)
    return replace(status, jobs=jobs, tunnel=tunnel)


def _read_ledger(output: Path, owner: Owner | None, *, pyramid: bool) -> Status:
    folder = run_folder(output)
    if not (folder / LEDGER_NAME).exists():
        if owner is None:
            return Status(str(output), "not begun")
        return Status(str(output), "starting", owner=str(owner))
    ledger = Ledger.open(folder / LEDGER_NAME, read_only=True)
    grid = _grid(ledger)
    tally = Tally()
    for record in ledger.records():
        tally.add(record, grid[record.block].core.voxels)
    voxels = prod(grid.image_shape)
    left_voxels = voxels - tally.voxels
    levels = _levels(output, ledger) if pyramid and output.exists() else ()
    left = ledger.blocks - tally.blocks + sum(v.blocks - v.blocks_done for v in levels)
    state = _state(output, complete=not left, owner=owner)
    rate = tally.rate(since=None if owner is None else datetime.fromisoformat(owner.since))
    seconds: dict[str, Any] = {f"{k}_seconds": round(v, 4) for k, v in tally.seconds.items()}
    return Status(
        output=str(output),
        state=state,
        owner=None if owner is None else str(owner),
        blocks=ledger.blocks,
        blocks_done=tally.blocks,
        voxels=voxels,
        voxels_done=tally.voxels,
        voxels_per_second=rate,
        seconds_left=left_voxels / rate if rate and left_voxels and state == "running" else None,
        last_block=None if tally.last is None else tally.last.isoformat(timespec="seconds"),
        **seconds,
        peak_bytes=tally.peak_bytes,
        retried=tally.retried,
        levels=levels,
    )


def _levels(output: Path, ledger: Ledger) -> tuple[LevelStatus, ...]:
    """Return how far the levels are; one counts only if all below it is complete."""
    try:
        levels = begun_levels(ledger, open_image(output).info)
    except (InputError, OutputError):  # `verify` says what is wrong with it
        return ()
    found, complete = [], ledger.done_count == ledger.blocks
    for level in levels:
        own = open_level_ledger(output, level, read_only=True) if complete else None
        done = 0 if own is None else own.done_count
        found.append(LevelStatus(level.number, len(level.grid), done))
        complete = done == len(level.grid)
    return tuple(found)


def _jobs(recorded: set[str]) -> tuple[QueuedJob, ...] | None:
    if not recorded:
        return ()
    try:
        return tuple(job for number, job in queue().items() if number in recorded)
    except Silent:
        return None


def _tunnel(output: Path) -> str | None:
    host, port = read_driver_facts(output) or ("", None)
    return f"ssh -L {port}:localhost:{port} {host}" if port else None


def _living_owner(lock: Path) -> Owner | None:
    owner = read_owner(lock)
    return None if owner is None or is_dead(owner) else owner


def _grid(ledger: Ledger) -> BlockGrid:
    try:
        shapes = [as_index(ledger.header[k]) for k in ("image_shape", "block_shape", "halo")]
        return BlockGrid(*shapes)
    except (KeyError, TypeError, ValueError) as error:
        raise OutputError(
            f"{ledger.path} does not say how its run was cut into blocks ({error!r})"
        ) from error


def _state(output: Path, *, complete: bool, owner: Owner | None) -> str:
    if not output.exists():
        return "lost"
    if complete:
        return "done"
    return "stopped" if owner is None else "running"
