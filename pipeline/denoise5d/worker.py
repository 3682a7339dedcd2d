"""What lives in a dask worker: a plugin that does the blocks, and what it tells the driver.

It says what comes of a block in an event, which travels ahead of the end of the block's task.
Events arrive in their order and need not be fetched.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from socket import gethostname

from distributed import Worker, WorkerPlugin, get_worker
from distributed.core import Status
from tornado.gen import sleep

from denoise5d.level_task import LevelSettings, LevelWorker
from denoise5d.records import BlockRecord
from denoise5d.task import BlockWorker, TaskSettings, probe
from denoise5d.writing import PassWorker, Undone

PLUGIN = TOPIC = "denoise5d"

_POLL_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Arrival:
    """A worker that is ready for blocks.

    Attributes
    ----------
    name, host : str
        Of the worker, and of its machine.
    job : str or None
        Its SLURM job.
    threads : int
        What the kernel gets there.
    """

    name: str
    host: str
    job: str | None
    threads: int


class Working(WorkerPlugin):  # type: ignore[misc]
    """Lives in each worker, also in one that takes the place of another, and does the blocks."""

    def __init__(self, settings: TaskSettings, levels: Sequence[LevelSettings] = ()) -> None:
        self._settings, self._levels = settings, levels

    def setup(self, worker: Worker) -> None:
        """Begin, and tell the driver so."""
        levels = [LevelWorker(level) for level in self._levels]
        self._passes: list[PassWorker] = [BlockWorker(self._settings), *levels]
        threads = probe(self._settings.threads)
        arrival = Arrival(str(worker.name), gethostname(), os.environ.get("SLURM_JOB_ID"), threads)
        worker.log_event(TOPIC, {"arrival": asdict(arrival)})

    def run(
        self, block: int, worker: Worker, attempt: int, *, level: int, seconds: float
    ) -> BlockRecord | Undone:
        """Do one block of a pass; see `PassWorker.run`."""
        outcome = self._passes[level].run(block, str(worker.name), attempt, seconds=seconds)
        if outcome is Undone.WORKER_ENDS:
            worker.loop.add_callback(_leave, worker)
        return outcome

    def teardown(self, worker: Worker) -> None:  # noqa: ARG002
        """Give way to another plugin, or end with the worker."""
        for stage in self._passes:
            stage.stop()


class Stopped(WorkerPlugin):  # type: ignore[misc]
    """Takes the place of `Working`, and gives every block back."""

    def run(self, *_: object, **__: object) -> Undone:
        """Do nothing."""
        return Undone.STOPPED


async def _leave(worker: Worker) -> None:
    """Let a worker take no more blocks, finish those it has, and end: its job ends soon."""
    if worker.status is Status.running:
        worker.status = Status.paused
        while worker.state.executing_count or worker.data:  # until the driver has taken all
            await sleep(_POLL_SECONDS)
        await worker.close_gracefully(restart=False, reason="its job ends")


def do_block(block: int, attempt: int, *, level: int, seconds: float) -> None:
    """Do a block in a worker; what comes of it travels ahead of the end of this task."""
    worker = get_worker()
    plugin: Working | Stopped = worker.plugins.get(PLUGIN) or Stopped()
    outcome = plugin.run(block, worker, attempt, level=level, seconds=seconds)
    if isinstance(outcome, BlockRecord):
        worker.log_event(TOPIC, {"level": level, "record": asdict(outcome)})
    else:
        worker.log_event(TOPIC, {"level": level, "block": block, "undone": str(outcome)})
