"""Workers on the nodes of the driver's own job, one on each, started by srun."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import dask
from distributed import Client, Scheduler
from distributed.deploy.spec import ProcessInterface, SpecCluster

from denoise5d.batch import log_folder
from denoise5d.cluster.keeper import Keeper, KeptWorkers, Pool
from denoise5d.cluster.scheduler import named_mistakes, remote_settings, scheduler_options
from denoise5d.cluster.settings import credentials
from denoise5d.cluster.workers import Death, Workers
from denoise5d.errors import ClusterError
from denoise5d.ledger import run_folder
from denoise5d.prepare import Job
from denoise5d.slurm import hosts
from denoise5d.task import BLOCKS_IN_A_WORKER

_END_SECONDS = 10
_LOG_LINES = 5


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
        client = stack.enter_context(Client(cluster, set_as_default=False))
        keeper = Keeper(_StepPool(cluster), plan.budget.workers)
        keeper.start()
        stack.callback(keeper.stop)
        yield KeptWorkers(client, plan.budget.threads, keeper)


def _command(job: Job) -> list[str]:
    """Return the command of a worker, but for the address and its name."""
    batch, plan = job.config.cluster.batch, job.plan
    assert batch is not None
    command = [
        sys.executable, "-m", "distributed.cli.dask_worker",
        "--nthreads", str(BLOCKS_IN_A_WORKER),
        "--memory-limit", str(plan.bytes_per_worker),
        "--nanny", "--no-dashboard", "--dashboard-address", "127.0.0.1:0", "--death-timeout", "60",
    ]  # fmt: skip
    if batch.worker_ports is not None:
        ports = f"{batch.worker_ports[0]}:{batch.worker_ports[1]}"
        command += ["--worker-port", ports, "--nanny-port", ports]
    if batch.interface is not None:
        command += ["--interface", batch.interface]
    if batch.local_folder is not None:
        command += ["--local-directory", batch.local_folder]
    return command


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
        """End it, and whatever is left of it."""
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=_END_SECONDS)
        self.process.kill()
        await super().close()


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
    """The steps of the workers."""

    def __init__(self, cluster: _Steps) -> None:
        self.cluster = cluster
        self._steps: dict[str, _Step] = {}

    def ended(self) -> dict[str, Death]:
        self._steps |= self.cluster.workers
        return {
            name: self.death(name)
            for name, step in list(self.cluster.workers.items())
            if step.process.poll() is not None
        }

    def death(self, name: str) -> Death:
        step = self._steps.get(name)
        if step is None:
            return Death(f"worker {name} died")
        with suppress(OSError):
            lines = step.log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
        told = "".join(f"\n    | {line}" for line in lines)
        lost = any("Node failure" in line or "NODE FAILURE" in line for line in lines)
        if lost:
            return Death(f"its node {step.node} failed{told}", innocent=True)
        return Death(
            f"worker {name} on {step.node} died, most likely killed for its memory; a higher "
            f"blocks.memory_factor gives each block more{told}"
        )
