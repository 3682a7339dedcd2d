"""What the machine at hand has: processors and memory that this process may use."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import psutil

_CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


@dataclass(frozen=True, slots=True)
class Machine:
    """Processors and memory.

    Attributes
    ----------
    cpus : int
        Processors that this process may run on.
    memory_bytes : int
        Memory in bytes, the container's limit where there is one.
    """

    cpus: int
    memory_bytes: int


def this_machine() -> Machine:
    """Return what this process may use of the machine that it runs on."""
    memory = psutil.virtual_memory().total
    for file in _CGROUP_LIMITS:
        if file.exists() and (text := file.read_text().strip()).isdigit():
            memory = min(memory, int(text))
    return Machine(available_cpus(), memory)


def available_cpus() -> int:
    """Return the number of processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
