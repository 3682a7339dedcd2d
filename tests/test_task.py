"""A worker with two blocks: one kernel at a time, the rest beside it; what a stop gives back."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from math import inf
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from denoise5d import task, writing
from denoise5d.dispatch import _known_seconds
from denoise5d.errors import InputError, OutputError
from denoise5d.geometry import BlockGrid
from denoise5d.kernel import denoise_block
from denoise5d.noise import NoiseModel
from denoise5d.parameters import resolve_parameters
from denoise5d.plan import Layout
from denoise5d.records import BlockRecord, StageSeconds
from denoise5d.store import Image, Output, create_output, open_image, open_output
from denoise5d.task import BlockWorker, TaskSettings
from denoise5d.writing import END_MARGIN_SECONDS, Target, Undone
from runs import PATIENCE_SECONDS, Project, structured

SHAPE = (1, 1, 4, 32, 96)
BLOCK = (1, 1, 4, 32, 32)
CHUNK = (1, 1, 4, 8, 8)
PROVENANCE = {"made_by": "the run that the workers belong to"}


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
    project: Project,
    dtype: str = "uint16",
    chunk: tuple[int, ...] = CHUNK,
    ends: float = inf,
) -> BlockWorker:
    project.image(structured(SHAPE, dtype))
    image = open_image(project.input)
    create_output(
        project.output,
        image.info,
        layout=Layout(chunk),
        dtype=image.info.dtype,
        provenance=PROVENANCE,
    )
    settings = TaskSettings(
        input_path=project.input,
        axes=None,
        dataset=None,
        target=Target(project.output, 0, io_threads=2, provenance=PROVENANCE, ends=ends),
        grid=BlockGrid(SHAPE, BLOCK, (0, 0, 1, 2, 2)),
        noise=(NoiseModel.gaussian(5),),
        parameters=resolve_parameters(SHAPE, iterations=1, ridge=False),
        threads=1,
    )
    return BlockWorker(settings)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def begin(
    pool: ThreadPoolExecutor, worker: BlockWorker, block: int, seconds: float = 0
) -> Future[BlockRecord | Undone]:
    return pool.submit(worker.run, block, "0", 1, seconds=seconds)


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
    done = first.result(PATIENCE_SECONDS)
    assert isinstance(done, BlockRecord), "while the second is in the kernel"
    third = begin(threads, worker, 2)
    assert read.acquire(timeout=PATIENCE_SECONDS)
    assert gate.entered == [0, 1]
    gate.open.release(2)
    assert isinstance(second.result(PATIENCE_SECONDS), BlockRecord)
    assert isinstance(third.result(PATIENCE_SECONDS), BlockRecord)
    assert len(gate.threads) == 1, "each would have an OpenMP team of its own"


def test_a_stop_gives_back_what_is_not_in_the_kernel(
    project: Project, gate: Gate, threads: ThreadPoolExecutor
) -> None:
    worker = worker_for(project)
    first = begin(threads, worker, 0)
    gate.wait()
    second = begin(threads, worker, 1)
    worker.stop()
    given_back = second.result(PATIENCE_SECONDS)
    assert given_back is Undone.STOPPED, "before the first one has left the kernel"
    assert worker.run(2, "0", 1) is Undone.STOPPED
    gate.open.release()
    assert isinstance(first.result(PATIENCE_SECONDS), BlockRecord)
    assert gate.entered == [0]


def test_seconds_of_each_stage(
    project: Project, gate: Gate, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that stands still but where the test moves it."""
    now = [0.0]
    monkeypatch.setattr(writing, "perf_counter", lambda: now[0])

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
    assert isinstance(record, BlockRecord)
    assert record.seconds.kernel >= 100
    gate.wait()
    now[0] += 7
    gate.open.release()
    record = second.result(PATIENCE_SECONDS)
    assert isinstance(record, BlockRecord)
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
    monkeypatch.setattr(writing, "SMALL_BYTES", 0)
    writers: set[str] = set()
    write = Output.write_unit

    def write_unit(*arguments: Any) -> None:
        writers.add(threading.current_thread().name.split("_")[0])
        write(*arguments)

    monkeypatch.setattr(Output, "write_unit", write_unit)
    worker = worker_for(project, dtype, chunk)
    assert isinstance(worker.run(0, "0", 1), BlockRecord)
    assert ("kernel" not in writers) == beside


