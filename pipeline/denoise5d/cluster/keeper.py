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
from collections.abc import Iterable
from dataclasses import dataclass
from threading import Event, Thread

from distributed import Client
from distributed.deploy.spec import SpecCluster

from denoise5d.cluster.workers import Death, Workers
from denoise5d.errors import ClusterError
from denoise5d.slurm import Silent
from denoise5d.worker import Arrival

log = logging.getLogger(__name__)

_LOOK_SECONDS = 3.0
_BARREN = 3
"""So many workers in a row (or all of them) that ended without a block done: give up."""

_LOST_SECONDS = 90
"""A worker that runs and is not connected for so long is ended."""

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
        self._over = Event()
        self._left, self._longest = count, 0.0
        self._useful: set[str] = set()  # have done a block
        self._barren = 0
        self._last_seen: dict[str, float] = {}
        self._ended_by_us: dict[str, Death] = {}
        self._never_since: float | None = None
        self._told = self._silent_since = 0.0
        self.given_up: str | None = None

    def note(self, left: int, longest: float) -> None:
        """Take down how many blocks are left, and how long one takes at most."""
        self._left, self._longest = left, longest

    def worked(self, name: str) -> None:
        """Take down that a worker has done a block."""
        self._useful.add(name)
        self._barren = 0

    def death(self, name: str) -> Death:
        """Say why a worker died."""
        return self._ended_by_us.get(name) or self._pool.death(name)

    def stop(self) -> None:
        """Look no more."""
        self._over.set()
        self.join()

    def run(self) -> None:
        """Look until stopped, or nothing can be hoped for."""
        while self.given_up is None:
            try:
                self._look()
                self._silent_since = 0.0
            except Silent as error:
                if not self._silent_since:
                    log.warning("SLURM does not answer, jobs go on meanwhile: %s", error)
                    self._silent_since = time.monotonic()
            except Exception as error:  # must not end unheard in a thread
                if not self._over.is_set():
                    log.warning("looking after the workers failed", exc_info=error)
            if self._over.wait(_LOOK_SECONDS):
                return

    def _look(self) -> None:
        pool, cluster = self._pool, self._pool.cluster
        seen = cluster.sync(self._connected)
        now = time.monotonic()
        for name in seen:
            self._last_seen[name] = now
        self._bury(pool.ended())
        waiting = pool.waiting()
        self._end_hung(seen, {str(n) for n in cluster.workers} - waiting.keys(), now)
        self._tell(waiting, now)
        wanted = min(self._count, self._left)
        names = list(map(str, cluster.worker_spec))
        if len(names) > wanted:
            idle = [*waiting, *(name for name in names if name in seen and seen[name].idle)]
            self._end(idle[: len(names) - wanted])
        elif len(names) < wanted and self.given_up is None:
            cluster.scale(wanted)

    async def _connected(self) -> dict[str, _Seen]:
        """Return what the scheduler knows of its workers; runs in its thread."""
        return {
            str(worker.name): _Seen(
                idle=not worker.processing, seconds=max(worker.executing.values(), default=0.0)
            )
            for worker in self._pool.cluster.scheduler.workers.values()
        }

    def _bury(self, ended: dict[str, Death]) -> None:
        for name, death in ended.items():
            reason = self._ended_by_us.get(name, death)
            level = logging.INFO if name in self._useful else logging.WARNING
            log.log(level, "worker %s has ended: %s", name, reason.reason)
            if name not in self._useful:
                self._barren += 1
                if self._barren >= max(_BARREN, self._count):
                    self.given_up = (
                        f"{self._barren} workers in a row ended without a block done, the last "
                        f"one: {reason.reason}"
                    )
        self._end(ended)

    def _end(self, names: Iterable[str]) -> None:
        mine = [n for n in self._pool.cluster.worker_spec if str(n) in set(names)]
        if mine:
            self._pool.cluster.sync(self._pool.cluster.scale_down, mine)

    def _end_hung(self, seen: dict[str, _Seen], running: set[str], now: float) -> None:
        for name in running:
            gone = now - self._last_seen.setdefault(name, now)
            limit = _HUNG_TIMES * self._longest + _HUNG_SECONDS
            if gone > _LOST_SECONDS:
                death = Death(
                    f"worker {name} runs and has not been heard of for {gone:.0f} s: it hangs, or "
                    f"its node cannot reach the driver (cluster.interface)"
                )
            elif name in seen and self._longest and seen[name].seconds > limit:
                death = Death(
                    f"worker {name} hangs: a block has taken {seen[name].seconds:.0f} s so far, "
                    f"and others took {self._longest:.0f} s"
                )
            else:
                continue
            log.warning("%s; it is ended", death.reason)
            self._ended_by_us[name] = death
            self._barren += name not in self._useful
            self._end([name])

    def _tell(self, waiting: dict[str, str], now: float) -> None:
        """Say every now and then what is waited for, and give up what never comes."""
        never = self._pool.never() if waiting else None
        if never is None:
            self._never_since = None
        elif self._never_since is None:
            self._never_since = now
        elif now - self._never_since > _NEVER_SECONDS and len(waiting) == len(
            self._pool.cluster.workers
        ):
            self.given_up = never
        if waiting and now - self._told > _TELL_SECONDS:
            self._told = now
            log.info(
                "%d worker jobs wait for SLURM: %s", len(waiting), ", ".join({*waiting.values()})
            )


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
