"""How far a run has come, read from its ledger alone: while it runs, after a crash, when done."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import prod
from pathlib import Path

from denoise5d.geometry import BlockGrid, as_index
from denoise5d.ledger import LEDGER_NAME, LOCK_NAME, BlockRecord, Ledger, run_folder
from denoise5d.lock import is_dead, read_owner

_RECENT = 64
"""The rate is that of so many blocks, the last ones."""


@dataclass(frozen=True, slots=True)
class Status:
    """A run at one moment.

    Attributes
    ----------
    output : str
        Path of the output.
    state : str
        ``"not begun"``, ``"running"``, ``"stopped"`` or ``"done"``.
    owner : str or None
        Who holds the output's lock.
    blocks, blocks_done : int
        In all, and done.
    voxels, voxels_done : int
        Core voxels in all, and done.
    voxels_per_second : float or None
        Of all workers together, over the last blocks; None before the first.
    seconds_left : float or None
        At that rate; None unless running.
    read_seconds, kernel_seconds, write_seconds, verify_seconds : float
        Summed over the blocks that are done.
    peak_bytes : int
        The largest memory of any worker.
    retried : int
        Blocks that took more than one attempt.
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
    read_seconds: float = 0.0
    kernel_seconds: float = 0.0
    write_seconds: float = 0.0
    verify_seconds: float = 0.0
    peak_bytes: int = 0
    retried: int = 0


def read_status(output: Path) -> Status:
    """Return the status of the run that writes `output`; raise OutputError if it is damaged."""
    folder = run_folder(output)
    if not (folder / LEDGER_NAME).exists():
        return Status(str(output), "not begun")
    ledger = Ledger.open(folder / LEDGER_NAME, read_only=True)
    shapes = [as_index(ledger.header[k]) for k in ("image_shape", "block_shape", "halo")]
    grid = BlockGrid(*shapes)
    tally = _Tally(grid)
    for record in ledger.records():
        tally.add(record)
    owner = read_owner(folder / LOCK_NAME)
    if owner is not None and is_dead(owner):
        owner = None
    voxels = prod(grid.image_shape)
    complete = tally.blocks == ledger.blocks
    state = "done" if complete else "running" if owner else "stopped"
    rate = tally.rate()
    left = (voxels - tally.voxels) / rate if rate and state == "running" else None
    return Status(
        output=str(output),
        state=state,
        owner=str(owner) if owner else None,
        blocks=ledger.blocks,
        blocks_done=tally.blocks,
        voxels=voxels,
        voxels_done=tally.voxels,
        voxels_per_second=rate,
        seconds_left=left,
        read_seconds=tally.seconds[0],
        kernel_seconds=tally.seconds[1],
        write_seconds=tally.seconds[2],
        verify_seconds=tally.seconds[3],
        peak_bytes=tally.peak_bytes,
        retried=tally.retried,
    )


class _Tally:
    """Sums over records, in constant memory."""

    def __init__(self, grid: BlockGrid) -> None:
        self._grid = grid
        self._recent: deque[tuple[str, int, float]] = deque(maxlen=_RECENT)
        self.blocks = self.voxels = self.peak_bytes = self.retried = 0
        self.seconds = [0.0, 0.0, 0.0, 0.0]

    def add(self, record: BlockRecord) -> None:
        voxels = self._grid[record.block].core.voxels
        stages = (
            record.seconds.read,
            record.seconds.kernel,
            record.seconds.write,
            record.seconds.verify,
        )
        self.seconds = [a + b for a, b in zip(self.seconds, stages, strict=True)]
        self._recent.append((record.worker, voxels, sum(stages)))
        self.blocks += 1
        self.voxels += voxels
        self.peak_bytes = max(self.peak_bytes, record.peak_bytes)
        self.retried += record.attempts > 1

    def rate(self) -> float | None:
        """Return voxels a second: what one worker does, times the workers of the last blocks.

        Pauses between two runs do not count.
        """
        seconds = sum(entry[2] for entry in self._recent)
        if seconds == 0:
            return None
        workers = len({entry[0] for entry in self._recent})
        return workers * sum(entry[1] for entry in self._recent) / seconds
