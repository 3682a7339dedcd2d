"""Workers of this machine, which only this machine can talk to."""

from __future__ import annotations

import logging
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from typing import Any

import dask
from distributed import Client, LocalCluster, Worker, WorkerPlugin
from distributed.security import Security

from denoise5d.cluster.settings import NO_PAGES, SCHEDULER, WORKER
from denoise5d.cluster.workers import Workers
from denoise5d.errors import RefusedError
from denoise5d.plan import Plan
from denoise5d.prepare import Job
from denoise5d.task import BLOCKS_IN_A_WORKER, probe

_SETTINGS = {**SCHEDULER, **WORKER, "distributed.scheduler.no-workers-timeout": "120s"}

_START_SECONDS = 120


@contextmanager
def local_workers(job: Job) -> Iterator[Workers]:
    """Start the workers of a job on this machine and stop them at the end."""
    with local_cluster(job.plan, dashboard=job.config.cluster.dashboard) as client:
        yield Workers(client, job.plan.budget.threads)


class _IgnoreInterrupts(WorkerPlugin):  # type: ignore[misc]
    """Ctrl-C in a terminal reaches all processes; only the driver is to answer it."""

    def setup(self, worker: Worker) -> None:  # noqa: ARG002
        """Begin a worker, also one that takes the place of another; in its main thread."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _started(**settings: Any) -> Iterator[LocalCluster]:
    """Start the workers deaf to Ctrl-C, which would end them before their plugin is there.

    They inherit that the signal is ignored; the driver is deaf for those seconds, too.
    """
    main = current_thread() is main_thread()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if main else None
    try:
        cluster = LocalCluster(**settings)
    finally:
        if main:
            signal.signal(signal.SIGINT, before)
    with cluster:
        yield cluster


@contextmanager
def local_cluster(plan: Plan, *, dashboard: str | None = None) -> Iterator[Client]:
    """Start the workers of a plan on this machine and stop them at the end.

    Parameters
    ----------
    plan : Plan
        Number of workers, threads and memory of each.
    dashboard : str, optional
        ``host:port`` of dask's web page; none unless given.

    Raises
    ------
    RefusedError
        If the workers do not start, or get fewer threads than the plan gives them.
    """
    budget = plan.budget
    with (
        dask.config.set(_SETTINGS if dashboard else {**_SETTINGS, **NO_PAGES}),
        tempfile.TemporaryDirectory(prefix="denoise5d-") as scratch,
        _started(
            n_workers=budget.workers,
            threads_per_worker=BLOCKS_IN_A_WORKER,
            processes=True,
            memory_limit=plan.bytes_per_worker,
            protocol="tls://",
            security=Security.temporary(),
            host="127.0.0.1",
            scheduler_kwargs={
                "dashboard": dashboard is not None,
                "dashboard_address": dashboard or "127.0.0.1:0",
            },
            local_directory=scratch,
            silence_logs=logging.CRITICAL,  # what matters of it, the driver says itself
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        _wait(client, budget.workers)
        client.register_plugin(_IgnoreInterrupts())
        _check_threads(client, budget.threads)
        yield client


def _wait(client: Client, workers: int) -> None:
    try:
        client.wait_for_workers(workers, timeout=_START_SECONDS)
    except TimeoutError as error:
        raise RefusedError(
            f"only some of the {workers} workers started within {_START_SECONDS} s; "
            f"lower cluster.workers"
        ) from error


def _check_threads(client: Client, threads: int) -> None:
    """Ask every worker: dask sets OMP_NUM_THREADS to 1 for them, and limits may be inherited."""
    for worker, got in client.run(probe, threads).items():
        if got != threads:
            raise RefusedError(
                f"the kernel gets {got} threads instead of cluster.cpus = {threads} in {worker}; "
                f"look at OMP_THREAD_LIMIT and OMP_DYNAMIC in the environment"
            )
