"""The scheduler in the driver's process, when its workers are on other machines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from socket import SO_REUSEADDR, SOL_SOCKET, gethostname, socket
from typing import Any

import psutil
from distributed.security import Security
from distributed.utils import get_ip_interface, silence_logging_cmgr

from denoise5d.cluster.settings import NO_PAGES, SCHEDULER
from denoise5d.config import ClusterConfig
from denoise5d.errors import ClusterError
from denoise5d.plan import Plan

DEATH_TIMEOUT = 60
"""Seconds without a driver after which a worker ends."""


def remote_settings(cluster: ClusterConfig) -> dict[str, Any]:
    """Return dask's settings of driver and workers on several machines."""
    settings: dict[str, Any] = dict(SCHEDULER)
    # A job may wait for days: whoever looks after the jobs says when there is no hope.
    settings["distributed.scheduler.no-workers-timeout"] = None
    # After it dask would cancel the job of a worker that it misses, and forget that there was one:
    # while SLURM does not answer it would never be replaced. The keeper sees to such jobs.
    settings["distributed.deploy.lost-worker-timeout"] = "1000 days"
    # Dask asks the other process of a worker that is silent to start it anew, waits for half a
    # minute, and complains at length if it hangs as well. The keeper sees to such workers, too.
    settings["distributed.scheduler.worker-ttl"] = None
    if cluster.dashboard is None:
        settings |= NO_PAGES
    return settings


def scheduler_options(cluster: ClusterConfig, security: Security) -> dict[str, Any]:
    """Return what the scheduler is told: where it listens, and to whom."""
    assert cluster.batch is not None
    options: dict[str, Any] = {
        "port": cluster.batch.scheduler_port,
        "protocol": "tls://",
        "security": security,
        "dashboard": cluster.dashboard is not None,
        "dashboard_address": cluster.dashboard or "127.0.0.1:0",
    }
    if cluster.batch.interface is not None:
        options["interface"] = cluster.batch.interface
    return options


def worker_arguments(cluster: ClusterConfig, plan: Plan) -> list[str]:
    """Return what dask's command for a worker is told on other machines, not quoted."""
    batch = cluster.batch
    assert batch is not None
    # Without an address the web server, even one without pages, is there for the whole network.
    arguments = ["--no-dashboard", "--dashboard-address", "127.0.0.1:0"]
    arguments += ["--memory-limit", str(plan.bytes_per_worker)]
    # A worker without denoise5d would connect, fail, and hang; so it ends before.
    arguments += ["--preload-nanny", "denoise5d"]
    if batch.worker_ports is not None:
        ports = f"{batch.worker_ports[0]}:{batch.worker_ports[1]}"
        arguments += ["--worker-port", ports, "--nanny-port", ports]
    if batch.interface is not None:
        arguments += ["--interface", batch.interface]
    if batch.local_folder is not None:
        arguments += ["--local-directory", batch.local_folder]
    return arguments


@contextmanager
def quiet() -> Iterator[None]:
    """Keep dask from telling what the driver says itself, also while its cluster closes."""
    with silence_logging_cmgr("CRITICAL"), silence_logging_cmgr("CRITICAL", root="bokeh"):
        yield


@contextmanager
def named_mistakes(cluster: ClusterConfig) -> Iterator[None]:
    """Name the key to change if the scheduler cannot listen where it is told to.

    Where that shows beforehand nothing is begun: a cluster that does not start takes 10 s to end.
    """
    assert cluster.batch is not None
    interface, port = cluster.batch.interface, cluster.batch.scheduler_port
    networks = psutil.net_if_addrs()
    if interface is not None and interface not in networks:
        raise ClusterError(
            f"cluster.interface must be a network of the driver's machine, got {interface}; "
            f"{gethostname()} has {', '.join(networks)}"
        )
    try:
        with socket() as probe:
            probe.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
            probe.bind((get_ip_interface(interface) if interface else "", port))
    except OSError as error:
        raise ClusterError(
            f"the scheduler cannot listen on port {port} of {gethostname()} ({error.strerror}); "
            f"give another cluster.scheduler_port, or 0 for any that is free"
        ) from error
    try:
        yield
    except (RuntimeError, ValueError, OSError) as error:
        raise ClusterError(
            f"the scheduler does not start ({error}); look at cluster.interface, "
            f"cluster.scheduler_port and cluster.dashboard"
        ) from error
