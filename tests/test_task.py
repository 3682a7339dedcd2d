"""A worker with two blocks: one kernel at a time, the rest beside it; what a stop gives back."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from denoise5d import task
from denoise5d.errors import InputError
from denoise5d.geometry import BlockGrid
from denoise5d.kernel import denoise_block
from denoise5d.ledger import BlockRecord
from denoise5d.noise import NoiseModel
from denoise5d.parameters import resolve_parameters
from denoise5d.plan import Layout
from denoise5d.store import Image, Output, create_output, open_image, open_output
from denoise5d.task import BlockWorker, TaskSettings
from runs import PATIENCE_SECONDS, Project, structured

SHAPE = (1, 1, 4, 32, 96)
BLOCK = (1, 1, 4, 32, 32)
CHUNK = (1, 1, 4, 8, 8)


class Gate:
    """Stands for the kernel: lets nobody through, and says who has come."""

    def __init__(self) -> None:
        self.entered: list[int] = []
        self.threads: set[str] = set()
        self.arrived = threading.Semaphore(0)
        self.open = threading.Semaphore(0)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        self.entered.append(options["core"].start[4] // BLOCK[4])
        self.threads.add(threading.current_thread().name)
        self.arrived.release()
        assert self.open.acquire(timeout=PATIENCE_SECONDS)
        return denoise_block(*arguments, **options)

    def wait(self) -> None:
        assert self.arrived.acquire(timeout=PATIENCE_SECONDS)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    gate = Gate()
    monkeypatch.setattr(task, "denoise_block", gate)
    return gate


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2, "dask") as pool:
        yield pool


def worker_for(
    project: Project, dtype: str = "uint16", chunk: tuple[int, ...] = CHUNK
) -> BlockWorker:
    project.image(structured(SHAPE, dtype))
    image = open_image(project.input)
    create_output(
        project.output,
        image.info,
        layout=Layout(chunk),
        dtype=image.info.dtype,
        provenance={},
    )
    settings = TaskSettings(
        input_path=project.input,
        axes=None,
        dataset=None,
        output_path=project.output,
        grid=BlockGrid(SHAPE, BLOCK, (0, 0, 1, 2, 2)),
        noise=(NoiseModel.gaussian(5),),
        parameters=resolve_parameters(SHAPE, iterations=1, ridge=False),
        threads=1,
        io_threads=2,
    )
    return BlockWorker(settings)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def begin(pool: ThreadPoolExecutor, worker: BlockWorker, block: int) -> Future[BlockRecord | None]:
    return pool.submit(worker.run, block, "0", 1)


def watched(monkeypatch: pytest.MonkeyPatch, cls: type, name: str) -> threading.Semaphore:
    """Return what is released whenever a method has returned."""
    original, done = getattr(cls, name), threading.Semaphore(0)

    def call(*arguments: Any) -> Any:
        result = original(*arguments)
        done.release()
        return result

    monkeypatch.setattr(cls, name, call)
    return done


def test_a_block_is_read_and_another_one_written_beside_the_kernel(
    project: Project, gate: Gate, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = watched(monkeypatch, Image, "read")
    worker = worker_for(project)
    first = begin(threads, worker, 0)
    gate.wait()
    second = begin(threads, worker, 1)
    for _ in range(2):
        assert read.acquire(timeout=PATIENCE_SECONDS)
    assert gate.entered == [0], "one kernel at a time"
    gate.open.release()
    gate.wait()
    assert first.result(PATIENCE_SECONDS) is not None, "while the second is in the kernel"
    third = begin(threads, worker, 2)
    assert read.acquire(timeout=PATIENCE_SECONDS)
    assert gate.entered == [0, 1]
    gate.open.release(2)
    assert second.result(PATIENCE_SECONDS) is not None
    assert third.result(PATIENCE_SECONDS) is not None
    assert len(gate.threads) == 1, "each would have an OpenMP team of its own"


def test_a_stop_gives_back_what_is_not_in_the_kernel(
    project: Project, gate: Gate, threads: ThreadPoolExecutor
) -> None:
    worker = worker_for(project)
    first = begin(threads, worker, 0)
    gate.wait()
    second = begin(threads, worker, 1)
    worker.stop()
    assert second.result(PATIENCE_SECONDS) is None, "before the first one has left the kernel"
    assert worker.run(2, "0", 1) is None
    gate.open.release()
    assert first.result(PATIENCE_SECONDS) is not None
    assert gate.entered == [0]


def test_seconds_of_each_stage(
    project: Project, gate: Gate, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that stands still but where the test moves it."""
    now = [0.0]
    monkeypatch.setattr(task, "perf_counter", lambda: now[0])

    def takes(seconds: float, cls: type, name: str) -> None:
        original = getattr(cls, name)

        def call(*arguments: Any) -> Any:
            now[0] += seconds
            return original(*arguments)

        monkeypatch.setattr(cls, name, call)

    read = watched(monkeypatch, Image, "read")
    worker = worker_for(project, chunk=BLOCK)
    first = begin(threads, worker, 0)
    gate.wait()
    second = begin(threads, worker, 1)
    for _ in range(2):
        assert read.acquire(timeout=PATIENCE_SECONDS)
    while len(worker._turns) < 2:
        time.sleep(0.01)
    now[0] += 100
    takes(1, Output, "sync")
    takes(2, Output, "read")
    gate.open.release()
    record = first.result(PATIENCE_SECONDS)
    assert record is not None
    assert record.seconds.kernel >= 100
    gate.wait()
    now[0] += 7
    gate.open.release()
    record = second.result(PATIENCE_SECONDS)
    assert record is not None
    seconds = record.seconds
    assert (seconds.read, seconds.write, seconds.verify) == (0, 1, 2)
    assert 7 <= seconds.kernel < 100 <= seconds.wait, "waiting for the kernel is no kernel time"


