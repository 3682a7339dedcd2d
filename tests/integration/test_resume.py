"""Drivers and workers that are really killed: the same command goes on, to the same bits."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import psutil
import pytest
from distributed import Client, Worker, WorkerPlugin

from denoise5d import execute as execute_module
from denoise5d import task
from denoise5d.cluster import Workers
from denoise5d.errors import StoppedEarlyError
from denoise5d.execute import Run
from denoise5d.geometry import Box
from denoise5d.ledger import Ledger
from denoise5d.plan import Layout
from denoise5d.store import Description, Output, create_output, open_output
from denoise5d.task import BlockWorker
from denoise5d.worker import Stopped
from runs import PATIENCE_SECONDS, Project, driver, run, structured

Start = Callable[..., Run]

BLOCKS = 24


@pytest.fixture
def slow(project: Project, request: pytest.FixtureRequest) -> Project:
    """A run of blocks that take some tenths of a second each; its parameter is a format."""
    output_format = getattr(request, "param", "ome-zarr-0.5")
    project.image(structured((1, 1, 12, 128, 192), "uint16"), chunks=(1, 1, 12, 32, 32))
    return project.write(
        output={"format": output_format, "chunks": [1, 1, 12, 16, 16], "shards": None},
        denoise={"iterations": 3},
        blocks={"shape": [1, 1, 12, 32, 32]},
    )


def test_killed_driver_then_killed_worker(slow: Project) -> None:
    """Workers are halted where the test looks at a moment, so that it does not pass."""
    with driver(slow) as first:
        first.wait_for_blocks(4)
        workers = first.halt_workers()
        assert len(workers) == 2
        code, message = run(slow)
        assert code == 2
        assert f"process {first.process.pid}" in message
        assert socket.gethostname() in message
        first.process.kill()
        first.finish()
    for worker in workers:
        worker.resume()
    _, alive = psutil.wait_procs(workers, timeout=PATIENCE_SECONDS)
    assert not alive, "workers outlive their driver"
    committed = slow.lines()
    assert 4 < len(committed) < 1 + BLOCKS
    assert f"{len(committed) - 1} of {BLOCKS}" in _status(slow)

    with driver(slow) as again:
        again.wait_for_blocks(1)
        victim, other = again.halt_workers()
        before = len(slow.lines()) - 1  # records that are on their way still come in
        shown = int(re.search(rf"(\d+) of {BLOCKS}", _status(slow))[1])
        assert before <= shown <= len(slow.lines()) - 1
        victim.kill()
        other.resume()
        assert again.finish() == 0, again.log()
    assert slow.lines()[: len(committed)] == committed
    slow.check()
    again_done = [record for record in slow.records() if record.attempts > 1]
    assert [r.attempts for r in again_done] in ([2], [2, 2]), "the worker had two blocks at most"
    assert all("worker died" in reason for r in again_done for (reason,) in [r.failures])
    assert "worker died" in again.log()

    assert run(slow)[0] == 0, "a finished run has nothing to do"
    assert len(slow.lines()) == 1 + BLOCKS


def _status(project: Project) -> str:
    command = [sys.executable, "-m", "denoise5d.cli", "status", str(project.yaml)]
    return subprocess.check_output(command, text=True, timeout=PATIENCE_SECONDS)


@pytest.mark.parametrize("slow", ["ome-zarr-0.4"], indirect=True)
def test_signals_drain(slow: Project) -> None:
    """Ctrl-C in a terminal reaches the workers too; SIGTERM is for the driver alone."""
    committed = slow.lines()
    for stop in (
        lambda driver: os.killpg(driver.process.pid, signal.SIGINT),
        lambda driver: driver.process.terminate(),
    ):
        with driver(slow) as running:
            running.wait_for_blocks(2)
            workers = running.halt_workers()
            stop(running)
            running.wait_for(lambda: "no new blocks" in running.log())
            for worker in workers:
                worker.resume()
            assert running.finish() == 75, running.log()
        assert "worker died" not in running.log()
        assert "stopped early" in running.log()
        assert slow.lines()[: len(committed)] == committed
        assert len(committed) + 2 <= len(slow.lines()) < 1 + BLOCKS
        committed = slow.lines()

    code, log = run(slow)
    assert code == 0, log
    slow.check()


def test_the_second_signal_gives_up(slow: Project) -> None:
    with driver(slow) as impatient:
        impatient.wait_for_blocks(1)
        workers = impatient.halt_workers()
        impatient.process.send_signal(signal.SIGINT)
        impatient.wait_for(lambda: "no new blocks" in impatient.log())
        impatient.process.send_signal(signal.SIGINT)
        assert impatient.finish() == 130, impatient.log()
    _, alive = psutil.wait_procs(workers, timeout=PATIENCE_SECONDS)
    assert not alive
    assert 1 < len(slow.lines()) < 1 + BLOCKS


def test_a_signal_while_workers_start_begins_nothing(slow: Project, client: Client) -> None:
    def interrupted(_: object) -> AbstractContextManager[Workers]:
        signal.raise_signal(signal.SIGTERM)
        return nullcontext(Workers(client, 1))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(execute_module, "start_workers", interrupted)
        with pytest.raises(StoppedEarlyError, match=f"{BLOCKS} of {BLOCKS} blocks are left"):
            execute_module.execute(
                slow.config(), overwrite=False, on_begin=lambda _: None, on_block=lambda *_: None
            )
    assert slow.records() == []


def test_a_stop_reaches_the_workers(slow: Project, client: Client, start: Start) -> None:
    """A kernel that is told of it goes on; after the signal none is begun."""
    entries = slow.folder / "entries"

    class Patch(WorkerPlugin):
        """In the workers; kernels from the third one on wait for the stop."""

        def setup(self, worker: Worker) -> None:
            self.denoise_block = task.denoise_block

            def noted(*arguments: Any, **options: Any) -> Any:
                with entries.open("a") as file:
                    file.write("entered\n")
                if len(entries.read_text().splitlines()) > 2:
                    signalled.touch()
                    deadline = time.monotonic() + PATIENCE_SECONDS
                    while not isinstance(worker.plugins["denoise5d"], Stopped):
                        assert time.monotonic() < deadline
                        time.sleep(0.02)
                return self.denoise_block(*arguments, **options)

            task.denoise_block = noted

        def teardown(self, worker: Worker) -> None:  # noqa: ARG002
            task.denoise_block = self.denoise_block

    signalled = slow.folder / "signalled"

    def interrupt() -> None:
        while not signalled.exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=interrupt)
    with patched_workers(client, Patch()):
        thread.start()
        with pytest.raises(StoppedEarlyError):
            start(slow)
    thread.join()
    entered = len(entries.read_text().splitlines())
    assert len(slow.records()) == entered <= 5
    start(slow)
    slow.check()


DEADLY = """
import os, sys
from contextlib import contextmanager
from pathlib import Path
from distributed import WorkerPlugin
from denoise5d import cluster, execute, task
from denoise5d.config import load_config

