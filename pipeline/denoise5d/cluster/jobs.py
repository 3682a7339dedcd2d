"""Workers that are jobs of their own, submitted by the driver through dask-jobqueue."""

from __future__ import annotations

import re
import shlex
import signal
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from math import inf
from pathlib import Path
from threading import current_thread, main_thread
from time import monotonic
from typing import TYPE_CHECKING, Any

import dask

from denoise5d.batch import JOB_NAME, log_folder, python, setup_lines, worker_directives, worker_gib
from denoise5d.cluster.keeper import Pool, kept_workers
from denoise5d.cluster.scheduler import (
    DEATH_TIMEOUT,
    named_mistakes,
    quiet,
    remote_settings,
    scheduler_options,
    worker_arguments,
)
from denoise5d.cluster.settings import credentials
from denoise5d.cluster.workers import SEARCHED_LINES, Death, Workers, quoted_end
from denoise5d.config import Config
from denoise5d.errors import ClusterError
from denoise5d.jobs import record_job
from denoise5d.ledger import run_folder
from denoise5d.machine import GIB
from denoise5d.plan import Plan
from denoise5d.prepare import Job
from denoise5d.slurm import Silent, ending, is_here, queue, wait_for_ending
from denoise5d.slurm_words import Ending, QueuedJob, is_temporary, never_starts
from denoise5d.task import BLOCKS_IN_A_WORKER

if TYPE_CHECKING:
    from types import ModuleType

    from denoise5d.cluster.jobqueue import WorkerJob

_DEATH_SECONDS = 5
"""So long SLURM may need to say why a worker that is missed has died."""

_LEFT = "Reason: its job ends"

_MEMORY = (r"memory budget|killed by signal 9", "it took more memory than it has and was killed")

_CAUSES = (
    _MEMORY,
    (
        r"Timed out starting worker|[Tt]imed out .*connect",
        "it did not reach the driver; look at cluster.interface, and at cluster.scheduler_port and "
        "cluster.worker_ports where there is a firewall",
    ),
    (
        r"No module named",
        "its Python lacks something; look at cluster.python, cluster.modules and cluster.prologue",
    ),
)
"""What the log of a worker says, and what that means."""

_BEFORE_PYTHON = (
    "look at cluster.python, cluster.modules and cluster.prologue, and at cluster.local_folder"
)

_NO_DEFAULTS = {
    f"jobqueue.{JOB_NAME}": dict.fromkeys(
        (
            "account", "env-extra", "extra", "interface", "job-extra", "local-directory",
            "log-directory", "queue", "shared-temp-directory", "walltime",
        )
    )
}  # fmt: skip
"""What a file of the user's says for other programs must not reach our jobs."""


@contextmanager
def slurm_workers(job: Job) -> Iterator[Workers]:
    """Start the scheduler, submit a job for each worker, cancel them at the end."""
    if not is_here():
        raise ClusterError(
            "cluster.kind: slurm needs a machine that can submit jobs, and there is no sbatch "
            "here; run this on the cluster, or choose cluster.kind: local"
        )
    config, plan = job.config, job.plan
    output = config.output.path
    log_folder(config).mkdir(parents=True, exist_ok=True)
    library = _library()
    settings = remote_settings(config.cluster)
    with ExitStack() as stack:
        stack.enter_context(quiet())
        stack.enter_context(dask.config.set({**settings, **_NO_DEFAULTS}))
        private = stack.enter_context(credentials(run_folder(output), settings))
        security = library.WorkerSecurity(**_plain(private.security), require_encryption=True)
        with named_mistakes(config.cluster):
            cluster = stack.enter_context(
                library.JobCluster(
                    security=security,
                    scheduler_options=scheduler_options(config.cluster, security),
                    submitted=partial(record_job, output, role="worker"),
                    silence_logs="CRITICAL",
                    **job_options(config, plan, private.settings_file),
                )
            )
        yield stack.enter_context(kept_workers(_Jobs(cluster, config, plan), plan.budget))


def worker_script(config: Config, plan: Plan) -> str:
    """Return the batch script of a worker, as dask-jobqueue writes it."""
    options = job_options(config, plan, Path("SETTINGS_OF_THE_RUN"))
    with dask.config.set(_NO_DEFAULTS):
        job = _library().WorkerJob("tls://DRIVER", "NAME", submitted=lambda _: None, **options)
    script: str = job.job_script()
    return script


def job_options(config: Config, plan: Plan, settings: Path) -> dict[str, Any]:
    """Return what dask-jobqueue is told of a job: everything, so that no file adds to it."""
    batch = config.cluster.batch
    assert batch is not None
    return {
        "config_name": JOB_NAME,
        "job_name": f"{JOB_NAME}-worker",
        "cores": BLOCKS_IN_A_WORKER,
        "processes": 1,
        "memory": f"{plan.bytes_per_worker} B",
        "job_cpu": plan.budget.threads,
        "job_mem": f"{worker_gib(plan)}G",
        "job_directives_skip": ["#SBATCH"],  # ours say it all, and can be removed one by one
        "job_extra_directives": worker_directives(config, plan),
        "job_script_prologue": [
            *setup_lines(batch),
            f"export DASK_CONFIG={shlex.quote(str(settings))}",
        ],
        "python": python(batch),
        "worker_command": "distributed.cli.dask_worker",
        "worker_extra_args": [shlex.quote(word) for word in worker_arguments(config.cluster, plan)],
        "death_timeout": DEATH_TIMEOUT,
        "shebang": "#!/bin/bash",
    }


