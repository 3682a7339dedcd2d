"""What SLURM says of jobs, in plain words, each with the key to change; nothing is asked."""

from __future__ import annotations

import re
from dataclasses import dataclass

ENDED = (
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

NEVER = {
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


def never_starts(job: QueuedJob) -> str | None:
    """Say why a pending job will never start, and which key to change; None if it may."""
    reason = job.reason.strip("()").replace(" ", "_")
    found = next((r for r in NEVER if reason.lower().startswith(r.lower())), None)
    if job.state != "PENDING" or found is None:
        return None
    key = NEVER[found]
    advice = f"change cluster.{key}" if key else f"`scontrol release {job.id}` lets it go"
    return f"job {job.id} will not start ({job.reason}); {advice}"
