"""The jobs of a run: a line for each that was submitted, beside the ledger.

What is cancelled is what is written here, and nothing else. Several processes append (`submit`, and
one driver after the other), each a short line at a time.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias

from denoise5d.ledger import run_folder

_JOBS = "jobs.jsonl"
_DRIVER = "driver.json"
_STOP = "stop"

Role: TypeAlias = Literal["driver", "successor", "worker", "begin"]


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job that was submitted, or a driver's job that began.

    Attributes
    ----------
    job : str
        Its number.
    role : {"driver", "successor", "worker", "begin"}
        What it is for: a driver that somebody submitted, one that its predecessor did, a worker;
        ``"begin"``: the job of a driver has begun its work.
    since : str
        When, ISO 8601, UTC.
    done : int or None
        Blocks that were done when a driver began.
    """

    job: str
    role: Role
    since: str
    done: int | None = None


def record_job(output: Path, job: str, role: Role, *, done: int | None = None) -> None:
    """Append a job to those of the run that writes `output`."""
    record = JobRecord(job, role, datetime.now(UTC).isoformat(timespec="seconds"), done)
    folder = run_folder(output)
    folder.mkdir(exist_ok=True)
    file = os.open(folder / _JOBS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        # The line break ahead of it ends the line of a writer that was killed: this one is whole.
        os.write(file, b"\n" + json.dumps(asdict(record)).encode() + b"\n")
        os.fsync(file)
    finally:
        os.close(file)


def recorded_jobs(output: Path) -> list[JobRecord]:
    """Return the jobs of a run in their order; lines that are torn are left out."""
    try:
        lines = (run_folder(output) / _JOBS).read_bytes().splitlines()
    except FileNotFoundError:
        return []
    return [record for record in map(_record, lines) if record is not None]


def _record(line: bytes) -> JobRecord | None:
    try:
        return JobRecord(**json.loads(line))
    except (ValueError, TypeError):
        return None


def write_driver_facts(output: Path, host: str, page: int | None) -> None:
    """Tell `status` where a driver is, and the port of its web page, if it has one."""
    _write_whole(run_folder(output) / _DRIVER, json.dumps({"host": host, "page": page}))


def read_driver_facts(output: Path) -> tuple[str, int | None] | None:
    """Return host and port of the web page of the last driver; None if there was none."""
    try:
        facts: Any = json.loads((run_folder(output) / _DRIVER).read_bytes())
        return facts["host"], facts["page"]
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None


def ask_to_stop(output: Path, driver: str) -> None:
    """Ask a driver to stop, on whatever machine it is: it looks for this every few seconds."""
    _write_whole(run_folder(output) / _STOP, driver)


def asked_to_stop(output: Path, driver: str) -> bool:
    """Tell whether this very driver, and not one before it, was asked to stop."""
    try:
        return (run_folder(output) / _STOP).read_text() == driver
    except OSError:
        return False


def _write_whole(path: Path, text: str) -> None:
    """Write a file that others read at any moment."""
    partial = path.with_name(path.name + ".new")
    partial.write_text(text)
    partial.replace(path)
