"""What of a conversion is done: a line for each slab, in the folder where the new image grows.

::

    .embryo.zarr.conversion/
        slabs.jsonl     line 1: the fingerprint; each further line: one finished slab
        lock            who is converting
        image           the new image, renamed to embryo.zarr when it is whole

A conversion with another fingerprint (another source, or the same one changed) begins anew. A torn
last line does not count.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Slab:
    """A slab that is on the disk.

    Attributes
    ----------
    slab : int
        Its number.
    channel : int
        The channel it belongs to.
    lowest, highest : float
        Of its values; infinite (and turned round) if all are NaN.
    """

    slab: int
    channel: int
    lowest: float
    highest: float


class SlabLedger:
    """The slabs that are done, in memory and in a file.

    Attributes
    ----------
    done : dict of int to Slab
        By number.
    """

    def __init__(self, path: Path, done: dict[int, Slab]) -> None:
        self.path = path
        self.done = done

    @classmethod
    def begin(cls, path: Path, fingerprint: Mapping[str, Any]) -> SlabLedger:
        """Make a ledger of nothing."""
        path.write_bytes(b"")
        _append(path, fingerprint)
        return cls(path, {})

    @classmethod
    def resumed(cls, path: Path, fingerprint: Mapping[str, Any]) -> SlabLedger | None:
        """Return what an earlier conversion with this very fingerprint has done; None: nothing."""
        try:
            content = path.read_bytes()
        except OSError:
            return None
        whole = content[: content.rfind(b"\n") + 1]
        try:
            header, *lines = [json.loads(line) for line in whole.splitlines()]
            slabs = [Slab(**line) for line in lines]
        except (TypeError, ValueError):
            return None
        if header != json.loads(json.dumps(fingerprint)):
            return None
        os.truncate(path, len(whole))
        return cls(path, {slab.slab: slab for slab in slabs})

    @staticmethod
    def count(path: Path) -> int:
        """Return how many slabs a file says are done, of whatever conversion."""
        with suppress(OSError):
            return max(0, path.read_bytes().count(b"\n") - 1)
        return 0

    def append(self, slab: Slab) -> None:
        """Count a slab as done: it is when this returns."""
        _append(self.path, asdict(slab))
        self.done[slab.slab] = slab


def _append(path: Path, values: Mapping[str, Any]) -> None:
    with path.open("ab") as file:
        file.write(json.dumps(values).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
