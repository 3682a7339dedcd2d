"""What a worker holds: of one block beside another one in the kernel, and of a whole image."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
import zarr
from distributed import Client

from denoise5d.execute import Run
from denoise5d.ledger import Ledger
from denoise5d.level_ledgers import level_ledgers
from denoise5d.machine import peak_bytes, this_machine
from denoise5d.prepare import open_input, prepare
from runs import PATIENCE_SECONDS, Project, driver, structured

SHAPE = (1, 16, 1, 2048, 2048)
TILE = (1, 1, 1, 256, 256)
BLOCKS = 4 * 8 * 8
MIB = 2**20


def test_memory_is_bounded(project: Project) -> None:
    """An image more than ten times as large as what all workers together may hold."""
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


KERNEL_ALONE = """
import json, sys
import numpy as np
from denoise5d import denoise
from denoise5d.machine import peak_bytes

shape, options = json.loads(sys.argv[1])
tile = np.random.default_rng(0).poisson(40, (1, 1, 64, 64)).astype(np.uint16)
denoise(tile, axes="TZYX", gain=1, offset=0, threads=2, **options)
idle = peak_bytes()
image = np.tile(tile, (shape[0], shape[1], shape[2] // 64, shape[3] // 64))
result = denoise(image, axes="TZYX", gain=1, offset=0, threads=2, **options)
print((peak_bytes() - idle) / result.nbytes)
"""


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        pytest.param((4, 8, 512, 512), {}, id="4-D, defaults"),
        pytest.param((1, 1, 2048, 2048), {}, id="2-D, defaults"),
        pytest.param((2, 4, 1024, 1024), {"method": "safir", "iterations": 2}, id="4-D, SAFIR"),
    ],
)
def test_kernel_takes_five_blocks(shape: tuple[int, ...], options: dict[str, object]) -> None:
    """With its 16-bit input and its output, in a process of its own."""
    command = [sys.executable, "-c", KERNEL_ALONE, json.dumps([shape, options])]
    told = subprocess.check_output(command, text=True, timeout=PATIENCE_SECONDS)
    assert 2 < float(told) <= 5


SAFIR = {"method": "safir", "iterations": 2, "patch": [0, 0, 0, 1, 1]}
REFINED = {
    "method": "ridge",
    "iterations": 1,
    "patch": [0, 0, 0, 0, 0],
    "ridge": {"search": [0, 0, 0, 2, 2], "stride": [1, 1, 1, 7, 7], "group": 8},
}


@pytest.mark.parametrize("denoise", [SAFIR, REFINED], ids=["safir", "ridge"])
@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_two_blocks_fit_the_memory_of_six(
    dtype: str,
    denoise: dict[str, object],
    project: Project,
    client: Client,
    start: Callable[..., Run],
) -> None:
    """One in the kernel, where it takes most; the other read, or written."""
    block, blocks = (1, 1, 1, 2048, 2048), 8
    image = zarr.create_array(
        project.input, shape=(1, blocks, *block[2:]), dtype=dtype, chunks=TILE, fill_value=0
    )
    tile = structured(TILE, dtype)[0, 0, 0]
    for c in range(blocks):
        image[0, c, 0] = np.tile(tile + np.array(c, dtype), (8, 8))
    project.write(
        output={"chunks": list(TILE), "shards": None},
        denoise=denoise,
        blocks={"shape": list(block)},
    )
    client.run(Path("/proc/self/clear_refs").write_text, "5")  # counts the peak from now on
    start(_small(project.folder / "small"))  # the interpreter's part of the reserve
    idle = max(client.run(peak_bytes).values())
    plan = start(project).job.plan
    assert plan.padded_bytes == 4 * np.prod(block)
    records = project.records()
    assert max(r.seconds.wait for r in records) > 0, "nothing overlaps"
    used = max(record.peak_bytes for record in records) - idle
    assert used <= 6 * plan.padded_bytes


@pytest.mark.parametrize("shards", [None, [1, 1, 1, 2048, 2048]], ids=["chunks", "shards"])
def test_levels_fit_the_memory_of_blocks(
    shards: list[int] | None, project: Project, client: Client, start: Callable[..., Run]
) -> None:
    """Of a pyramid that is made by itself, when all blocks have been done."""
    block = (1, 1, 1, 2048, 2048)
    image = zarr.create_array(
        project.input, shape=(1, 2, 1, 4096, 4096), dtype="uint16", chunks=TILE, fill_value=0
    )
    for c in range(2):
        image[0, c, 0] = np.tile(structured(TILE, "uint16")[0, 0, 0] + np.uint16(c), (16, 16))
    output = {"chunks": list(TILE), "shards": shards}
    cheap = {"denoise": {"iterations": 1, "patch": [0, 0, 0, 0, 0]}, "blocks": {"shape": [*block]}}
    plan = start(project.write(output=output, **cheap)).job.plan
    client.run(Path("/proc/self/clear_refs").write_text, "5")
    idle = max(client.run(peak_bytes).values())
    start(project.write(output=output | {"pyramid": True}, **cheap))
    ledgers = level_ledgers(project.output)
    assert [*ledgers] == [1, 2, 3, 4]
    records = [r for path in ledgers.values() for r in Ledger.open(path, read_only=True).records()]
    used = max(record.peak_bytes for record in records) - idle
    assert 0 < used <= 6 * plan.padded_bytes


def _small(folder: Path) -> Project:
    folder.mkdir()
    project = Project(folder).image(structured((1, 1, 1, 64, 64), "uint16"))
    return project.write(
        output={"chunks": [1, 1, 1, 32, 32], "shards": None},
        blocks={"shape": [1, 1, 1, 32, 32]},
    )


def _store(project: Project) -> None:
    """Store an image of 256 MiB, one channel at a time."""
    image = zarr.create_array(
        project.input, shape=SHAPE, dtype="float32", chunks=TILE, compressors=None
    )
    tile = structured(TILE, "float32")
    for c in range(SHAPE[1]):
        image[0, c] = np.tile(tile[0, 0] + c, (1, 8, 8))
