"""Blocks of a level in a worker: what is written, and when not."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from denoise5d.errors import OutputError
from denoise5d.geometry import Box
from denoise5d.layout import Layout
from denoise5d.level_task import LevelSettings, LevelWorker, level_voxels
from denoise5d.levels import make_levels
from denoise5d.records import BlockRecord
from denoise5d.store import Description, Output, checksum, create_level, create_output, open_output
from denoise5d.writing import Target, Undone

SHAPE = (1, 1, 1, 128, 512)
LAYOUT = Layout((1, 1, 1, 32, 32))
LEVEL = make_levels(SHAPE, (1.0,) * 5, layout=LAYOUT, core_voxels=4096)[0]
PROVENANCE = {"run": 1}


def worker_for(folder: Path, ends: float = inf, io_threads: int = 2) -> LevelWorker:
    path, dtype = folder / "out.zarr", np.dtype("uint16")
    image = Description(name="", shape=SHAPE, dtype=dtype)
    create_output(path, image, layout=LAYOUT, dtype=dtype, provenance=PROVENANCE)
    create_level(path, LEVEL, dtype)
    output, rng = open_output(path), np.random.default_rng(0)
    for unit in Box.whole(SHAPE).tiles(output.unit):
        output.write_unit(unit, rng.integers(0, 2**16, unit.shape).astype(dtype))
    return LevelWorker(LevelSettings(Target(path, 1, io_threads, PROVENANCE, ends), LEVEL, 2**20))


def test_a_block_is_written_and_its_units_have_their_checksums(tmp_path: Path) -> None:
    worker = worker_for(tmp_path)
    record = worker.run(2, "7", 3, seconds=0)
    assert isinstance(record, BlockRecord)
    assert (record.block, record.worker, record.attempts) == (2, "7", 3)
    assert record.seconds.kernel == 0 < record.seconds.read
    below, output = (open_output(tmp_path / "out.zarr", number) for number in (0, 1))
    core = LEVEL.grid[2].core
    np.testing.assert_array_equal(output.read(core), level_voxels(below, LEVEL, core), strict=True)
    units = [checksum(output.read(unit)) for unit in core.tiles(output.unit)]
    assert record.checksums == tuple(units)
    assert len(units) == 4
    rest = LEVEL.grid[1].core
    assert not output.read(rest).any(), "the others are left alone"


@pytest.mark.parametrize("io_threads", [1, 3])
def test_one_block_is_written_at_a_time(
    tmp_path: Path, io_threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a worker never has copies of the write units of two of them."""
    worker = worker_for(tmp_path, io_threads=io_threads)
    inside: set[int] = set()
    most, lock, write = [0], threading.Lock(), Output.write_unit

    def write_unit(output: Output, box: Box, values: Any) -> None:
        block = LEVEL.grid.index_of(box.start)
        with lock:
            inside.add(block)
            most[0] = max(most[0], len(inside))
        time.sleep(0.01)
        write(output, box, values)
        with lock:
            inside.discard(block)

    monkeypatch.setattr(Output, "write_unit", write_unit)
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(lambda block: worker.run(block, "0", 1), range(4)))
    assert all(isinstance(record, BlockRecord) for record in found)
    assert most == [1]


def test_nothing_is_written_after_a_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A block that has only been read by then is given back; so is one that comes later."""
    worker = worker_for(tmp_path)
    read = Output.read

    def stopping(output: Output, box: Box) -> Any:
        worker.stop()
        return read(output, box)

    monkeypatch.setattr(Output, "read", stopping)
    assert worker.run(0, "0", 1) is Undone.STOPPED
    assert worker.run(1, "0", 1) is Undone.STOPPED
    monkeypatch.undo()
    assert not open_output(tmp_path / "out.zarr", 1).read(LEVEL.grid[0].core).any()


def test_no_block_is_begun_that_could_not_end(tmp_path: Path) -> None:
    worker = worker_for(tmp_path, ends=time.time() + 5)
    assert worker.run(0, "0", 1, seconds=100) is Undone.RUN_ENDS
    assert isinstance(worker.run(0, "0", 1, seconds=0), BlockRecord)


def test_nothing_is_written_into_an_output_that_was_begun_anew(tmp_path: Path) -> None:
    worker = worker_for(tmp_path)
    path = tmp_path / "out.zarr"
    image = Description(name="", shape=SHAPE, dtype=np.dtype("uint16"))
    create_output(path, image, layout=LAYOUT, dtype=image.dtype, provenance={"run": 2},
                  overwrite=True)  # fmt: skip
    create_level(path, LEVEL, image.dtype)
    with pytest.raises(OutputError, match="begun anew"):
        worker.run(0, "0", 1)


def test_what_a_file_system_loses_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = worker_for(tmp_path)
    monkeypatch.setattr(Output, "write_unit", lambda *_: None)
    with pytest.raises(OutputError, match="does not hold what was written"):
        worker.run(0, "0", 1)
