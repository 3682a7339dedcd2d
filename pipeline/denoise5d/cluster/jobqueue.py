"""dask-jobqueue's cluster, with names that are never used twice and jobs that are written down."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

from dask_jobqueue.slurm import SLURMCluster, SLURMJob
from distributed.deploy.spec import ProcessInterface
from distributed.security import Security

__all__ = ["JobCluster", "WorkerJob", "WorkerSecurity"]


class WorkerSecurity(Security):  # type: ignore[misc]
    """Certificates that workers are told of in a file of settings, not on their command line."""

    def get_tls_config_for_role(self, role: str) -> dict[str, Any]:
        """Return nothing for a worker's command line."""
        tls: dict[str, Any] = super().get_tls_config_for_role(role)
        return {} if role == "worker" else tls


class WorkerJob(SLURMJob):  # type: ignore[misc]
    """The job of a worker.

    Attributes
    ----------
    job_id : str or None
        Its number, once it is submitted.
    refusal : str or None
        What sbatch said when it refused.
    """

    def __init__(self, *arguments: Any, submitted: Callable[[str], None], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.refusal: str | None = None
        self._submitted = submitted

    async def start(self) -> None:
        """Submit it; a refusal is kept for whoever looks."""
        try:
            await super().start()
        except (RuntimeError, ValueError, OSError) as error:
            self.refusal = str(error)
            await ProcessInterface.start(self)
        else:
            self._submitted(self.job_id)

    async def close(self) -> None:
        """Cancel it."""
        await super().close()
        await ProcessInterface.close(self)


class JobCluster(SLURMCluster):  # type: ignore[misc]
    """A scheduler in this process, and a job for each worker."""

    job_cls = WorkerJob

    def __init__(self, **options: Any) -> None:
        self._numbers = count(1)
        super().__init__(**options)

    def _new_worker_name(self, worker_number: int) -> str:  # noqa: ARG002
        return f"w{next(self._numbers)}"
