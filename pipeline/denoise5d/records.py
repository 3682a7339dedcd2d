"""What is known of a finished block: a line of the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class StageSeconds:
    """Wall time of one block, stage by stage, in seconds.

    Attributes
    ----------
    read, kernel, write, verify : float
        Reading the padded box; denoising; writing the core; reading it back and comparing. Of a
        level of the pyramid: reading what is below and taking the mean; nothing; the same two.
    wait : float
        Between these, while the kernel had another block.
    """

    read: float
    kernel: float
    write: float
    verify: float
    wait: float = 0.0

    @property
    def busy(self) -> float:
        """All of it but the waiting."""
        return self.read + self.kernel + self.write + self.verify


@dataclass(frozen=True, slots=True)
class BlockRecord:
    """One finished block.

    Attributes
    ----------
    block : int
        Number of the block in the grid.
    worker : str
        Name of the worker that did it.
    job : str or None
        SLURM job of the worker.
    start : str
        When it began, ISO 8601, UTC.
    seconds : StageSeconds
        Wall time of the attempt that succeeded.
    peak_bytes : int
        Peak memory of the worker, in bytes.
    checksums : tuple of str
        One for the decoded bytes of each write unit of the core, in C order.
    attempts : int
        Attempts it took, at least 1.
    failures : tuple of str
        Why it did not succeed before, in this run of the driver: the last reasons, shortened. Also
        those that blamed nobody, such as a preempted job, which do not count as attempts.
    """

    block: int
    worker: str
    job: str | None
    start: str
    seconds: StageSeconds
    peak_bytes: int
    checksums: tuple[str, ...]
    attempts: int
    failures: tuple[str, ...] = ()


def record_of(values: Mapping[str, Any]) -> BlockRecord:
    """Return the record in a parsed line; raise KeyError, TypeError or ValueError if it is none."""
    nested = {
        "seconds": StageSeconds(**values["seconds"]),
        "checksums": tuple(values["checksums"]),
        "failures": tuple(values.get("failures", ())),  # older ledgers have none
    }
    return BlockRecord(**{**values, **nested})
