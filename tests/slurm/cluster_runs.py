"""What the tests of runs on SLURM share: a driver outside of any job, and what becomes of its jobs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import yaml

from denoise5d.jobs import recorded_jobs
from denoise5d.ledger import run_folder
from mini_slurm import MiniSlurm
from runs import Driver, Project, structured

BLOCKS = 24

QUICK = {"keeper._LOOK_SECONDS": 0.5}
"""The keeper looks often enough for a test."""

_PROGRAM = """
import json, sys
from importlib import import_module
from denoise5d import cli
for name, value in json.loads(sys.argv.pop(1)).items():
    module, _, constant = name.rpartition(".")
    module = import_module("denoise5d.cluster." + module)
    getattr(module, constant)
    setattr(module, constant, value)
cli.main()
"""
"""The command line, with constants of the driver set to what a test has time for."""


def slow_image(project: Project) -> Project:
    """Store an image of blocks that take some tenths of a second each."""
    return project.image(structured((1, 1, 12, 128, 192), "uint16"), chunks=(1, 1, 12, 32, 32))


def write(project: Project, *, blocks: dict[str, Any] | None = None, **cluster: Any) -> Project:
    """Write the YAML of a run of two jobs, whatever else is under `cluster`."""
    project.write(
        output={"chunks": [1, 1, 12, 16, 16], "shards": None},
        denoise={"iterations": 3},
        blocks={"shape": [1, 1, 12, 32, 32]} | (blocks or {}),
    )
    document = yaml.safe_load(project.yaml.read_text())
    document["cluster"] = {
        "kind": "slurm", "jobs": 2, "cpus": 1, "memory": 3,
        "walltime": "00:10:00", "interface": "lo",
    } | cluster  # fmt: skip
    project.yaml.write_text(yaml.safe_dump(document))
    return project


class JobDriver(Driver):
    """A driver whose workers are jobs.

    Attributes
    ----------
    slurm : MiniSlurm
        Where it submits them.
    """

    def __init__(self, slurm: MiniSlurm, project: Project, **constants: float) -> None:
        self.slurm = slurm
        names = {"keeper." + name: value for name, value in constants.items()}
        self.program = ("-c", _PROGRAM, json.dumps(QUICK | names))
        super().__init__(project, env=slurm.env)

    def recorded(self) -> list[int]:
        """Return the worker jobs that were ever submitted."""
        return [int(job.job) for job in recorded_jobs(self.project.output)]

    def running(self) -> list[int]:
        """Return the jobs that run."""
        return [job.id for job in self.slurm.queue() if job.state == "RUNNING"]

    def arrived(self) -> list[int]:
        """Return the jobs whose workers have told that they are there."""
        return [job for job in self.recorded() if f", job {job}, " in self.log()]

    def wait_for_workers(self, count: int) -> list[int]:
        """Wait until so many workers have arrived; return their jobs."""
        self.wait_for(lambda: len(self.arrived()) >= count)
        return self.arrived()

    def processes(self, job: int) -> list[psutil.Process]:
        """Return the Python processes of a job: a nanny and its worker."""
        found = []
        for pid in self.slurm.processes(job):
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                if process.name().startswith("python"):
                    found.append(process)
        return found

    def worker_log(self, job: int) -> str:
        return (run_folder(self.project.output) / "logs" / f"worker-{job}.log").read_text()

    def private_folders(self) -> list[Path]:
        """Return the folders with the certificates of this run, and of any before it."""
        return list(run_folder(self.project.output).glob("run-*"))

    def wait_for_no_jobs(self) -> None:
        self.slurm.wait(lambda: not self.slurm.queue(), what="an empty queue")


@contextmanager
def job_driver(slurm: MiniSlurm, project: Project, **constants: float) -> Iterator[JobDriver]:
    """Start a driver, with other constants of its keeper; it does not outlive the test."""
    started = JobDriver(slurm, project, **constants)
    try:
        yield started
    finally:
        started.close()


def run(slurm: MiniSlurm, project: Project, **constants: float) -> tuple[int, str]:
    """Run to the end; return exit code and log."""
    with job_driver(slurm, project, **constants) as started:
        return started.finish(), started.log()
