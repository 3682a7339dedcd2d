"""Workers on the nodes of the driver's own job, one on each, started by srun."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from asyncio import sleep
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from math import inf
from pathlib import Path
from time import monotonic
from time import sleep as blocking_sleep
from typing import Any

import dask
from distributed import Scheduler
from distributed.deploy.spec import ProcessInterface, SpecCluster

from denoise5d.batch import driver_directives, log_folder
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
from denoise5d.errors import ClusterError
from denoise5d.ledger import run_folder
from denoise5d.machine import GIB
from denoise5d.prepare import Job
from denoise5d.slurm import hosts
from denoise5d.task import BLOCKS_IN_A_WORKER

_END_SECONDS = 10
_DEATH_SECONDS = 2
_POLL_SECONDS = 0.1

_MEMORY = re.compile(r"memory budget|memory limit|oom[-_ ]kill|out of memory|by signal 9", re.I)
_NODE = re.compile(r"node failure|node_fail|not responding|communication connection failure", re.I)
"""What dask's nanny, srun or SLURM's daemon print when they end a worker."""


@contextmanager
def allocation_workers(job: Job) -> Iterator[Workers]:
    """Start the scheduler here and a worker on each node of this job; end them at the end."""
    if "SLURM_JOB_NODELIST" not in os.environ:
        raise ClusterError(
            "cluster.kind: allocation runs inside a job of SLURM, and this is none: "
            "`denoise5d submit` makes one, or sbatch slurm/allocation.sbatch"
        )
    nodes = hosts()
    config, plan = job.config, job.plan
    if len(nodes) < plan.budget.workers:
        raise ClusterError(
            f"cluster.nodes is {plan.budget.workers}, and this job has {len(nodes)}; submit it "
            f"with --nodes={plan.budget.workers}, or change cluster.nodes"
        )
    logs = log_folder(config)
    logs.mkdir(parents=True, exist_ok=True)
    settings = remote_settings(config.cluster)
    with ExitStack() as stack:
        stack.enter_context(quiet())
        stack.enter_context(dask.config.set(settings))
        private = stack.enter_context(credentials(run_folder(config.output.path), settings))
        options = scheduler_options(config.cluster, private.security)
        with named_mistakes(config.cluster):
            cluster = stack.enter_context(
                _Steps(
                    nodes[: plan.budget.workers],
                    scheduler={"cls": Scheduler, "options": options},
                    worker={
                        "cls": _Step,
                        "options": {
                            "command": _command(job),
                            "settings": private.settings_file,
                            "logs": logs,
                        },
                    },
                    security=private.security,
                    silence_logs="CRITICAL",
                )
            )
        pool = _StepPool(cluster, _planned(job))
        yield stack.enter_context(kept_workers(pool, plan.budget))


def _command(job: Job) -> list[str]:
    """Return the command of a worker, but for the address and its name."""
    return [
        sys.executable, "-m", "distributed.cli.dask_worker", "--nanny",
        "--nthreads", str(BLOCKS_IN_A_WORKER),
        "--death-timeout", str(DEATH_TIMEOUT),
        *worker_arguments(job.config.cluster, job.plan),
    ]  # fmt: skip


class _Step(ProcessInterface):  # type: ignore[misc]
    """A worker as a step of this job.

    Attributes
    ----------
    process : subprocess.Popen
        Its srun.
    log : Path
        What it prints.
    """

    def __init__(
        self,
        scheduler: str,
        *,
        name: str,
        command: list[str],
        settings: Path,
        logs: Path,
        node: str,
    ) -> None:
        super().__init__()
        self.node = node
        self.log = logs / f"worker-{os.environ['SLURM_JOB_ID']}-{name}.log"
        self._arguments = [*_srun(node), *command, "--name", name, scheduler]
        self._environment = {**os.environ, "DASK_CONFIG": str(settings)}

    async def start(self) -> None:
        """Start it."""
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self._arguments,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a signal for the driver is none for srun
            )
        await super().start()

    async def close(self) -> None:
        """End it, and whatever is left of it; the scheduler, in the same thread, goes on."""
        self.process.terminate()
        deadline = monotonic() + _END_SECONDS
        while not self.ended and monotonic() < deadline:
            await sleep(_POLL_SECONDS)
        self.process.kill()
        await super().close()

    @property
    def ended(self) -> bool:
        """Whether its srun has ended."""
        return self.process.poll() is not None

    def lines(self) -> list[str]:
        """Return what it has printed so far."""
        with suppress(OSError):
            return self.log.read_text(errors="replace").splitlines()
        return []

    def unknown_death(self, *, quote: bool = False) -> Death:
        """Return the death of a worker whose log does not tell why."""
        told = quoted_end(self.lines()) if quote else ""
        return Death(f"it died on {self.node}; {self.log} may tell why{told}")


def _srun(node: str) -> list[str]:
    """Return the beginning of a step on one node, with all that the job has there, unbound."""
    cpus = os.environ.get("SLURM_CPUS_PER_TASK")  # srun does not look at it since 22.05
    return [
        "srun",
        f"--nodelist={node}",
        "--nodes=1",
        "--ntasks=1",
        *([f"--cpus-per-task={cpus}"] if cpus else []),
        "--mem=0",
        "--overlap",
        "--cpu-bind=none",
        "--kill-on-bad-exit=0",
        "--quiet",
    ]


class _Steps(SpecCluster):  # type: ignore[misc]
    """A scheduler in this process, and a step for each worker, each on a node of its own."""

    def __init__(self, nodes: list[str], **options: Any) -> None:
        self._numbers = count(1)
        self._nodes = nodes
        super().__init__(**options)

    def new_worker_spec(self) -> dict[str, Any]:
        """Return the name of the next worker, and how it is made: on the node that has fewest."""
        taken = [spec["options"]["node"] for spec in self.worker_spec.values()]
        node = min(self._nodes, key=taken.count)
        options = {**self.new_spec["options"], "node": node}
        return {f"w{next(self._numbers)}": {**self.new_spec, "options": options}}


class _StepPool(Pool):
    """The steps of the workers.

    Parameters
    ----------
    cluster : _Steps
        Starts and ends them.
    planned : str
        What memory was planned, and asked for, in words.
    """

    def __init__(self, cluster: _Steps, planned: str) -> None:
        self.cluster = cluster
        self._planned = planned
        self._steps: dict[str, _Step] = {}
        self._deaths: dict[str, _Noted] = {}

    def ended(self) -> dict[str, Death]:
        self._steps |= self.cluster.workers
        ended = [(n, s) for n, s in list(self.cluster.workers.items()) if s.ended]
        return {name: self._cause(step) or step.unknown_death(quote=True) for name, step in ended}

    def death(self, name: str) -> Death:
        step = self._steps.get(name)
        if step is None:
            return Death(f"worker {name} died")
        noted = self._deaths.get(name, _Noted(-inf, Death(""), 0))
        if monotonic() - noted.since > 2 * _DEATH_SECONDS:  # else of its other block, just now
            patience = monotonic() + _DEATH_SECONDS
            while (found := self._cause(step, noted.lines)) is None and monotonic() < patience:
                blocking_sleep(_POLL_SECONDS)  # what ended it may say so a moment later
            found = found or step.unknown_death()
            noted = self._deaths[name] = _Noted(monotonic(), found, len(step.lines()))
        return noted.death

    def _cause(self, step: _Step, since_line: int = 0) -> Death | None:
        lines = "\n".join(step.lines()[since_line:][-SEARCHED_LINES:])
        if _NODE.search(lines):
            return Death(f"the node {step.node} failed", innocent=True)
        if _MEMORY.search(lines):
            return Death(
                f"it took more memory on {step.node} than it has and was killed "
                f"({self._planned}); a higher blocks.memory_factor gives each block more"
            )
        return None


@dataclass(frozen=True, slots=True)
class _Noted:
    """A death that the log of a step told of, in its first so many lines."""

    since: float
    death: Death
    lines: int


def _planned(job: Job) -> str:
    """Say what memory was planned for a worker, and what its node asks for."""
    config, plan = job.config, job.plan
    asked = [line for line in driver_directives(config, plan) if line.startswith("--mem")]
    return (
        f"planned were {plan.bytes_per_worker / GIB:.2f} GiB for it, and the job asks for "
        f"{asked[-1] if asked else 'no memory'} a node"
    )
