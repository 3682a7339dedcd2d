"""Workers that end too early are replaced, those with nothing left to do are ended.

A thread of the driver looks every few seconds. What it asks may take its time (a controller of
SLURM that is down lets its commands wait), and the driver must not wait with it::

    driver ── blocks left, seconds a block ──> Keeper ── asks ──> Pool: jobs, or steps of this job
       <──────────── a reason to give up ─────────┘  └─ starts, ends ──┘
"""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from threading import Event, Thread
from typing import Any

from distributed import Client
from distributed.deploy.spec import SpecCluster

from denoise5d.cluster.workers import Death, Workers
from denoise5d.errors import ClusterError
from denoise5d.plan import Budget
from denoise5d.slurm import Silent
from denoise5d.worker import Arrival

log = logging.getLogger(__name__)

_LOOK_SECONDS = 10.0
"""Between two looks, at most: more often at first, when mistakes show."""

_BARREN, _BARREN_AT_MOST = 3, 12
"""So many workers in a row that ended without a block done: give up if no other one runs; or if
others run, but none is connected."""

_PAUSE_SECONDS, _LONGEST_PAUSE = 3.0, 300.0
"""Before the next worker after one that ended without a block done, twice as long each time."""

_START_SECONDS, _LOST_SECONDS = 600, 300
"""A worker that runs and has not been heard of, yet or any more, for so long is ended: modules and
Python may come from a busy file system."""

_SILENT_SECONDS = 3600
"""If SLURM does not answer for so long, and no worker is connected: give up."""

_HUNG_TIMES, _HUNG_SECONDS = 10, 600
"""A block that takes so many times the longest one known, and so much more, never ends."""

_NEVER_SECONDS = 20
"""A reason for which a job never starts may be mended at once; after that it is believed."""

_TELL_SECONDS = 300
"""How often it is said that jobs are waiting."""


