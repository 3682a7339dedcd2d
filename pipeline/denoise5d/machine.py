"""What the machine at hand has: processors and memory that this process may use.

A container or a batch job may have less than the machine. Linux tells in control groups, each of
which is bound by those above it::

    /sys/fs/cgroup / system.slice / slurmstepd.scope / job_77 / step_batch    memory.max, cpu.max
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import psutil

GIB = 2**30

_GROUPS = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")


@dataclass(frozen=True, slots=True)
class Machine:
    """Processors and memory.

    Attributes
    ----------
    cpus : int
        Processors that this process may run on.
    memory_bytes : int
        Memory in bytes, the container's or job's limit where there is one.
    """

    cpus: int
    memory_bytes: int


def this_machine() -> Machine:
    """Return what this process may use of the machine that it runs on."""
    limits = [_memory_limit(folder) for folder in _group_folders()]
    memory = min([psutil.virtual_memory().total, *(limit for limit in limits if limit)])
    return Machine(available_cpus(), memory)


def available_cpus() -> int:
    """Return the number of processors that this process may run on, at least 1."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux has it
    cpus = len(affinity(0)) if affinity else os.cpu_count() or 1
    quotas = [_cpu_limit(folder) for folder in _group_folders()]
    return min([cpus, *(quota for quota in quotas if quota)])


def peak_bytes() -> int:
    """Return the largest memory that this process has ever held, in bytes."""
    with suppress(OSError):  # Linux: what `getrusage` tells began with the parent's peak
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _group_folders() -> Iterator[Path]:
    """Yield the folders of this process's control groups, of both versions, up to the root."""
    try:
        lines = _OWN_GROUPS.read_text().splitlines()
    except OSError:  # no Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        root = _GROUPS / controllers  # version 2 names none
        folder = root / path.lstrip("/")
        yield folder
        while folder != root:
            folder = folder.parent
            yield folder


def _memory_limit(folder: Path) -> int | None:
    """Return the limit in bytes that a group has, if any; version 1 writes none as a huge one."""
    numbers = _numbers(folder / "memory.max") or _numbers(folder / "memory.limit_in_bytes")
    return numbers[0] if numbers else None


def _cpu_limit(folder: Path) -> int | None:
    """Return how many processors' time a group may use, if that is limited."""
    numbers = _numbers(folder / "cpu.max") or [
        *_numbers(folder / "cpu.cfs_quota_us"),
        *_numbers(folder / "cpu.cfs_period_us"),
    ]
    return ceil(numbers[0] / numbers[1]) if len(numbers) == 2 else None


def _numbers(file: Path) -> list[int]:
    """Return the numbers in a file; none if there is no such file, or it says ``max`` or ``-1``."""
    try:
        words = file.read_text().split()
    except OSError:
        return []
    return [int(word) for word in words] if all(word.isdigit() for word in words) else []
