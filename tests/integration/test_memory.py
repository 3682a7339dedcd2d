"""An image that is more than ten times as large as what all workers together may hold."""

from __future__ import annotations

import time

import numpy as np
import psutil
import zarr

from denoise5d.machine import this_machine
from denoise5d.prepare import open_input, prepare
from runs import Project, driver, structured

SHAPE = (1, 16, 1, 2048, 2048)
TILE = (1, 1, 1, 256, 256)
BLOCKS = 4 * 8 * 8
MIB = 2**20


def test_memory_is_bounded(project: Project) -> None:
    _store(project)
    project.write(
        output={"chunks": list(TILE), "shards": None},
        denoise={"iterations": 1, "patch": [0, 0, 0, 1, 1]},
        blocks={"shape": [1, 4, 1, 256, 256]},
    )
    config = project.config()
    plan = prepare(config, open_input(config).info, this_machine()).plan
    image_bytes = 4 * np.prod(SHAPE)
    assert plan.blocks == BLOCKS
    for_blocks = plan.bytes_per_worker - plan.budget.reserve_bytes
    assert image_bytes > 10 * plan.budget.workers * for_blocks

    resident: list[int] = []  # of the driver, from the first block on
    with driver(project) as running:
        running.wait_for_blocks(2)
        process = psutil.Process(running.process.pid)
        while len(project.lines()) < 1 + BLOCKS and running.process.poll() is None:
            resident.append(process.memory_info().rss)
            time.sleep(0.1)
        assert running.finish() == 0, running.log()

    peaks = [record.peak_bytes for record in project.records()]
    assert max(peaks) <= plan.bytes_per_worker
    assert max(peaks) - peaks[0] < 64 * MIB, "what blocks leave behind piles up in the workers"
    assert max(resident) - resident[0] < 32 * MIB


def _store(project: Project) -> None:
    """Store an image of 256 MiB, one channel at a time."""
    image = zarr.create_array(
        project.input, shape=SHAPE, dtype="float32", chunks=TILE, compressors=None
    )
    tile = structured(TILE, "float32")
    for c in range(SHAPE[1]):
        image[0, c] = np.tile(tile[0, 0] + c, (1, 8, 8))