class Pool(ABC):
    """Where workers come from: jobs, or steps of the driver's own job.

    Attributes
    ----------
    cluster : SpecCluster
        Starts and ends them; knows them by their names.
    """

    cluster: SpecCluster

    @abstractmethod
    def ended(self) -> dict[str, Death]:
        """Return the workers whose job or step has ended, and why; may raise Silent."""

    def waiting(self) -> dict[str, str]:
        """Return the workers whose job has not started, with SLURM's reason."""
        return {}

    def never(self) -> str | None:
        """Say why the jobs that wait will never start, if that is so."""
        return None

    @abstractmethod
    def death(self, name: str) -> Death:
        """Say why a worker died that the scheduler misses."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """A worker that is connected to the scheduler."""

    idle: bool
    seconds: float  # that its longest block has taken so far
    silent: float  # seconds since it was last heard of


class Keeper(Thread):
    """Keeps up the number of workers.

    Parameters
    ----------
    pool : Pool
        Where they come from.
    count : int
        How many there shall be, as long as there are so many blocks.

    Attributes
    ----------
    given_up : str or None
        Why no worker will ever live.
    """

    def __init__(self, pool: Pool, count: int) -> None:
        super().__init__(daemon=True, name="keeper")
        self._pool, self._count = pool, count
        self._begun, self._over = Event(), Event()
        self._left, self._longest = 0, 0.0
        self._useful: set[str] = set()  # have done a block
        self._barren = self._pauses = 0
        self._not_before = 0.0
        self._seen: dict[str, _Seen] = {}
        self._last_seen: dict[str, float] = {}
        self._arrived: set[str] = set()
        self._missed: set[str] = set()
        self._ended_by_us: dict[str, Death] = {}
        self._never_since: float | None = None
        self._silent_since: float | None = None
        self._told = -inf
        self.given_up: str | None = None

    def note(self, left: int, longest: float) -> None:
        """Take down how many blocks are left, and how long one takes at most."""
        self._left, self._longest = left, longest
        self._begun.set()

    def worked(self, name: str) -> None:
        """Take down that a worker has done a block."""
        self._useful.add(name)
        self._barren = self._pauses = 0
        self._not_before = 0.0

    def death(self, name: str) -> Death:
        """Say why a worker died."""
        if name not in self._ended_by_us:
            found = self._pool.death(name)
        return self._ended_by_us.get(name) or found  # it may have been ended meanwhile

    def stop(self) -> None:
        """Look no more."""
        self._over.set()
        self._begun.set()
        self.join()

    def run(self) -> None:
        """Look until stopped, or nothing can be hoped for."""
        self._begun.wait()  # until it is known how many blocks are left
        began = time.monotonic()
        while self.given_up is None and not self._over.is_set():
            try:
                self._look()
                self._answered()
            except Exception as error:  # must not end unheard in a thread
                if not self._over.is_set():
                    self._failed(error)
            age = time.monotonic() - began
            if self._over.wait(min(_LOOK_SECONDS, 1 + age / 10)):
                return

    def _answered(self) -> None:
        if self._silent_since is not None:
            log.info("SLURM answers again")
            self._silent_since = None

    def _failed(self, error: Exception) -> None:
        """Say once that a look failed; give up if that lasts, and nobody works meanwhile."""
        now = time.monotonic()
        if self._silent_since is None:
            self._silent_since = now
            if isinstance(error, Silent):
                log.warning("SLURM does not answer, jobs go on meanwhile: %s", error)
            else:
                log.warning("looking after the workers failed", exc_info=error)
        elif now - self._silent_since > _SILENT_SECONDS and not self._seen:
            self.given_up = (
                f"SLURM has not answered for {now - self._silent_since:.0f} s, and no worker is "
                f"there ({error}); when it answers again, run the same command again"
            )

    def _look(self) -> None:
        pool, cluster = self._pool, self._pool.cluster
        self._seen = seen = cluster.sync(self._connected)
        now = time.monotonic()
        self._arrived |= seen.keys()
        self._last_seen |= {name: now - worker.silent for name, worker in seen.items()}
        ended = pool.ended()
        waiting = pool.waiting()
        running = _names(cluster.workers) - waiting.keys()
        hung = self._hung(running - ended.keys(), now)
        if hung:
            cluster.sync(self._forget, set(hung))
        self._bury({**ended, **hung}, now)
        self._give_up_or_tell(waiting, now)
        wanted = min(self._count, self._left)
        names = _names(cluster.worker_spec)
        if len(names) > wanted:
            idle = [*waiting, *(name for name in names & seen.keys() if seen[name].idle)]
            self._end(idle[: len(names) - wanted])
        elif len(names) < wanted and now >= self._not_before and self.given_up is None:
            cluster.scale(wanted)

    async def _connected(self) -> dict[str, _Seen]:
        """Return what the scheduler knows of its workers; runs in its thread."""
        return {
            str(worker.name): _Seen(
                idle=not worker.processing,
                seconds=max(worker.executing.values(), default=0.0),
                silent=time.time() - worker.last_seen,
            )
            for worker in self._pool.cluster.scheduler.workers.values()
        }

    def _bury(self, ended: dict[str, Death], now: float) -> None:
        """Take down that workers have ended; the next one comes later if they did no block."""
        names = ended.keys() & _names(self._pool.cluster.worker_spec)
        for name in sorted(names):
            death = ended[name]
            level = logging.INFO if name in self._useful else logging.WARNING
            log.log(level, "worker %s has ended: %s", name, death.reason)
            if name not in self._useful and not death.innocent:
                self._barren += 1
                self._last = death.reason
        if names - self._useful:
            pause = min(_LONGEST_PAUSE, _PAUSE_SECONDS * 2**self._pauses)
            self._not_before = now + pause
            self._pauses += 1
        self._end(names)

    def _end(self, names: Iterable[str]) -> None:
        ended = set(names)
        mine = [name for name in list(self._pool.cluster.worker_spec) if str(name) in ended]
        if mine:
            self._pool.cluster.sync(self._pool.cluster.scale_down, mine)

    def _hung(self, running: set[str], now: float) -> dict[str, Death]:
        """Return the workers that are to be ended although they run, and why."""
        limit = _HUNG_TIMES * self._longest + _HUNG_SECONDS
        hung, missed = {}, set()
        for name in running:
            gone = now - self._last_seen.setdefault(name, now)
            block_seconds = self._seen[name].seconds if name in self._seen else 0.0
            if gone > (_LOST_SECONDS if name in self._arrived else _START_SECONDS):
                missed.add(name)
                if name in self._missed:  # else it is the driver that stood still
                    hung[name] = Death(
                        f"it runs and has not been heard of for {gone:.0f} s: it hangs, or its "
                        f"node cannot reach the driver (cluster.interface)"
                    )
            elif self._longest and block_seconds > limit:
                hung[name] = Death(
                    f"it hangs: a block has taken {block_seconds:.0f} s so far, and others took "
                    f"{self._longest:.0f} s"
                )
        self._missed = missed
        self._ended_by_us |= hung
        return hung

    async def _forget(self, names: set[str]) -> None:
        """Let the scheduler miss workers whose end it may never hear of; runs in its thread."""
        scheduler: Any = self._pool.cluster.scheduler
        for address, worker in list(scheduler.workers.items()):
            if str(worker.name) in names:
                await scheduler.remove_worker(address, stimulus_id="keeper")

    def _give_up_or_tell(self, waiting: dict[str, str], now: float) -> None:
        """Give up what never comes, or comes to nothing; say now and then what is waited for."""
        running = _names(self._pool.cluster.worker_spec) - waiting.keys()
        enough = _BARREN_AT_MOST if running else _BARREN
        if self._barren >= enough and not self._seen:
            self.given_up = (
                f"{self._barren} workers in a row ended without a block done, the last one: "
                f"{self._last}"
            )
        never = self._pool.never() if waiting else None
        if never is None:
            self._never_since = None
        elif self._never_since is None:
            self._never_since = now
        elif now - self._never_since > _NEVER_SECONDS and len(waiting) == len(
            self._pool.cluster.workers
        ):
            self.given_up = never
        reasons = sorted({*waiting.values()} - {"None"})  # none yet: it has just been submitted
        if reasons and now - self._told > _TELL_SECONDS:
            self._told = now
            log.info("%d worker jobs wait for SLURM: %s", len(waiting), ", ".join(reasons))


def _names(workers: Iterable[Any]) -> set[str]:
    """Return names that the cluster's own thread may be changing."""
    return set(map(str, list(workers)))


