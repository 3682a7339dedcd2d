"""What the tests of runs on SLURM share: a driver outside of any job, and its jobs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import yaml

from denoise5d.jobs import recorded_jobs
from denoise5d.ledger import run_folder
from mini_slurm import MiniSlurm
from runs import Driver, Project, structured

QUICK = {"_LOOK_SECONDS": 0.3, "_PAUSE_SECONDS": 0.2}
"""The keeper looks often enough for a test, and starts new workers soon."""

PACE = 0.1

_PROGRAM = """
import json, os, subprocess, sys, time
from contextlib import contextmanager
from pathlib import Path
from distributed import WorkerPlugin
from denoise5d import cli, cluster, execute, task
from denoise5d.cluster import keeper

class Pace(WorkerPlugin):
    def __init__(self, hold, seconds):
        self.hold, self.seconds = hold, seconds

    def setup(self, worker):
        self.original = task.denoise_block
        def paced(*arguments, core, **options):
            number = core.start[3] // 32 * 6 + core.start[4] // 32
            self.hold.with_name(f"kernel-{os.environ['SLURM_JOB_ID']}-{number}").touch()
            time.sleep(self.seconds)
            if self.hold.with_name(f"hold-hog-{number}").exists():
                kept = b'x' * (500 * 2**20)
                time.sleep(100)
            if self.hold.with_name(f"hold-beside-{number}").exists():
                hog = "import time; kept = b'x' * (1200 * 2**20); time.sleep(100)"
                subprocess.run([sys.executable, "-c", hog])
            while self.hold.with_name(f"{self.hold.name}-{number}").exists() or self.hold.exists():
                time.sleep(0.02)
            return self.original(*arguments, core=core, **options)
        task.denoise_block = paced

    def teardown(self, worker):
        task.denoise_block = self.original

@contextmanager
def start_workers(job):
    with cluster.start_workers(job) as workers:
        workers.client.register_plugin(Pace(Path(hold), pace))
        yield workers

constants, hold, pace = json.loads(sys.argv.pop(1))
for name, value in constants.items():
    getattr(keeper, name)
    setattr(keeper, name, value)
execute.start_workers = start_workers
cli.main()
"""
"""The command line, with constants of the keeper set to what a test has time for. Kernels take some
time, and wait as long as there is a file `hold`, or the one of their block."""


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

    def __init__(
        self,
        slurm: MiniSlurm,
        project: Project,
        *,
        env: Mapping[str, str] | None = None,
        pace: float = PACE,
        **constants: float,
    ) -> None:
        self.slurm = slurm
        settings = [QUICK | constants, str(project.folder / "hold"), pace]
        self.program = ("-c", _PROGRAM, json.dumps(settings))
        super().__init__(project, env={**slurm.env, **(env or {})})

    def hold(self, block: int | None = None) -> None:
        """Let kernels wait, all of them or that of one block, until `let_go`."""
        (self.project.folder / ("hold" if block is None else f"hold-{block}")).touch()

    def hog(self, block: int, *, beside: bool = False) -> None:
        """Let a block, or a process beside it, take more memory than it may, until `let_go`."""
        (self.project.folder / f"hold-{'beside' if beside else 'hog'}-{block}").touch()

    def let_go(self) -> None:
        for file in self.project.folder.glob("hold*"):
            file.unlink()

    def kernels(self, job: int) -> list[int]:
        """Return the blocks that have ever entered the kernel of a job's worker."""
        files = self.project.folder.glob(f"kernel-{job}-*")
        return [int(file.name.rpartition("-")[2]) for file in files]

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

    def scheduler(self) -> str:
        """Return the address that the workers are told."""
        for process in self.processes(self.recorded()[0]):
            for word in process.cmdline():
                if word.startswith("tls://"):
                    return word
        raise AssertionError("no worker knows the address")

    def worker_log(self, job: int) -> str:
        return (run_folder(self.project.output) / "logs" / f"worker-{job}.log").read_text()

    def private_folders(self) -> list[Path]:
        """Return the folders with the certificates of this run, and of any before it."""
        return list(run_folder(self.project.output).glob("run-*"))

    def wait_for_no_jobs(self) -> None:
        self.slurm.wait(lambda: not self.slurm.queue(), what="an empty queue")


@contextmanager
def job_driver(slurm: MiniSlurm, project: Project, **options: Any) -> Iterator[JobDriver]:
    """Start a driver; it does not outlive the test."""
    started = JobDriver(slurm, project, **options)
    try:
        yield started
    finally:
        started.close()


def run(slurm: MiniSlurm, project: Project, **options: Any) -> tuple[int, str]:
    """Run to the end; return exit code and log."""
    with job_driver(slurm, project, **options) as started:
        return started.finish(), started.log()
