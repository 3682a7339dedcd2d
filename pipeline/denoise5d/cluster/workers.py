"""What a run has to do with its workers, whatever kind they are."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from distributed import Client

from denoise5d.errors import ClusterError
from denoise5d.worker import Arrival

log = logging.getLogger(__name__)

SEARCHED_LINES = 100
"""So many lines at the end of a worker's log may tell why it died."""

_QUOTED_LINES = 5


def quoted_end(lines: list[str]) -> str:
    """Return the last lines of a worker's log as a message shows them."""
    return "".join(f"\n    | {line}" for line in lines[-_QUOTED_LINES:])


@dataclass(frozen=True, slots=True)
class Death:
    """Why a worker died.

    Attributes
    ----------
    reason : str
        In words, with the key to change.
    innocent : bool
        Whether it was ended from outside: its blocks are to blame for nothing.
    """

    reason: str
    innocent: bool = False


class Workers:
    """Those of this machine: dask itself puts another one in the place of one that dies.

    Parameters
    ----------
    client : distributed.Client
        Of a cluster whose scheduler is in this process.
    threads : int
        What the kernel must get in each worker.

    Attributes
    ----------
    client : distributed.Client
        To hand out blocks.
    """

    def __init__(self, client: Client, threads: int) -> None:
        self.client = client
        self._threads = threads
        self._mistake: str | None = None

    def page_port(self) -> int:
        """Return the port of dask's web page, which may be another one than was asked for."""
        scheduler: Any = self.client.cluster.scheduler
        port: int = scheduler.http_server.port
        return port

    def worked(self, name: str) -> None:
        """Take note that a worker has done a block."""

    def present(self) -> int:
        """Return how many workers take blocks at this moment."""
        scheduler: Any = self.client.cluster.scheduler
        return len(scheduler.running)

    def gone(self) -> bool:
        """Tell whether there is none, also none that only finishes what it has."""
        scheduler: Any = self.client.cluster.scheduler
        return not scheduler.workers

    def arrived(self, worker: Arrival) -> None:
        """Take note of a worker that is ready."""
        log.debug("worker %s on %s: %d threads", worker.name, worker.host, worker.threads)
        if worker.threads != self._threads:
            self._mistake = (
                f"the kernel gets {worker.threads} threads instead of cluster.cpus = "
                f"{self._threads} in worker {worker.name} on {worker.host}; look at "
                f"OMP_THREAD_LIMIT and OMP_DYNAMIC in the environment"
            )

    def look(self, left: int, *, longest: float) -> None:  # noqa: ARG002  others need them
        """See whether there is still hope; to be called every now and then.

        Parameters
        ----------
        left : int
            Blocks that are neither done nor given up.
        longest : float
            Seconds that a block takes at most, as far as is known; 0: not known yet.

        Raises
        ------
        ClusterError
            If no worker lives, and none will.
        """
        if self._mistake:
            raise ClusterError(self._mistake)

    def death(self, name: str) -> Death:  # noqa: ARG002  others need it
        """Say why a worker died."""
        return Death(
            "its worker died, most likely killed for its memory (by the system, or by its own "
            "limit); a higher blocks.memory_factor gives each block more, fewer cluster.workers "
            "leave more to each"
        )
