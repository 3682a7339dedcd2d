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
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from denoise5d.errors import ClusterError
from denoise5d.machine import Machine

_SECONDS = 60
"""So long a command may take; a controller that is down lets them wait for some 20 s."""

_ENDED = (
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "REVOKED",
    "TIMEOUT",
)

_NOBODYS_FAULT = ("BOOT_FAIL", "CANCELLED", "NODE_FAIL", "PREEMPTED", "REVOKED")
"""Not TIMEOUT: no block is begun that is known not to end in time, so this one took longer."""

_NEVER = {
    "AccountNotAllowed": "account",
    "AssocMaxCpuPerJobLimit": "cpus",
    "AssocMaxMemPerJob": "memory",
    "AssocMaxNodePerJobLimit": "nodes",
    "AssocMaxWallDurationPerJobLimit": "walltime",
    "BadConstraints": "constraint",
    "InvalidAccount": "account",
    "InvalidQOS": "qos",
    "JobHeldAdmin": "",
    "JobHeldUser": "",
    "MaxMemPerLimit": "memory",
    "NodeDown": "partition",
    "PartitionDown": "partition",
    "PartitionInactive": "partition",
    "PartitionNodeLimit": "nodes",
    "PartitionTimeLimit": "walltime",
    "QOSMaxCpuPerJobLimit": "cpus",
    "QOSMaxMemoryPerJob": "memory",
    "QOSMaxNodePerJobLimit": "nodes",
    "QOSMaxWallDurationPerJobLimit": "walltime",
    "QOSNotAllowed": "qos",
    "ReservationDeleted": "reservation",
    "ReservationInvalid": "reservation",
    "launch_failed_requeued_held": "prologue",
}
"""Reasons for which a pending job will never start as it is, with the key to change."""

_REFUSALS = (
    (r"submit limit", "jobs, cluster.walltime or cluster.qos"),
    (r"invalid account", "account"),
    (r"mem-per-cpu|memory by node", "memory_request"),
    (r"partition", "partition"),
    (r"account", "account"),
    (r"qos", "qos"),
    (r"reservation", "reservation"),
    (r"memory", "memory"),
    (r"time ?limit|wall", "walltime"),
    (r"feature|constraint", "constraint"),
    (r"node count|node config", "cpus, cluster.memory or cluster.nodes"),
    (r"cpu", "cpus"),
    (r"option|unrecognized", "extra_directives"),
)
"""What sbatch says when it refuses, with the key that is meant."""

_UNREACHABLE = re.compile(r"contact slurm|timed out|temporarily|connection|not respond", re.I)
"""What sbatch says when it has not been refused."""


_WHERE = ("SLURM_CONF", "SLURM_CLUSTERS")
"""What tells commands which SLURM is meant."""


class Silent(Exception):  # noqa: N818  it is no error of anybody
    """SLURM did not answer."""


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """A job that has not ended.

    Attributes
    ----------
    id, name : str
        Of the job.
    state : str
        ``"PENDING"``, ``"RUNNING"``, ``"COMPLETING"``, ...
    reason : str
        Why it is pending.
    nodes : str
        Where it runs.
    """

    id: str
    name: str
    state: str
    reason: str
    nodes: str


@dataclass(frozen=True, slots=True)
class Ending:
    """How a job ended.

    Attributes
    ----------
    state : str
        ``"COMPLETED"``, ``"FAILED"``, ``"TIMEOUT"``, ...
    reason : str
        In SLURM's word; ``"None"`` for most.
    exit_code, signal : int
        Of the batch script.
    nodes : str
        Where it ran.
    """

    state: str
    reason: str
    exit_code: int
    signal: int
    nodes: str

    @property
    def innocent(self) -> bool:
        """Whether it ended from outside: the same job, run again, may well succeed."""
        return self.state in _NOBODYS_FAULT

    @property
    def out_of_memory(self) -> bool:
        """Whether it was killed for its memory; without control groups SLURM does not say so."""
        killed = (self.reason, self.signal) == ("JobLaunchFailure", 9)
        return self.state == "OUT_OF_MEMORY" or (self.state == "FAILED" and killed)

    def __str__(self) -> str:
        """Say it in words, with the key to change."""
        where = f" on {self.nodes}" if self.nodes else ""
        if self.out_of_memory:
            return (
                f"SLURM killed it for its memory{where} ({self.state}); a higher "
                f"blocks.memory_factor gives each block more"
            )
        words = {
            "TIMEOUT": "it reached the end of cluster.walltime",
            "NODE_FAIL": f"its node failed{where}",
            "PREEMPTED": f"a job of higher priority took its node{where}",
            "CANCELLED": "it was cancelled",
            "COMPLETED": "it ended by itself",
            "BOOT_FAIL": f"its node did not start{where}",
            "DEADLINE": "it could not end before its deadline",
            "REVOKED": "another cluster took it",
            "FAILED": f"its script failed{where} with exit code {self.exit_code}"
            + (f", signal {self.signal}" if self.signal else ""),
        }  # fmt: skip
        return f"{words.get(self.state, self.state)} ({self.state})"


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


def refusal_words(message: str) -> str:
    """Say what sbatch refused, with the key to change."""
    lines = [line.strip() for line in message.splitlines() if "error" in line.lower()]
    text = lines[-1] if lines else message.strip()
    keys = [key for pattern, key in _REFUSALS if re.search(pattern, text, re.IGNORECASE)]
    advice = f"change cluster.{keys[0]}" if keys else "`denoise5d plan` shows the batch script"
    if is_temporary(text):
        return f"SLURM does not take the job now ({text}); try again later"
    return f"SLURM refuses the job ({text}); {advice}"


def is_temporary(message: str) -> bool:
    """Tell whether what sbatch says is no refusal: SLURM could not be asked."""
    return _UNREACHABLE.search(message) is not None


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


def never_starts(job: QueuedJob) -> str | None:
    """Say why a pending job will never start, and which key to change; None if it may."""
    reason = job.reason.strip("()").replace(" ", "_")
    found = next((r for r in _NEVER if reason.lower().startswith(r.lower())), None)
    if job.state != "PENDING" or found is None:
        return None
    key = _NEVER[found]
    advice = f"change cluster.{key}" if key else f"`scontrol release {job.id}` lets it go"
    return f"job {job.id} will not start ({job.reason}); {advice}"


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
    if state not in _ENDED:
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
