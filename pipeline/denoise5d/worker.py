"""What lives in a dask worker: a plugin that does the blocks, and what it tells the driver.

It says what comes of a block in an event, which travels ahead of the end of the block's task.
Events arrive in their order and need not be fetched.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from socket import gethostname

from distributed import Worker, WorkerPlugin, get_worker
from distributed.core import Status
from tornado.gen import sleep

from denoise5d.ledger import BlockRecord
from denoise5d.task import BlockWorker, TaskSettings, Undone, probe

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

    def __init__(self, settings: TaskSettings) -> None:
        self._settings = settings

    def setup(self, worker: Worker) -> None:
        """Begin, and tell the driver so."""
        self._blocks = BlockWorker(self._settings)
        threads = probe(self._settings.threads)
        arrival = Arrival(str(worker.name), gethostname(), os.environ.get("SLURM_JOB_ID"), threads)
        worker.log_event(TOPIC, {"arrival": asdict(arrival)})

    def run(self, block: int, worker: Worker, attempt: int, seconds: float) -> BlockRecord | Undone:
        """Do one block; see `BlockWorker.run`."""
        outcome = self._blocks.run(block, str(worker.name), attempt, seconds=seconds)
        if outcome is Undone.WORKER_ENDS:
            worker.loop.add_callback(_leave, worker)
        return outcome

    def teardown(self, worker: Worker) -> None:  # noqa: ARG002
        """Give way to another plugin, or end with the worker."""
        self._blocks.stop()


class Stopped(WorkerPlugin):  # type: ignore[misc]
    """Takes the place of `Working`, and gives every block back."""

    def run(self, *_: object) -> Undone:
        """Do nothing."""
        return Undone.STOPPED


async def _leave(worker: Worker) -> None:
    """Let a worker take no more blocks, finish those it has, and end: its job ends soon."""
    if worker.status is Status.running:
        worker.status = Status.paused
        while worker.state.executing_count or worker.data:  # until the driver has taken all
            await sleep(_POLL_SECONDS)
        await worker.close_gracefully(restart=False, reason="its job ends")


def do_block(block: int, attempt: int, seconds: float) -> None:
    """Do a block in a worker; what comes of it travels ahead of the end of this task."""
    worker = get_worker()
    plugin: Working | Stopped = worker.plugins.get(PLUGIN) or Stopped()
    outcome = plugin.run(block, worker, attempt, seconds)
    if isinstance(outcome, BlockRecord):
        worker.log_event(TOPIC, {"record": asdict(outcome)})
    else:
        worker.log_event(TOPIC, {"block": block, "undone": str(outcome)})