class KeptWorkers(Workers):
    """Workers with a keeper.

    Parameters
    ----------
    client : distributed.Client
        Of the keeper's cluster.
    threads : int
        What the kernel must get in each worker.
    keeper : Keeper
        Looks after them.
    """

    def __init__(self, client: Client, threads: int, keeper: Keeper) -> None:
        super().__init__(client, threads)
        self._keeper = keeper

    def arrived(self, worker: Arrival) -> None:
        """Take note of a worker that is ready, and say so."""
        super().arrived(worker)
        job = f", job {worker.job}" if worker.job else ""
        log.info(
            "worker %s is there: %s%s, %d threads", worker.name, worker.host, job, worker.threads
        )

    def worked(self, name: str) -> None:
        """Take note that a worker has done a block."""
        self._keeper.worked(name)

    def look(self, left: int, *, longest: float) -> None:
        """See whether there is still hope; see `Workers.look`."""
        super().look(left, longest=longest)
        self._keeper.note(left, longest)
        if self._keeper.given_up:
            raise ClusterError(self._keeper.given_up)

    def death(self, name: str) -> Death:
        """Say why a worker died."""
        return self._keeper.death(name)


@contextmanager
def kept_workers(pool: Pool, budget: Budget) -> Iterator[KeptWorkers]:
    """Connect to the cluster of a pool, and look after its workers until the end."""
    with Client(pool.cluster, set_as_default=False) as client:
        keeper = Keeper(pool, budget.workers)
        keeper.start()
        try:
            yield KeptWorkers(client, budget.threads, keeper)
        finally:
            keeper.stop()
