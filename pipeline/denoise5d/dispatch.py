"""Handing out the blocks of a run and taking them back.

A worker has two blocks, one of them in the kernel, and no more: what it held in reserve would die
with it. Some more wait in the scheduler, so that a worker never waits for the driver, and tiny
blocks come and go many at a time. Only numbers go out; a block comes back as a record of a few
hundred bytes, which goes into the ledger and is forgotten::

    ledger.remaining ──> Dispatch ──> scheduler's queue ──> worker: kernel | read, write, verify
                            ^                                              │
                            └────── record, or why there is none ──────────┘

What comes back is sent by the worker as an event, before its task ends, and never fetched: a worker
that hangs, or is gone, takes along nothing that was done.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from math import inf
from queue import Empty, SimpleQueue
from threading import Thread
from time import time
from typing import Any

from distributed import CancelledError, Future
from distributed.scheduler import KilledWorker

from denoise5d.cluster import Workers
from denoise5d.errors import Denoise5dError
from denoise5d.ledger import BlockRecord, Ledger, record_of
from denoise5d.noise import NoiseModel
from denoise5d.prepare import Job
from denoise5d.store import read_provenance
from denoise5d.task import BLOCKS_IN_A_WORKER, SPREAD, TaskSettings, Undone
from denoise5d.worker import PLUGIN, TOPIC, Arrival, Stopped, Working, do_block

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.5

_HOPELESS = 3
"""So many blocks that failed for good, and none that succeeded, say that all would fail."""

_RECENT = 64
"""So many blocks, the last ones, tell how long one takes."""

_REASONS, _REASON_LENGTH = 4, 300
"""So many reasons of failed attempts, the last ones, so long each, go into a block's record."""

