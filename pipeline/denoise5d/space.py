"""What a run takes of the disk: bytes, and files."""

from __future__ import annotations

from denoise5d.errors import PlanError
from denoise5d.ledger import Ledger
from denoise5d.level_ledgers import level_ledger
from denoise5d.plan import Plan
from denoise5d.prepare import Job
from denoise5d.quantities import size
from denoise5d.store import free_bytes, free_files

_MANY_FILES = 1_000_000
"""More than this is what quotas of clusters, backups and copying do not like."""


def check_space(job: Job, ledger: Ledger | None = None) -> None:
    """Refuse a run whose output does not find room on its disk.

    Parameters
    ----------
    job : Job
        The run.
    ledger : Ledger, optional
        What of it is done already. A level that was begun takes what it needs, more or less.

    Raises
    ------
    PlanError
        If bytes or files are lacking.
    """
    path, plan = job.config.output.path, job.plan
    left, levels = 1.0, list(plan.levels)
    if ledger is not None:
        left -= ledger.done_count / ledger.blocks
        levels = [v for v in levels if not level_ledger(path, v.number).exists()]
    itemsize = job.dtype.itemsize
    needed = int(plan.image_bytes(itemsize) * left) + sum(v.voxels for v in levels) * itemsize
    free = free_bytes(path)
    if free < needed:
        raise PlanError(
            f"the disk of output.path {path} has {size(free)} free, and the output may "
            f"need {size(needed)} (uncompressed); make room, or choose another output.path"
        )
    files = int(plan.image_inodes * left) + sum(v.inodes for v in levels)
    free_to_make = free_files(path)
    if free_to_make < files:
        raise PlanError(
            f"the disk of output.path {path} takes {free_to_make:.0f} more files and folders, and "
            f"the output may need {files}; {fewer_files(job.plan)}, or choose another output.path"
        )


def file_words(plan: Plan) -> tuple[str, bool]:
    """Return how many files the output will be, and whether that calls for a warning."""
    if plan.files <= _MANY_FILES:
        return str(plan.files), False
    advice = f"more than many file systems and quotas like; {fewer_files(plan)}"
    return f"{plan.files}, {advice}", True


def fewer_files(plan: Plan) -> str:
    """Say which keys would make it fewer files."""
    if plan.layout.format == "ome-zarr-0.4":
        return "make output.chunks larger, or take output.format ome-zarr-0.5, which has shards"
    return "leave output.shards to auto, or make them larger"
