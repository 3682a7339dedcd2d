"""Workers: on this machine, as jobs of their own, or on the nodes of one allocation.

Whatever the kind, a run sees a dask client and, through `Workers`, what becomes of its workers::

    local_workers         processes of this machine
    slurm_workers         a job each, submitted by the driver     ┐ kept up by a Keeper: what ends
    allocation_workers    one on each node of the driver's job    ┘ too early is replaced

The scheduler runs whatever it is sent. So it speaks TLS with certificates made for the run, which
only this user can read.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from denoise5d.cluster.allocation import allocation_workers
from denoise5d.cluster.jobs import slurm_workers, worker_script
from denoise5d.cluster.local import local_workers
from denoise5d.cluster.workers import Death, Workers
from denoise5d.prepare import Job

__all__ = ["Death", "Workers", "start_workers", "worker_script"]


def start_workers(job: Job) -> AbstractContextManager[Workers]:
    """Start the workers that a YAML asks for, and stop them at the end.

    Parameters
    ----------
    job : Job
        Number of workers, threads and memory of each, and what SLURM is asked for.

    Raises
    ------
    ClusterError
        If they cannot start.
    """
    kinds = {"local": local_workers, "slurm": slurm_workers, "allocation": allocation_workers}
    return kinds[job.config.cluster.kind](job)