class Deadly(WorkerPlugin):
    def setup(self, worker):
        original = task.denoise_block
        def deadly(*arguments, core, **options):
            if core.start == (0, 0, 0, 32, 64):
                os._exit(9)
            return original(*arguments, core=core, **options)
        task.denoise_block = deadly

@contextmanager
def start_workers(job):
    with cluster.start_workers(job) as workers:
        workers.client.register_plugin(Deadly())
        yield workers

if __name__ == "__main__":
    execute.start_workers = start_workers
    nothing = lambda *_: None
    config = load_config(Path(sys.argv[1]))
    execute.execute(config, overwrite=False, on_begin=nothing, on_block=nothing)
"""


def test_a_block_that_kills_its_worker(slow: Project) -> None:
    """It alone fails: what dies with it is done again, and is not with it a second time."""
    slow.write(
        output={"chunks": [1, 1, 12, 16, 16], "shards": None},
        denoise={"iterations": 1},
        blocks={"shape": [1, 1, 12, 32, 32], "retries": 2},
    )
    script = slow.folder / "deadly.py"
    script.write_text(DEADLY)
    ended = subprocess.run(
        [sys.executable, script, slow.yaml],
        stderr=subprocess.PIPE,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert f"1 of {BLOCKS} blocks failed, {BLOCKS - 1} are done" in ended.stderr
    assert "block 8: its worker died" in ended.stderr
    assert max(record.attempts for record in slow.records()) <= 2
    assert run(slow)[0] == 0
    slow.check()


@contextmanager
def patched_workers(client: Client, plugin: WorkerPlugin) -> Iterator[None]:
    client.register_plugin(plugin, name="patch")
    try:
        yield
    finally:
        client.unregister_worker_plugin("patch")


@pytest.mark.parametrize("output_format", ["ome-zarr-0.5", "ome-zarr-0.4"])
def test_killed_between_output_and_ledger(
    output_format: str, slow: Project, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The output is there and nothing is in it: the same command goes on."""
    slow.write(blocks={"shape": [1, 1, 12, 128, 192]}, output={"format": output_format})
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "create", _killed)
        with pytest.raises(KeyboardInterrupt):
            start(slow)
    assert slow.output.exists()
    assert not slow.ledger.exists()
    start(slow)
    slow.check()


def _killed(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_block_counts_when_it_is_on_the_disk(
    project: Project, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written, flushed, then read back: in this order, in a task called by hand."""
    project.image(structured((1, 1, 1, 20, 20), "uint8"))
    finished = start(project.write(output={"chunks": [1, 1, 1, 16, 16], "shards": None}))
    calls: list[str] = []
    for name in ("write_unit", "sync", "read"):
        original = getattr(Output, name)

        def call(*args: Any, name: str = name, original: Any = original) -> Any:
            calls.append(name)
            return original(*args)

        monkeypatch.setattr(Output, name, call)
    monkeypatch.setattr(Output, "_remove_damaged", lambda *_: None)
    worker = BlockWorker(finished.settings)
    record = worker.run(0, "by hand", 1)
    assert record is not None
    units = len(record.checksums)
    assert calls == ["write_unit"] * units + ["sync"] + ["read"] * units


def test_a_sound_file_stays_until_it_is_replaced(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker taken for dead may come late, and be killed over a block that another has done."""
    shape = (1, 1, 1, 20, 20)
    layout = Layout((1, 1, 1, 8, 8), (1, 1, 1, 16, 16))
    create_output(
        project.output,
        Description(name="", shape=shape, dtype="uint16"),
        layout=layout,
        dtype=structured(shape, "uint16").dtype,
        provenance={},
    )
    output = open_output(project.output)
    data = structured(shape, "uint16")
    box = Box((0, 0, 0, 16, 16), shape)  # cut at the border: zarr reads what is there
    output.write_unit(box, data[box.slices])
    monkeypatch.setattr(type(output._array), "__setitem__", _killed)
    with pytest.raises(KeyboardInterrupt):
        Output.write_unit(output, box, data[box.slices])
    assert (output.read(box) == data[box.slices]).all()
