"""dask-jobqueue's cluster, with names that are never used twice and jobs that are written down."""

from __future__ import annotations

import logging
from asyncio import to_thread
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from dask_jobqueue.slurm import SLURMCluster, SLURMJob
from distributed.deploy.spec import ProcessInterface
from distributed.security import Security

from denoise5d.errors import ClusterError
from denoise5d.slurm import Silent, cancel, submit

log = logging.getLogger(__name__)

__all__ = ["JobCluster", "WorkerJob", "WorkerSecurity"]


class WorkerSecurity(Security):  # type: ignore[misc]
    """Certificates that workers are told of in a file of settings, not on their command line."""

    def get_tls_config_for_role(self, role: str) -> dict[str, Any]:
        """Return nothing for a worker's command line."""
        tls: dict[str, Any] = super().get_tls_config_for_role(role)
        return {} if role == "worker" else tls


class WorkerJob(SLURMJob):  # type: ignore[misc]
    """The job of a worker.

    SLURM is asked in threads, with a limit in time: a command of dask-jobqueue that hangs would
    hang whoever starts or ends workers, and a thousand jobs would be a thousand processes at once.

    Attributes
    ----------
    job_id : str or None
        Its number, once it is submitted.
    refusal : str or None
        Why it was not submitted.
    """

    def __init__(self, *arguments: Any, submitted: Callable[[str], None], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.refusal: str | None = None
        self._submitted = submitted

    async def start(self) -> None:
        """Submit it; a refusal is kept for whoever looks."""
        try:
            await to_thread(self._submit)
        except (ClusterError, OSError) as error:
            self.refusal = str(error)
        await ProcessInterface.start(self)

    def _submit(self) -> None:
        with self.job_file() as script:
            self.job_id = submit(Path(script))
        self._submitted(self.job_id)

    async def close(self) -> None:
        """Cancel it."""
        if self.job_id:
            try:
                await to_thread(cancel, [self.job_id])
            except Silent as error:
                log.warning(
                    "job %s is not cancelled, and ends by itself when it misses the driver: %s",
                    self.job_id,
                    error,
                )
        await ProcessInterface.close(self)


class JobCluster(SLURMCluster):  # type: ignore[misc]
    """A scheduler in this process, and a job for each worker."""

    job_cls = WorkerJob

    def __init__(self, **options: Any) -> None:
        self._numbers = count(1)
        super().__init__(**options)

    def _new_worker_name(self, worker_number: int) -> str:  # noqa: ARG002
        return f"w{next(self._numbers)}"
