"""Drivers and workers that are really killed: the same command goes on, to the same bits."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import psutil
import pytest
from distributed import Client

from denoise5d import execute as execute_module
from denoise5d.errors import StoppedEarlyError
from denoise5d.execute import Run
from denoise5d.geometry import Box
from denoise5d.ledger import Ledger
from denoise5d.plan import Layout
from denoise5d.store import Description, Output, create_output, open_output
from denoise5d.task import BlockWorker
from runs import PATIENCE_SECONDS, Project, driver, run, structured

Start = Callable[..., Run]

BLOCKS = 24


@pytest.fixture
def slow(project: Project) -> Project:
    """A run of blocks that take some tenths of a second each."""
    project.image(structured((1, 1, 12, 128, 192), "uint16"), chunks=(1, 1, 12, 32, 32))
    return project.write(
        output={"chunks": [1, 1, 12, 16, 16], "shards": None},
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
    again_done = [record.attempts for record in slow.records() if record.attempts > 1]
    assert again_done in ([2], [2, 2]), "the worker had two blocks at most"
    assert "worker died" in again.log()

    assert run(slow)[0] == 0, "a finished run has nothing to do"
    assert len(slow.lines()) == 1 + BLOCKS


def _status(project: Project) -> str:
    command = [sys.executable, "-m", "denoise5d.cli", "status", str(project.yaml)]
    return subprocess.check_output(command, text=True, timeout=PATIENCE_SECONDS)


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
    def interrupted(*_: object, **__: object) -> AbstractContextManager[Client]:
        signal.raise_signal(signal.SIGTERM)
        return nullcontext(client)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(execute_module, "local_cluster", interrupted)
        with pytest.raises(StoppedEarlyError, match=f"{BLOCKS} of {BLOCKS} blocks are left"):
            execute_module.execute(
                slow.config(), overwrite=False, on_begin=lambda _: None, on_block=lambda *_: None
            )
    assert slow.records() == []


def test_killed_between_output_and_ledger(
    slow: Project, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The output is there and nothing is in it: the same command goes on."""
    slow.write(blocks={"shape": [1, 1, 12, 128, 192]})
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
    worker.close()
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
