"""A run over time: sums, pauses, bounds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from denoise5d.geometry import BlockGrid
from denoise5d.ledger import Ledger
from denoise5d.records import BlockRecord, StageSeconds
from denoise5d.timeline import STAGES, Timeline, read_timeline

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
SECONDS = StageSeconds(read=1, kernel=5, write=2, verify=1, wait=3)


def grid(blocks: int) -> BlockGrid:
    return BlockGrid((blocks, 1, 1, 10, 10), (1, 1, 1, 10, 10), (0, 0, 0, 0, 0))


def record(
    block: int, at: float, worker: str = "0", peak: int = 2**30, failures: tuple[str, ...] = ()
) -> BlockRecord:
    start = (BEGIN + timedelta(seconds=at)).isoformat(timespec="milliseconds")
    attempts = 1 + len(failures)
    return BlockRecord(block, worker, "7", start, SECONDS, peak, ("a",), attempts, failures)


def timeline(folder: Path, records: list[BlockRecord]) -> Timeline:
    ledger = Ledger.create(folder / "ledger.jsonl", {"blocks": len(records)})
    ledger.append(records)
    return read_timeline(ledger, grid(len(records)))


def test_one_block(tmp_path: Path) -> None:
    found = timeline(tmp_path, [record(0, 0)])
    assert found.worked == pytest.approx(12)
    assert found.pauses == []
    assert found.voxels == 100
    assert found.seconds == {"read": 1, "wait": 3, "kernel": 5, "write": 2, "verify": 1}
    width = np.diff(found.edges)
    assert (found.rates * width).sum() == pytest.approx(100)
    assert (found.active * width).sum() == pytest.approx(12)
    at_kernel = (found.edges[:-1] > 4.1) & (found.edges[1:] < 8.9)
    assert found.rates[at_kernel] == pytest.approx(np.full(at_kernel.sum(), 20))
    (worker,) = found.workers
    assert worker.stages is not None
    assert worker.stages.sum(axis=1) * width[0] == pytest.approx([1, 3, 5, 2, 1])
    before = found.edges[1:] <= 1
    assert worker.stages[STAGES.index("read"), before] == pytest.approx(np.ones(before.sum()))


def test_two_blocks_of_a_worker_at_a_time(tmp_path: Path) -> None:
    found = timeline(tmp_path, [record(0, 0), record(1, 0)])
    assert found.active == pytest.approx(np.full(240, 2.0))
    assert len(found.workers) == 1
    assert found.workers[0].blocks == 2


def test_pauses_are_left_out(tmp_path: Path) -> None:
    """Also where the blocks of one stretch come in another order than they began."""
    found = timeline(
        tmp_path, [record(0, 8), record(1, 0), record(2, 86400), record(3, 86400 + 30)]
    )
    assert found.worked == pytest.approx(20 + 42)
    ((at, length),) = found.pauses
    assert at == pytest.approx(20)
    assert length == pytest.approx(86400 - 20)
    assert (found.active * np.diff(found.edges)).sum() == pytest.approx(48)


def test_workers_are_all_counted_and_some_shown(tmp_path: Path) -> None:
    records = [record(i, i, worker=f"w-{i}", peak=1000 + i) for i in range(100)]
    found = timeline(tmp_path, records)
    assert [worker.name for worker in found.workers] == [f"w-{i}" for i in range(100)]
    assert found.peak_bytes == 1099
    shown = [worker for worker in found.workers if worker.stages is not None]
    assert 8 <= len(shown) <= 16
    assert (found.active * np.diff(found.edges)).sum() == pytest.approx(1200)


def test_reasons_are_counted(tmp_path: Path) -> None:
    records = [
        record(0, 0),
        record(1, 1, failures=("a worker died", "a worker died")),
        record(2, 2, failures=("a worker died",)),
    ]
    found = timeline(tmp_path, records)
    assert found.retried == 2
    assert found.reasons == {"a worker died": 3}
    assert found.examples == {"a worker died": 1}


def test_reasons_are_bounded(tmp_path: Path) -> None:
    records = [record(i, i, failures=(f"{i} " + "x" * 5000,)) for i in range(120)]
    found = timeline(tmp_path, records)
    assert len(found.reasons) == 51
    assert found.reasons["other reasons"] == 70
    assert max(map(len, found.reasons)) == 160
