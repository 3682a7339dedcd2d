"""Handing out the blocks of a run and taking them back.

A worker has two blocks, one of them in the kernel, and no more: what it held in reserve would die
with it. Some more wait in the scheduler, so that a worker never waits for the driver, and tiny
blocks come and go many at a time. Only numbers go out; a block comes back as a record of a few
hundred bytes, which goes into the ledger and is forgotten::

    ledger.remaining ──> Dispatch ──> scheduler's queue ──> worker: kernel | read, write, verify
                            ^                                              │
                            └──────────── record, error or nothing ────────┘
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from queue import Empty, SimpleQueue
from threading import Thread

from distributed import CancelledError, Client, Future, Worker, WorkerPlugin, get_worker
from distributed.scheduler import KilledWorker

from denoise5d.errors import Denoise5dError
from denoise5d.ledger import BlockRecord, Ledger
from denoise5d.noise import NoiseModel
from denoise5d.prepare import Job
from denoise5d.task import BLOCKS_IN_A_WORKER, BlockWorker, TaskSettings

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.5

_HOPELESS = 3
"""So many blocks that failed for good, and none that succeeded, say that all would fail."""

_AHEAD = 8
"""So many times the blocks that all workers have are handed out, if there are as many."""

_WORKER_DIED = (
    "its worker died, most likely killed for its memory (by the system, or by its own limit); a "
    "higher blocks.memory_factor gives each block more, fewer cluster.workers leave more to each"
)

_PLUGIN = "denoise5d"


@dataclass(slots=True)
class Failure:
    """A block that has used up its attempts.

    Attributes
    ----------
    block : int
        Its number.
    reason : str
        What the last attempt ended with.
    """

    block: int
    reason: str


@dataclass(slots=True)
class Run:
    """A run in progress; whoever shows it reads these.

    Attributes
    ----------
    job : Job
        What is done.
    ledger : Ledger
        What is done already.
    noise : list of NoiseModel
        What it is done with.
    failures : list of Failure
        What could not be done.
    """

    job: Job
    ledger: Ledger
    noise: list[NoiseModel]
    failures: list[Failure] = field(default_factory=list)

    @property
    def settings(self) -> TaskSettings:
        """What every worker is told."""
        job = self.job
        return TaskSettings(
            input_path=job.config.input.path,
            axes=job.config.input.axes,
            dataset=job.config.input.dataset,
            output_path=job.config.output.path,
            grid=job.plan.grid,
            noise=tuple(self.noise),
            parameters=job.parameters,
            threads=job.plan.budget.threads,
            io_threads=job.io_threads,
        )


BlockDone = Callable[[Run, BlockRecord], None]


@dataclass(frozen=True, slots=True)
class _Attempt:
    block: int
    number: int = 1
    suspect: bool = False


class Dispatch:
    """Hands out the blocks of a run and takes them back.

    Parameters
    ----------
    run : Run
        Its ledger grows, and its failures.
    client : distributed.Client
        Of the workers.
    stopping : callable
        Tells whether no new blocks may be handed out any more.
    on_block : callable
        Called with the run and the record of each block that has become done.
    """

    def __init__(
        self, run: Run, client: Client, stopping: Callable[[], bool], on_block: BlockDone
    ) -> None:
        self._run = run
        self._client = client
        self._stopping = stopping
        self._on_block = on_block
        self._todo = run.ledger.remaining()
        self._handed_out: dict[Future, _Attempt] = {}
        self._suspects: list[_Attempt] = []
        self._ended: SimpleQueue[Future] = SimpleQueue()
        self._succeeded = False
        self._in_workers = BLOCKS_IN_A_WORKER * run.job.plan.budget.workers
        # Dask keeps blocks in its queue only if they are more than twice what its workers can do.
        self._few = run.ledger.blocks - run.ledger.done_count <= 2 * self._in_workers

    def work(self) -> None:
        """Return when all blocks are done or failed, or nothing more may be handed out."""
        self._client.register_plugin(_Working(self._run.settings), name=_PLUGIN)
        self._hand_out()
        told = False
        while self._handed_out:  # suspects are waiting only while there is one among them
            records = self._take(self._next_ended())
            self._hand_out()  # before the disk is waited for
            self._run.ledger.append(records)
            for record in records:
                self._on_block(self._run, record)
            if self._ending and not told:
                told = True
                # Not waited for: a worker may hang, and the driver must hear a second signal.
                Thread(target=self._give_back, daemon=True).start()

    def _next_ended(self) -> list[Future]:
        """Wait a moment for blocks that have ended, so that a signal is seen in between."""
        futures = []
        with suppress(Empty):
            futures.append(self._ended.get(timeout=_POLL_SECONDS))
            while True:
                futures.append(self._ended.get_nowait())
        return futures

    def _take(self, futures: list[Future]) -> list[BlockRecord]:
        """Return the records of the blocks that are done, and see to the others."""
        records = []
        for future, outcome in zip(futures, self._outcomes(futures), strict=True):
            attempt = self._handed_out.pop(future)
            if isinstance(outcome, BlockRecord):
                records.append(outcome)
            elif outcome is not None:
                self._retry(attempt, outcome)
            future.release()
        self._succeeded = self._succeeded or bool(records)
        return records

    def _outcomes(self, futures: list[Future]) -> list[BlockRecord | str | None]:
        """Fetch them in one go; after an error one by one."""
        try:
            outcomes: list[BlockRecord | str | None] = self._client.gather(futures)
        except (Exception, CancelledError):
            return [_outcome(future) for future in futures]
        return outcomes

    def _hand_out(self) -> None:
        """Fill up what is handed out, many blocks at a time, unless there is a reason not to."""
        if self._ending:
            return
        if self._suspects and not any(a.suspect for a in self._handed_out.values()):
            self._submit([self._suspects.pop(0)])
        # Until one has succeeded all may be about to fail.
        ahead = 1 if self._few or not self._succeeded else _AHEAD
        most = ahead * self._in_workers
        room = most - len(self._handed_out)
        if ahead == 1 or 2 * room >= most:
            self._submit([_Attempt(block) for block in islice(self._todo, room)])

    @property
    def _ending(self) -> bool:
        """Whether no block may be begun any more: on a signal, or because all would fail."""
        return self._stopping() or (not self._succeeded and len(self._run.failures) >= _HOPELESS)

    def _submit(self, attempts: list[_Attempt]) -> None:
        if attempts:
            numbers = zip(*[(a.block, a.number) for a in attempts], strict=True)
            futures = self._client.map(_do, *numbers, pure=False)
            for future, attempt in zip(futures, attempts, strict=True):
                self._handed_out[future] = attempt
                future.add_done_callback(self._ended.put)

    def _retry(self, attempt: _Attempt, reason: str) -> None:
        """Try a failed block again, or give it up.

        With a worker die two blocks, and one of them may be the cause. Such suspects are tried one
        at a time: the cause dies as often as it may, and nothing else dies with it twice.
        """
        most = 1 + self._run.job.config.blocks.retries
        log.warning(
            "block %d failed, attempt %d of %d: %s", attempt.block, attempt.number, most, reason
        )
        if attempt.number == most:
            self._run.failures.append(Failure(attempt.block, reason))
        elif reason == _WORKER_DIED:
            self._suspects.append(_Attempt(attempt.block, attempt.number + 1, suspect=True))
        elif not self._ending:  # else it is left to the next run
            self._submit([replace(attempt, number=attempt.number + 1)])

    def _give_back(self) -> None:
        """Let the workers return all blocks undone but those in the kernel, or past it."""
        with suppress(Exception, CancelledError):  # the run may end before all have answered
            self._client.register_plugin(_Stopped(), name=_PLUGIN)


class _Working(WorkerPlugin):  # type: ignore[misc]
    """Lives in each worker, also in one that takes the place of another, and does the blocks."""

    def __init__(self, settings: TaskSettings) -> None:
        self._settings = settings

    def setup(self, worker: Worker) -> None:  # noqa: ARG002
        """Begin."""
        self._blocks = BlockWorker(self._settings)

    def run(self, block: int, worker: str, attempt: int) -> BlockRecord | None:
        """Do one block; see `BlockWorker.run`."""
        return self._blocks.run(block, worker, attempt)

    def teardown(self, worker: Worker) -> None:  # noqa: ARG002
        """Give way to another plugin, or end with the worker."""
        self._blocks.stop()


class _Stopped(WorkerPlugin):  # type: ignore[misc]
    """Takes the place of `_Working`, and gives every block back."""

    def run(self, *_: object) -> None:
        """Do nothing."""


def _do(block: int, attempt: int) -> BlockRecord | None:
    worker = get_worker()
    plugin: _Working | _Stopped = worker.plugins.get(_PLUGIN) or _Stopped()
    return plugin.run(block, str(worker.name), attempt)


def _outcome(future: Future) -> BlockRecord | str | None:
    """Return the record of a block that is done, in words why it is not, None if it came back."""
    try:
        record: BlockRecord | None = future.result()
    except KilledWorker:
        return _WORKER_DIED
    except CancelledError:
        return "the scheduler lost it"
    except Denoise5dError as error:
        return str(error)
    except Exception as error:  # tasks raise whatever their libraries do
        log.warning("a block ended in an error that is not foreseen", exc_info=error)
        return f"{type(error).__name__}: {error}"
    return record