@pytest.mark.parametrize(
    ("dtype", "chunk", "beside"),
    [("float32", CHUNK, True), ("float32", BLOCK, False), ("uint16", CHUNK, True)],
)
def test_large_units_are_written_while_no_kernel_runs(
    project: Project,
    dtype: str,
    chunk: tuple[int, ...],
    beside: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The copies that zarr makes of a block that is one unit find no room beside a kernel."""
    monkeypatch.setattr(task, "_SMALL_BYTES", 0)
    writers: set[str] = set()
    write = Output.write_unit

    def write_unit(*arguments: Any) -> None:
        writers.add(threading.current_thread().name.split("_")[0])
        write(*arguments)

    monkeypatch.setattr(Output, "write_unit", write_unit)
    worker = worker_for(project, dtype, chunk)
    assert worker.run(0, "0", 1) is not None
    assert ("kernel" not in writers) == beside


def test_units_are_written_in_threads(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two at a time: each waits for the other."""
    both = threading.Barrier(2)
    write = Output.write_unit

    def write_unit(*arguments: Any) -> None:
        both.wait(PATIENCE_SECONDS)
        write(*arguments)

    monkeypatch.setattr(Output, "write_unit", write_unit)
    worker = worker_for(project)
    record = worker.run(0, "0", 1)
    assert record is not None
    assert len(record.checksums) == 16
    assert open_output(project.output).read(worker._settings.grid[0].core).any()


def test_an_error_does_not_keep_the_input(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even until the garbage is collected: the next block needs the room."""
    kept: list[weakref.ref[Any]] = []
    read = Image.read

    def with_nan(*arguments: Any) -> Any:
        values = read(*arguments)
        values[0, 0, 0, 0, 0] = np.nan
        kept.append(weakref.ref(values))
        return values

    monkeypatch.setattr(Image, "read", with_nan)
    worker = worker_for(project, "float32")
    gc.disable()
    try:
        with pytest.raises(InputError, match="NaN"):
            worker.run(0, "0", 1)
        assert kept[0]() is None
    finally:
        gc.enable()
