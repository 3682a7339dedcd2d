"""``denoise5d doctor``."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from denoise5d.cli.console import number, say, show_table, size
from denoise5d.kernel import (
    ISA_VARIABLE,
    build_info,
    team_size,
)
from denoise5d.machine import Machine, this_machine
from denoise5d.report import can_draw
from denoise5d.slurm import is_here
from denoise5d.sources import installed_readers
from denoise5d.store import free_bytes

_LITTLE_MEMORY = 2 * 2**30
_LITTLE_DISK = 5 * 2**30


@click.command(
    epilog="""\b
Example:
  denoise5d doctor"""
)
def doctor() -> None:
    """Say what this machine has, and what is wrong with it."""
    machine, info, free = this_machine(), build_info(), free_bytes(Path.cwd())
    team = team_size(machine.cpus)
    kernel = f"{info['compiler']}, {info['build_type']}, OpenMP {info['openmp'] or 'none'}"
    sets = f"{info['instruction_set']}  (this processor has {', '.join(info['instruction_sets'])})"
    rows = [
        ("denoise5d", f"{version('denoise5d')}, in {Path(__file__).parents[1]}"),
        ("Python", f"{platform.python_version()} on {platform.platform()}"),
        ("kernel", kernel),
        ("instruction set", sets),
        ("processors", f"{machine.cpus}, of which the kernel gets {number(team, 'thread')}"),
        ("memory", size(machine.memory_bytes)),
        ("free disk here", f"{size(free)} in {Path.cwd()}"),
        ("batch system", "SLURM" if is_here() else "none: sbatch is not here"),
        ("libraries", ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)),
        ("image formats", _formats()),
        ("pictures", "matplotlib " + (version("matplotlib") if can_draw() else "missing")),
    ]
    show_table("This machine", rows)
    found = findings(machine, info, team=team, free=free, drawing=can_draw())
    say("\n".join(f"\n! {finding}" for finding in found) or "\nNothing is wrong.")


def _formats() -> str:
    """Name the readers of formats that not everybody needs, and what brings the missing ones."""
    found = installed_readers()
    here = ", ".join(name for name in found.values() if name)
    missing = ",".join(extra for extra, name in found.items() if name is None)
    more = f"; pip install 'denoise5d[{missing}]' for more" if missing else ""
    return f"Zarr, TIFF{here and ', with '}{here}{more}"


_LIBRARIES = ("numpy", "zarr", "dask", "distributed", "dask-jobqueue")


def findings(
    machine: Machine, info: dict[str, Any], *, team: int, free: int, drawing: bool
) -> list[str]:
    """Return what is wrong with a machine and what to do about it.

    Parameters
    ----------
    machine : Machine
        Processors and memory.
    info : dict
        As of `denoise5d.build_info`.
    team : int
        Threads the kernel gets when it asks for all processors.
    free : int
        Bytes free on the disk.
    drawing : bool
        Whether matplotlib is installed.
    """
    found = []
    if not info["openmp"]:
        found.append(
            "The kernel was built without OpenMP and uses one processor: install denoise5d anew "
            "with a compiler that has OpenMP (g++ has)."
        )
    elif team < machine.cpus:
        limits = [f"{k}={v}" for k, v in os.environ.items() if k in _THREAD_LIMITS]
        found.append(
            f"The kernel gets {team} of {number(machine.cpus, 'thread')}: look at "
            f"{' and '.join(limits or _THREAD_LIMITS)} in the environment."
        )
    if info["instruction_set"] not in info["instruction_sets"]:
        found.append(
            f"{ISA_VARIABLE}={info['instruction_set']} is none of this processor's: unset it, or "
            f"set one of {', '.join(info['instruction_sets'])}."
        )
    if machine.memory_bytes < _LITTLE_MEMORY:
        found.append(
            f"{size(machine.memory_bytes)} of memory is little: ask for a larger container or "
            f"job, or give small blocks and cluster.workers: 1."
        )
    if free < _LITTLE_DISK:
        found.append(
            f"{size(free)} of disk is little for an image: put output.path on another disk; "
            f"`denoise5d plan` says how much it needs."
        )
    if not drawing:
        found.append(
            "There will be no pictures: pip install 'denoise5d[report]' brings matplotlib."
        )
    return found


_THREAD_LIMITS = ("OMP_THREAD_LIMIT", "OMP_DYNAMIC")
