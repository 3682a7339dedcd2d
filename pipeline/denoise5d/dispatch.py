"""Handing out the blocks of a run's passes and taking them back.

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
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
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
from denoise5d.passes import Failure, Pass, Run
from denoise5d.records import BlockRecord, record_of
from denoise5d.task import BLOCKS_IN_A_WORKER
from denoise5d.worker import PLUGIN, TOPIC, Arrival, Stopped, Working, do_block
from denoise5d.writing import SPREAD, Undone

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


BlockDone = Callable[[Pass, BlockRecord], None]


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


class Heard:
    """What workers say of blocks, until it is asked for; it comes in the client's thread.

    Parameters
    ----------
    workers : Workers
        Hear of those that arrive.
    """

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._outcomes: dict[tuple[int, int], BlockRecord | Undone] = {}

    def take_down(self, event: tuple[float, Mapping[str, Any]]) -> None:
        """Take down what a worker says, before the task ends that it is about.

        A worker that was taken for dead may come late, with a block of a pass that is over.
        """
        message = event[1]
        if "arrival" in message:
            self._workers.arrived(Arrival(**message["arrival"]))
        elif "record" in message:
            record = record_of(message["record"])
            self._outcomes[message["level"], record.block] = record
        else:
            self._outcomes[message["level"], message["block"]] = Undone(message["undone"])

    def pop(self, level: int, block: int) -> BlockRecord | Undone | None:
        """Return what has become of a block of a pass; None if nothing was heard of it."""
        return self._outcomes.pop((level, block), None)


def dispatch(
    run: Run,
    stages: Iterable[Pass],
    workers: Workers,
    stopping: Callable[[], bool],
    on_block: BlockDone,
) -> None:
    """Have all passes of a run done, one after the other by the same workers.

    Parameters
    ----------
    run : Run
        What the workers are told of.
    stages : iterable of Pass
        Asked for the next one when one is complete.
    workers, stopping, on_block
        As of `Dispatch`.

    Raises
    ------
    ClusterError
        If there are no workers, and will be none.
    """
    heard = Heard(workers)
    workers.client.subscribe_topic(TOPIC, heard.take_down)
    workers.client.register_plugin(Working(run.settings, run.level_settings), name=PLUGIN)
    for stage in stages:
        Dispatch(stage, workers, heard, stopping, on_block).work()
        if not stage.complete:
            return


class Dispatch:
    """Hands out the blocks of a pass and takes them back.

    Parameters
    ----------
    stage : Pass
        Its ledger grows, and the failures of its run.
    workers : Workers
        That do the blocks.
    heard : Heard
        What they say.
    stopping : callable
        Tells whether no new blocks may be handed out any more.
    on_block : callable
        Called with the pass and the record of each block that has become done.
    """

    def __init__(
        self,
        stage: Pass,
        workers: Workers,
        heard: Heard,
        stopping: Callable[[], bool],
        on_block: BlockDone,
    ) -> None:
        self._stage, self._run = stage, stage.run
        self._workers = workers
        self._client = workers.client
        self._heard = heard
        self._stopping = stopping
        self._on_block = on_block
        self._todo = stage.ledger.remaining()
        self._again: deque[_Attempt] = deque()
        self._suspects: deque[_Attempt] = deque()
        self._handed_out: dict[Future, _Attempt] = {}
        self._ended: SimpleQueue[Future] = SimpleQueue()
        self._seconds = deque(_known_seconds(stage), maxlen=_RECENT)
        self._succeeded = self._out_of_time = False

    def work(self) -> None:
        """Return when all blocks are done or failed, or nothing more may be handed out."""
        self._hand_out()
        told = False
        while self._handed_out or (self._stage.left and not self._ending):
            ended = self._next_ended()
            records = self._take(ended)
            self._hand_out()  # before the disk is waited for
            self._stage.ledger.append(records)
            for record in records:
                self._on_block(self._stage, record)
            if self._ending:
                if not told:  # not waited for: a worker may hang
                    Thread(target=self._give_back, daemon=True).start()
                told = True
                if time() > self._run.ends or (self._workers.gone() and not ended):
                    return  # nothing more comes back in time, or ever
            # No worker need be started just to give back what waits in the scheduler.
            left = 0 if self._ending else self._stage.left + self._stage.later
            self._workers.look(left, longest=self._longest)

    @property
    def _longest(self) -> float:
        """Seconds that a block takes at most, of the last ones: a disk may have hung long ago."""
        return max(self._seconds, default=0.0)

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
            heard = self._heard.pop(self._stage.level, attempt.block)
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

    def _hand_out(self) -> None:
        """Fill up what is handed out, many blocks at a time, unless there is a reason not to."""
        if self._ending:
            return
        if self._suspects and not any(a.suspect for a in self._handed_out.values()):
            self._submit([self._suspects.popleft()])
        # Dask keeps blocks in its queue only if they are more than twice what its workers can do,
        # and until one has succeeded all may be about to fail.
        in_workers = BLOCKS_IN_A_WORKER * self._workers.present()
        ahead = 1 if not self._succeeded or self._stage.left <= 2 * in_workers else _AHEAD
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
            common = {"level": self._stage.level, "seconds": self._longest}
            futures = self._client.map(do_block, *numbers, **common, pure=False)
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
        level = self._stage.level
        block = f"level {level}, " * bool(level) + f"block {attempt.block}"
        if innocent:
            log.warning("%s is done again: %s", block, reason)
            self._again.append(attempt.after(reason, counts=False))
            return
        log.warning("%s failed, attempt %d of %d: %s", block, attempt.number, most, reason)
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


def _known_seconds(stage: Pass) -> Iterator[float]:
    """Yield how long the blocks took that are done.

    One that took longer than a whole job says nothing of what this job can do: it had other
    workers, or a disk that hung. Heeding it, no job would begin a block ever again.
    """
    batch = stage.run.job.config.cluster.batch
    most = inf if batch is None else batch.walltime / SPREAD
    for record in stage.ledger.records():
        if record.seconds.busy < most:
            yield record.seconds.busy
