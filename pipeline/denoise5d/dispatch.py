"""Handing out the blocks of a run and taking them back.

One block a worker is on its way, no more: what a worker held in reserve would die with it, and be
in the way of a stop. It comes back as a record of a few hundred bytes, which goes into the ledger
and is forgotten.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

from distributed import CancelledError, Client, Future, get_worker
from distributed.scheduler import KilledWorker

from denoise5d.errors import Denoise5dError
from denoise5d.geometry import Block
from denoise5d.ledger import BlockRecord, Ledger
from denoise5d.noise import NoiseModel
from denoise5d.prepare import Job
from denoise5d.task import TaskSettings, run_block

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.5

_HOPELESS = 3
"""So many blocks that failed for good, and none that succeeded, say that all would fail."""


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
        """What every task is told."""
        job = self.job
        return TaskSettings(
            input_path=job.config.input.path,
            axes=job.config.input.axes,
            dataset=job.config.input.dataset,
            output_path=job.config.output.path,
            image_shape=job.image.shape,
            noise=tuple(self.noise),
            parameters=job.parameters,
            threads=job.plan.budget.threads,
            io_threads=job.io_threads,
        )


BlockDone = Callable[[Run, BlockRecord], None]


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
        self._handed_out: dict[Future, tuple[int, int]] = {}  # block and attempt
        self._ended: SimpleQueue[Future] = SimpleQueue()
        self._succeeded = False

    def work(self) -> None:
        """Return when all blocks are done or failed, or nothing more may be handed out."""
        self._hand_out()
        drained = False
        while self._handed_out:
            records = self._take(self._next_ended())
            self._hand_out()  # before the disk is waited for: the workers are idle
            self._run.ledger.append(records)
            for record in records:
                self._on_block(self._run, record)
            if self._stopping() and not drained:
                drained = True
                self._cancel_waiting()

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
        for future in futures:
            block, attempt = self._handed_out.pop(future)
            outcome = _outcome(future)
            if isinstance(outcome, BlockRecord):
                records.append(outcome)
            elif not (future.cancelled() and self._stopping()):
                self._retry(block, attempt, outcome)
            future.release()
        self._succeeded = self._succeeded or bool(records)
        return records

    def _hand_out(self) -> None:
        """Give every worker a block, unless there is a reason not to begin any more."""
        workers = self._run.job.plan.budget.workers
        while len(self._handed_out) < workers and not self._stopping() and not self._hopeless:
            block = next(self._todo, None)
            if block is None:
                return
            self._submit(block, 1)

    @property
    def _hopeless(self) -> bool:
        """Whether all would fail; a block that is still in work may show that they would not."""
        return not self._succeeded and len(self._run.failures) >= _HOPELESS

    def _submit(self, block: int, attempt: int) -> None:
        run = self._run
        future = self._client.submit(
            _in_worker, run.settings, run.job.plan.grid[block], attempt, pure=False
        )
        self._handed_out[future] = (block, attempt)
        future.add_done_callback(self._ended.put)

    def _retry(self, block: int, attempt: int, reason: str) -> None:
        """Try a failed block again, or give it up."""
        most = 1 + self._run.job.config.blocks.retries
        log.warning("block %d failed, attempt %d of %d: %s", block, attempt, most, reason)
        if attempt == most:
            self._run.failures.append(Failure(block, reason))
        elif not self._stopping():  # else it is left to the next run
            self._submit(block, attempt + 1)

    def _cancel_waiting(self) -> None:
        """Take back the blocks that no worker has begun; those in work are left to finish."""
        begun = {key for keys in self._client.processing().values() for key in keys}
        for future in self._handed_out:
            if future.key not in begun and not future.done():
                future.cancel()


def _in_worker(settings: TaskSettings, block: Block, attempt: int) -> BlockRecord:
    return run_block(settings, block, str(get_worker().name), attempt)


def _outcome(future: Future) -> BlockRecord | str:
    """Return the record of a block that is done, or in words why it is not."""
    try:
        record: BlockRecord = future.result()
    except KilledWorker:
        return (
            "its worker died, most likely killed for its memory (by the system, or by its own "
            "limit); a higher blocks.memory_factor gives each block more, fewer cluster.workers "
            "leave more to each"
        )
    except CancelledError:
        return "the scheduler lost it"
    except Denoise5dError as error:
        return str(error)
    except Exception as error:  # tasks raise whatever their libraries do
        log.warning("a block ended in an error that is not foreseen", exc_info=error)
        return f"{type(error).__name__}: {error}"
    return record