def test_a_block_that_is_written_in_the_kernels_stead_ends_before_the_next_begins(
    project: Project, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the next one would hold it up for longer than anybody has reckoned with."""
    monkeypatch.setattr(writing, "SMALL_BYTES", 0)
    gate, steps = Gate(), list[str]()

    def kernel(*arguments: Any, **options: Any) -> Any:
        steps.append("kernel")
        return gate(*arguments, **options)

    def write_unit(*arguments: Any) -> None:
        steps.append("write")
        write(*arguments)

    write = Output.write_unit
    monkeypatch.setattr(Output, "write_unit", write_unit)
    monkeypatch.setattr(task, "denoise_block", kernel)
    worker = worker_for(project, "float32", BLOCK)
    first = begin(threads, worker, 0)
    gate.wait()
    second = begin(threads, worker, 1)
    while len(worker._turns) < 2:
        time.sleep(0.01)
    gate.open.release(2)
    for block in (first, second):
        assert isinstance(block.result(PATIENCE_SECONDS), BlockRecord)
    assert steps == ["kernel", "write", "kernel", "write"]


NOW = 1_800_000_000.0


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time of day, which stands still but where the test moves it."""
    now = [NOW]
    monkeypatch.setattr(writing, "time", lambda: now[0])
    return now


@pytest.mark.usefixtures("now")
@pytest.mark.parametrize(
    ("seconds", "run_ends", "job_ends", "outcome"),
    [
        (0, 1, 1, None),
        (100, inf, None, None),
        (100, 111, 111 + END_MARGIN_SECONDS, None),
        (100, 109, None, Undone.RUN_ENDS),
        (100, 109, 109 + END_MARGIN_SECONDS, Undone.RUN_ENDS),
        (100, inf, 109 + END_MARGIN_SECONDS, Undone.WORKER_ENDS),
        (100, 300, 109 + END_MARGIN_SECONDS, Undone.WORKER_ENDS),
        (100, 109, 300, Undone.RUN_ENDS),
        (100, -1, None, Undone.RUN_ENDS),
    ],
)
def test_a_block_is_begun_only_if_it_can_end(
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
    run_ends: float,
    job_ends: float | None,
    outcome: Undone | None,
) -> None:
    """Before its worker's job does, less a margin, and before the run; ends are seconds from now.

    Of the driver's job the margin is off already. One end for both is the driver's: what ends with
    it is the run.
    """
    if job_ends is not None:
        monkeypatch.setenv("SLURM_JOB_END_TIME", str(NOW + job_ends))
    worker = worker_for(project, ends=NOW + run_ends)
    found = worker.run(0, "0", 1, seconds=seconds)
    assert (found if isinstance(found, Undone) else None) == outcome


def test_a_worker_knows_how_long_its_own_blocks_took(
    project: Project, monkeypatch: pytest.MonkeyPatch, now: list[float]
) -> None:
    """Also if the driver, when it handed out the next ones, did not yet."""
    passed = [0.0]

    def slow(*arguments: Any, **options: Any) -> Any:
        now[0] += 100
        passed[0] += 100
        return denoise_block(*arguments, **options)

    monkeypatch.setattr(writing, "perf_counter", lambda: passed[0])
    monkeypatch.setattr(task, "denoise_block", slow)
    worker = worker_for(project, ends=NOW + 205)
    assert isinstance(worker.run(0, "0", 1), BlockRecord)
    assert worker.run(1, "0", 1) is Undone.RUN_ENDS


def test_time_that_passes_while_the_kernel_has_another_block_counts(
    project: Project, gate: Gate, threads: ThreadPoolExecutor, now: list[float]
) -> None:
    worker = worker_for(project, ends=NOW + 150)
    first = begin(threads, worker, 0, seconds=100)
    gate.wait()
    second = begin(threads, worker, 1, seconds=100)
    while len(worker._turns) < 2:
        time.sleep(0.01)
    now[0] += 100
    gate.open.release()
    assert isinstance(first.result(PATIENCE_SECONDS), BlockRecord)
    assert second.result(PATIENCE_SECONDS) is Undone.RUN_ENDS
    assert gate.entered == [0]


def test_nothing_is_written_into_an_output_that_was_begun_anew(project: Project) -> None:
    """By a worker that has not heard that its driver is dead."""
    worker = worker_for(project)
    before = open_image(project.input).info
    create_output(
        project.output, before, layout=Layout(BLOCK), dtype=before.dtype,
        provenance={"made_by": "a later run"}, overwrite=True,
    )  # fmt: skip
    with pytest.raises(OutputError, match="was removed, or begun anew"):
        worker.run(0, "0", 1)
    assert not open_output(project.output).read(worker._settings.grid[0].core).any()


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
    assert isinstance(record, BlockRecord)
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


@pytest.mark.parametrize(("walltime", "heeded"), [(None, [10, 5000]), (3600, [10])])
def test_a_time_that_no_job_has_is_not_heeded(walltime: int | None, heeded: list[float]) -> None:
    """Blocks of an earlier run may have taken longer, on fewer cores or a disk that hung."""
    records = [SimpleNamespace(seconds=StageSeconds(0, s, 0, 0)) for s in (10, 5000)]
    batch = None if walltime is None else SimpleNamespace(walltime=walltime)
    job = SimpleNamespace(config=SimpleNamespace(cluster=SimpleNamespace(batch=batch)))
    ledger, run = SimpleNamespace(records=lambda: records), SimpleNamespace(job=job)
    stage: Any = SimpleNamespace(run=run, ledger=ledger)
    assert list(_known_seconds(stage)) == heeded