class _Jobs(Pool):
    """The jobs of the workers."""

    def __init__(self, cluster: Any, config: Config, plan: Plan) -> None:
        self.cluster = cluster
        self._config, self._plan = config, plan
        self._numbers: dict[str, str] = {}
        self._queue: dict[str, QueuedJob] = {}
        self._deaths: dict[str, tuple[float, Death]] = {}

    def ended(self) -> dict[str, Death]:
        jobs: dict[str, WorkerJob] = dict(self.cluster.workers)
        for name, job in jobs.items():
            if job.job_id:
                self._numbers[str(name)] = job.job_id
        self._queue = queue()
        some = any(job.job_id in self._queue for job in jobs.values())
        ended = {}
        for name, job in jobs.items():
            if job.refusal:
                # No mistake of the YAML if others were taken: most likely a limit of jobs.
                ended[str(name)] = Death(job.refusal, some or is_temporary(job.refusal))
            elif job.job_id and job.job_id not in self._queue:
                ended[str(name)] = self._death(job.job_id, ending(job.job_id))
        return ended

    def waiting(self) -> dict[str, str]:
        return {
            name: self._queue[number].reason
            for name, number in self._numbers.items()
            if name in self.cluster.workers
            and number in self._queue
            and self._queue[number].state == "PENDING"
        }

    def never(self) -> str | None:
        mine = (self._queue[n] for n in self._numbers.values() if n in self._queue)
        return next((words for words in map(never_starts, mine) if words), None)

    def death(self, name: str) -> Death:
        number = self._numbers.get(name)
        if number is None:
            return Death(f"worker {name} died")
        since, death = self._deaths.get(name, (-inf, Death("")))
        if monotonic() - since > 2 * _DEATH_SECONDS:  # else of its other block, a moment ago
            how = wait_for_ending(number, _DEATH_SECONDS)
            requeued = self._requeued(number) if how is None else None
            death = requeued or self._death(number, how)
            self._deaths[name] = monotonic(), death
        return death

    def _requeued(self, number: str) -> Death | None:
        with suppress(Silent, KeyError):
            if queue()[number].state == "PENDING":
                words = f"job {number}: SLURM has taken it off its node, and lets it wait again"
                return Death(words, innocent=True)
        return None

    def _death(self, number: str, how: Ending | None) -> Death:
        if how is not None and how.innocent:
            return Death(f"job {number}: {how}", innocent=True)
        lines = self._last_lines(number)
        if any(_LEFT in line for line in lines):
            return Death(f"job {number}: no more block would have ended within cluster.walltime")
        words = str(how or "its worker died or does not answer, and the job goes on")
        if how is not None and how.out_of_memory:
            return Death(f"job {number}: {words}{self._asked()}")
        cause = next((c for c in _CAUSES if any(re.search(c[0], line) for line in lines)), None)
        if cause is not None:
            words += f": {cause[1]}"
        elif how is not None and how.state == "FAILED":
            words += f"; {_BEFORE_PYTHON}"
        if cause is _MEMORY:
            words += f"; a higher blocks.memory_factor gives each block more{self._asked()}"
        return Death(f"job {number}: {words}{quoted_end(lines)}")

    def _asked(self) -> str:
        asked = next((o for o in self._directives() if o.startswith("--mem")), "no memory")
        return (
            f" (its job asked for {asked}; planned were "
            f"{self._plan.bytes_per_worker / GIB:.2f} GiB for the worker, and --mem="
            f"{worker_gib(self._plan)}G for its job)"
        )

    def _directives(self) -> Iterable[str]:
        return reversed(worker_directives(self._config, self._plan))  # sbatch takes the last one

    def _last_lines(self, number: str) -> list[str]:
        path = log_folder(self._config) / f"worker-{number}.log"
        with suppress(OSError):
            lines = path.read_text(errors="replace").splitlines()
            return [line.strip() for line in lines if line.strip()][-SEARCHED_LINES:]
        return []


def _plain(security: Any) -> dict[str, Any]:
    """Return the certificates as arguments of another Security."""
    roles = ("scheduler", "worker", "client")
    names = ["tls_ca_file", *(f"tls_{role}_{part}" for role in roles for part in ("cert", "key"))]
    return {name: getattr(security, name) for name in names}


def _library() -> ModuleType:
    """Import dask-jobqueue, which takes Ctrl-C for itself: give it back."""
    main = current_thread() is main_thread()
    before = signal.getsignal(signal.SIGINT)
    from denoise5d.cluster import jobqueue

    if main:
        signal.signal(signal.SIGINT, before)
    return jobqueue