_AHEAD = 8
"""So many times the blocks that all workers have are handed out, if there are as many."""


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
    ends : float
        When the driver's job ends, in seconds since 1970; infinite if it does not.
    """

    job: Job
    ledger: Ledger
    noise: list[NoiseModel]
    failures: list[Failure] = field(default_factory=list)
    ends: float = inf

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
            provenance=read_provenance(job.config.output.path),
            ends=self.ends,
        )


BlockDone = Callable[[Run, BlockRecord], None]


@dataclass(frozen=True, slots=True)
class _Attempt:
    block: int
    number: int = 1
    suspect: bool = False
    failures: tuple[str, ...] = ()

    def after(self, reason: str, *, counts: bool = True) -> _Attempt:
        """Return the next attempt, which remembers why this one failed."""
        failures = (*self.failures, _shortened(reason))[-_REASONS:]
        return replace(self, number=self.number + counts, failures=failures)


class Dispatch:
    """Hands out the blocks of a run and takes them back.

    Parameters
    ----------
    run : Run
        Its ledger grows, and its failures.
    workers : Workers
        That do the blocks.
    stopping : callable
        Tells whether no new blocks may be handed out any more.
    on_block : callable
        Called with the run and the record of each block that has become done.
    """

    def __init__(
        self, run: Run, workers: Workers, stopping: Callable[[], bool], on_block: BlockDone
    ) -> None:
        self._run = run
        self._workers = workers
        self._client = workers.client
        self._stopping = stopping
        self._on_block = on_block
        self._todo = run.ledger.remaining()
        self._again: deque[_Attempt] = deque()
        self._suspects: deque[_Attempt] = deque()
        self._handed_out: dict[Future, _Attempt] = {}
        self._ended: SimpleQueue[Future] = SimpleQueue()
        self._heard: dict[int, BlockRecord | Undone] = {}
        self._seconds = deque(_known_seconds(run), maxlen=_RECENT)
        self._succeeded = self._out_of_time = False

    def work(self) -> None:
        """Return when all blocks are done or failed, or nothing more may be handed out.

        Raises
        ------
        ClusterError
            If there are no workers, and will be none.
        """
        self._client.subscribe_topic(TOPIC, self._hear)
        self._client.register_plugin(Working(self._run.settings), name=PLUGIN)
        self._hand_out()
        told = False
        while self._handed_out or (self._left and not self._ending):
            ended = self._next_ended()
            records = self._take(ended)
            self._hand_out()  # before the disk is waited for
            self._run.ledger.append(records)
            for record in records:
                self._on_block(self._run, record)
            if self._ending:
                if not told:  # not waited for: a worker may hang
                    Thread(target=self._give_back, daemon=True).start()
                told = True
                if time() > self._run.ends or (self._workers.gone() and not ended):
                    return  # nothing more comes back in time, or ever
            # No worker need be started just to give back what waits in the scheduler.
            self._workers.look(0 if self._ending else self._left, longest=self._longest)

    @property
    def _longest(self) -> float:
        """Seconds that a block takes at most, of the last ones: a disk may have hung long ago."""
        return max(self._seconds, default=0.0)

    @property
    def _left(self) -> int:
        """Blocks that are neither done nor given up."""
        return self._run.ledger.blocks - self._run.ledger.done_count - len(self._run.failures)

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
            attempt = self._handed_out.pop(future)
            heard = self._heard.pop(attempt.block, None)
            if isinstance(heard, BlockRecord):
                records.append(replace(heard, failures=attempt.failures))
                self._seconds.append(heard.seconds.busy)
                self._workers.worked(heard.worker)
            elif heard is not None:
                self._again.append(attempt)
                if heard is Undone.RUN_ENDS and not self._out_of_time:
                    self._out_of_time = True
                    log.warning(
                        "no block is begun any more: one takes up to %.0f s, and the driver's job "
                        "leaves %.0f s", self._longest, self._run.ends - time(),
                    )  # fmt: skip
            else:
                self._retry(attempt, future)
            future.release()
        self._succeeded = self._succeeded or bool(records)
        return records

    def _hear(self, event: tuple[float, Mapping[str, Any]]) -> None:
        """Take down what a worker says; in the client's thread, before the block's task ends."""
        message = event[1]
        if "arrival" in message:
            self._workers.arrived(Arrival(**message["arrival"]))
        elif "record" in message:
            record = record_of(message["record"], self._run.ledger.blocks)
            self._heard[record.block] = record
        else:
            self._heard[message["block"]] = Undone(message["undone"])

    def _hand_out(self) -> None:
        """Fill up what is handed out, many blocks at a time, unless there is a reason not to."""
        if self._ending:
            return
        if self._suspects and not any(a.suspect for a in self._handed_out.values()):
            self._submit([self._suspects.popleft()])
        # Dask keeps blocks in its queue only if they are more than twice what its workers can do,
        # and until one has succeeded all may be about to fail.
        in_workers = BLOCKS_IN_A_WORKER * self._workers.present()
        ahead = 1 if not self._succeeded or self._left <= 2 * in_workers else _AHEAD
        most = ahead * in_workers
        room = max(0, most - len(self._handed_out))
        if ahead == 1 or 2 * room >= most:
            again = [self._again.popleft() for _ in range(min(room, len(self._again)))]
            new = islice(self._todo, room - len(again))
            self._submit([*again, *(_Attempt(block) for block in new)])

    @property
    def _ending(self) -> bool:
        """Whether no block may be begun any more: on a signal, or because all would fail."""
        hopeless = not self._succeeded and len(self._run.failures) >= _HOPELESS
        return self._stopping() or self._out_of_time or hopeless

    def _submit(self, attempts: list[_Attempt]) -> None:
        if attempts:
            numbers = zip(*[(a.block, a.number) for a in attempts], strict=True)
            futures = self._client.map(do_block, *numbers, seconds=self._longest, pure=False)
            for future, attempt in zip(futures, attempts, strict=True):
                self._handed_out[future] = attempt
                future.add_done_callback(self._ended.put)

    def _retry(self, attempt: _Attempt, future: Future) -> None:
        """Try a block again that failed, or give it up.

        With a worker die two blocks, and one of them may be the cause. Such suspects are tried one
        at a time: the cause dies as often as it may, and nothing else dies with it twice. A worker
        that was ended from outside blames nobody.
        """
        reason, suspect, innocent = self._failure(future)
        most = 1 + self._run.job.config.blocks.retries
        if innocent:
            log.warning("block %d is done again: %s", attempt.block, reason)
            self._again.append(attempt.after(reason, counts=False))
            return
        log.warning(
            "block %d failed, attempt %d of %d: %s", attempt.block, attempt.number, most, reason
        )
        if attempt.number >= most:
            self._run.failures.append(Failure(attempt.block, reason))
        elif suspect:
            self._suspects.append(replace(attempt.after(reason), suspect=True))
        else:
            self._again.append(attempt.after(reason))

    def _failure(self, future: Future) -> tuple[str, bool, bool]:
        """Return why a block failed; whether with its worker; whether that was nobody's fault."""
        try:
            future.result()
        except KilledWorker as error:
            death = self._workers.death(str(error.last_worker.name))
            return death.reason, True, death.innocent
        except CancelledError:
            return "the scheduler lost it", False, False
        except Denoise5dError as error:
            return str(error), False, False
        except Exception as error:  # tasks raise whatever their libraries do
            log.warning("a block ended in an error that is not foreseen", exc_info=error)
            return f"{type(error).__name__}: {error}", False, False
        return "its record was lost on the way", False, False

    def _give_back(self) -> None:
        """Let the workers return all blocks undone but those in the kernel, or past it."""
        with suppress(Exception, CancelledError):  # the run may end before all have answered
            self._client.register_plugin(Stopped(), name=PLUGIN)


def _shortened(reason: str) -> str:
    """Return a reason that is no longer than a line of the ledger bears."""
    return reason if len(reason) <= _REASON_LENGTH else reason[: _REASON_LENGTH - 3] + "..."


def _known_seconds(run: Run) -> Iterator[float]:
    """Yield how long the blocks took that are done.

    One that took longer than a whole job says nothing of what this job can do: it had other
    workers, or a disk that hung. Heeding it, no job would begin a block ever again.
    """
    batch = run.job.config.cluster.batch
    most = inf if batch is None else batch.walltime / SPREAD
    for record in run.ledger.records():
        if record.seconds.busy < most:
            yield record.seconds.busy
