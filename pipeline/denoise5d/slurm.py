"""SLURM, through its commands: the jobs of this user, how they ended and why, what nodes have.

A controller that does not answer makes its commands fail after a while. That says nothing of the
jobs, which go on: `Silent` is raised, and whoever asked asks again later.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from denoise5d.errors import ClusterError
from denoise5d.machine import Machine
from denoise5d.slurm_words import ENDED, Ending, QueuedJob, refusal_words

_SECONDS = 60
"""So long a command may take; a controller that is down lets them wait for some 20 s."""

_WHERE = ("SLURM_CONF", "SLURM_CLUSTERS")
"""What tells commands which SLURM is meant."""


class Silent(Exception):  # noqa: N818  it is no error of anybody
    """SLURM did not answer."""


def is_here() -> bool:
    """Tell whether this machine can submit jobs."""
    return shutil.which("sbatch") is not None


def submit(script: Path, arguments: Iterable[str] = (), *, after: str | None = None) -> str:
    """Submit a batch script; return the number of its job.

    Parameters
    ----------
    script : Path
        The script.
    arguments : iterable of str
        Its arguments.
    after : str, optional
        A job that has to end first, whichever way.

    Raises
    ------
    ClusterError
        If SLURM refuses it.
    """
    options = ["--parsable", *([f"--dependency=afterany:{after}"] if after else [])]
    try:
        out = _ask("sbatch", *options, str(script), *arguments)
    except Silent as error:
        raise ClusterError(refusal_words(str(error))) from error
    return out.strip().split(";")[0]


def queue() -> dict[str, QueuedJob]:
    """Return the jobs of this user that have not ended, by their number.

    Raises
    ------
    Silent
        If SLURM does not answer.
    """
    form = "%A|%T|%r|%N|%j"
    jobs = {}
    mine = f"--user={os.getuid()}"
    # Some sites hide partitions, and the jobs in them, from whoever does not ask for all.
    for line in _ask("squeue", "--all", mine, "--noheader", f"--format={form}").splitlines():
        if line.count("|") >= 4:
            number, state, reason, nodes, name = line.strip().split("|", 4)
            jobs[number] = QueuedJob(number, name, state, reason, nodes)
    return jobs


def ending(job: str) -> Ending | None:
    """Return how a job ended; None while it has not, or if SLURM does not know it any more.

    Raises
    ------
    Silent
        If SLURM does not answer.
    """
    try:
        facts = _shown(job)
        state, reason = facts["JobState"], facts.get("Reason", "None")
        code, nodes = facts.get("ExitCode", "0:0"), facts.get("NodeList", "")
    except Silent as silent:
        if "Invalid job id" not in str(silent):
            raise
        columns = _accounted(job)
        if columns.count("|") < 3:
            return None
        state, reason, code, nodes = columns.splitlines()[0].split("|")[:4]
    state = state.split()[0]
    if state not in ENDED:
        return None
    exit_code, _, number = code.partition(":")
    known = nodes if nodes not in ("(null)", "None assigned") else ""
    return Ending(state, reason, int(exit_code), int(number or 0), known)


def _shown(job: str) -> dict[str, str]:
    """Return what the controller tells of a job."""
    fields = re.findall(r"(\w+)=(\S*)", _ask("scontrol", "show", "job", "--oneliner", job))
    return dict(reversed(fields))  # the first of a name: paths come last, and may hold anything


def _accounted(job: str) -> str:
    """Return what the accounting keeps of a job; nothing where there is none."""
    try:
        return _ask("sacct", "-X", "-n", "-P", "-j", job, "-o", "State,Reason,ExitCode,NodeList")
    except Silent:
        return ""


def cancel(jobs: Iterable[str]) -> None:
    """Cancel jobs; those that have ended already are none to cancel.

    Raises
    ------
    Silent
        If SLURM does not answer.
    """
    for job in jobs:
        try:
            _ask("scancel", job)
        except Silent as silent:
            if "Invalid job id" not in str(silent):
                raise


def job_end() -> float | None:
    """Return when the job that this process is in ends, in seconds since 1970; None outside."""
    if told := os.environ.get("SLURM_JOB_END_TIME"):
        return float(told)
    job = os.environ.get("SLURM_JOB_ID")
    if job is None or shutil.which("scontrol") is None:
        return None
    try:
        return datetime.fromisoformat(_shown(job)["EndTime"]).timestamp()
    except (Silent, KeyError, ValueError):  # "Unknown": no limit
        return None


def hosts() -> list[str]:
    """Return the nodes of the job that this process is in."""
    return _ask("scontrol", "show", "hostnames", os.environ["SLURM_JOB_NODELIST"]).split()


def smallest_node(partition: str | None) -> Machine | None:
    """Return what the smallest node of a partition has; None if SLURM does not say."""
    chosen = [f"--partition={partition}"] if partition else []
    if shutil.which("sinfo") is None:
        return None
    try:
        lines = _ask("sinfo", "--noheader", "--Node", "--format=%P|%c|%m", *chosen).splitlines()
    except Silent:
        return None
    rows = [line.strip().split("|") for line in lines]
    rows = [row for row in rows if partition or row[0].endswith("*")]
    numbers = [[int(re.sub(r"\D", "", n)) for n in row[1:]] for row in rows if len(row) == 3]
    if not numbers:
        return None
    return Machine(cpus=min(n[0] for n in numbers), memory_bytes=min(n[1] for n in numbers) << 20)


def wait_for_ending(job: str, seconds: float) -> Ending | None:
    """Return how a job ended, waiting a little: a worker is missed before SLURM says why."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            found = ending(job)
        except Silent:
            return None
        if found or time.monotonic() > deadline:
            return found
        time.sleep(0.5)


def _ask(*command: str) -> str:
    """Run a command of SLURM; raise Silent with what it says if it fails."""
    # A user's own taste for these commands may hide jobs, or write times in another way. And what
    # SLURM told the job that this process is in, one that is submitted here would inherit.
    environment = {
        name: value
        for name, value in os.environ.items()
        if name in _WHERE or not name.startswith(("SQUEUE_", "SLURM"))
    }
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_SECONDS, check=False,
            stdin=subprocess.DEVNULL, env=environment,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Silent(str(error)) from error
    if done.returncode:
        raise Silent(done.stderr.strip() or f"{command[0]} ended with {done.returncode}")
    return done.stdout
