"""Runs as batch jobs of the tests' SLURM: submitted, watched, disturbed."""

from __future__ import annotations

import shlex
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from denoise5d.jobs import recorded_jobs
from denoise5d.ledger import run_folder
from mini_slurm import MiniSlurm
from runs import PATIENCE_SECONDS, Project, structured

BLOCKS = 24


@dataclass(frozen=True, slots=True)
class BatchRun:
    """A project whose YAML asks for jobs, and the SLURM that they run on."""

    slurm: MiniSlurm
    project: Project

    def write(
        self, *, blocks: dict[str, Any] | None = None, prologue: str = "", **cluster: Any
    ) -> BatchRun:
        """Make the image and the YAML; `prologue` comes after what lets `pace` work."""
        if not self.project.input.exists():
            data = structured((1, 1, 12, 128, 192), "uint16")
            self.project.image(data, chunks=(1, 1, 12, 32, 32))
            self.pace(0)
            (self._site / "sitecustomize.py").write_text(SITE)
        count = {"slurm": "jobs", "allocation": "nodes"}[cluster["kind"]]
        usual = {"workers": None, "cpus": 1, "walltime": "00:10:00", count: 1}
        setup = f"export PYTHONPATH={shlex.quote(str(self._site))}\n{prologue}"
        self.project.write(
            output={"chunks": [1, 1, 12, 16, 16], "shards": None},
            blocks={"shape": [1, 1, 12, 32, 32]} | (blocks or {}),
            cluster=usual | {"prologue": setup} | cluster,
        )
        return self

    @property
    def _site(self) -> Path:
        return self.project.folder / "site"

    def pace(self, seconds: float) -> BatchRun:
        """Let each block take so long from now on."""
        self._site.mkdir(exist_ok=True)
        partial = self._site / "seconds.new"
        partial.write_text(str(seconds))
        partial.replace(self._site / "seconds")
        return self

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run ``denoise5d COMMAND run.yaml ...`` where jobs are submitted."""
        command, *options = words
        return subprocess.run(
            [sys.executable, "-m", "denoise5d", command, str(self.project.yaml), *options],
            env=self.slurm.env, cwd=self.slurm.work, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False,
        )  # fmt: skip

    def submit(self, *options: str) -> int:
        """Submit; return the number of the job."""
        done = self.command("submit", *options)
        assert done.returncode == 0, done.stderr
        return int(done.stdout.split("job ")[1].split(";")[0])

    def log(self, job: int) -> str:
        """Return what a driver's job has printed so far."""
        file = run_folder(self.project.output) / f"logs/driver-{job}.log"
        return file.read_text() if file.exists() else ""

    def logs(self) -> str:
        folder = run_folder(self.project.output) / "logs"
        return "\n".join(f"--- {f.name}\n{f.read_text()}" for f in sorted(folder.glob("*")))

    def jobs(self, *roles: str) -> list[int]:
        """Return the recorded jobs, those of some roles."""
        records = recorded_jobs(self.project.output)
        return [int(r.job) for r in records if not roles or r.role in roles]

    def ends(self, job: int, state: str = "COMPLETED", code: int = 0) -> str:
        """Wait for the end of a job, check how it ended, and that nothing is left of it."""
        ended = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")
        self.slurm.wait_for_state(job, *ended, seconds=PATIENCE_SECONDS)
        found = self.slurm.job(job)
        assert (found["JobState"], found["ExitCode"].split(":")[0]) == (state, str(code)), (
            self.logs()
        )
        self.slurm.wait(lambda: not self.slurm.processes(job), what="no process of the job")
        return self.log(job)

    def wait_for_blocks(self, more: int) -> None:
        """Wait for so many blocks more than there are now."""
        wanted = max(1, len(self.project.lines())) + more
        self.slurm.wait(
            lambda: len(self.project.lines()) >= wanted, PATIENCE_SECONDS, f"{more} blocks"
        )

    def processes(self, job: int) -> list[psutil.Process]:
        """Return the processes of a job."""
        return [p for p in map(_process, self.slurm.processes(job)) if p is not None]

    def workers(self, job: int, node: str | None = None) -> list[psutil.Process]:
        """Return the processes that do blocks, dask's nannies not among them."""
        found = []
        for process in self.processes(job):
            with suppress(psutil.Error):
                there = process.environ().get("SLURMD_NODENAME")
                if "spawn_main" in " ".join(process.cmdline()) and node in (None, there):
                    found.append(process)
        return found

    def wait_for_kernel(self) -> None:
        """Wait until a block has ever been begun."""
        self.slurm.wait((self._site / "begun").exists, PATIENCE_SECONDS, "a block in work")

    def check(self) -> None:
        """Check that every block is done once and right, and no secret is left behind."""
        self.project.check()
        assert not list(run_folder(self.project.output).glob("run-*"))


def _process(pid: int) -> psutil.Process | None:
    with suppress(psutil.Error):
        return psutil.Process(pid)
    return None


SITE = """
import importlib.util, os, sys, time
from pathlib import Path

class Paced:
    def find_spec(self, name, path=None, target=None):
        if name != "denoise5d.kernel":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            original = module.denoise_block

            def paced(*arguments, **options):
                Path(__file__).with_name("begun").touch()
                kept = b"x" * int(os.environ.get("BLOCK_BYTES", 0))
                time.sleep(float(Path(__file__).with_name("seconds").read_text()))
                return original(*arguments, **options)

            module.denoise_block = paced

        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Paced())
if "BREAK_WORKERS" in os.environ and "dask_worker" in " ".join(sys.orig_argv):
    sys.exit("this Python is broken")
"""
"""What Python does first in the jobs: blocks take the seconds that a file says."""


def wrapper(folder: Path) -> Path:
    """Make a folder with the command ``denoise5d``, as a virtual environment has it."""
    folder.mkdir()
    command = folder / "denoise5d"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m denoise5d "$@"\n')
    command.chmod(0o755)
    return folder
