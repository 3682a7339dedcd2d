"""Runs as batch jobs: hand one to SLURM, follow it by another one, cancel it.

A driver's job that may be followed by others submits the next one when it begins, to start when it
has ended in whichever way: a node that dies takes no chain along. A driver that has done all, or is
refused, or was stopped by hand, cancels its successor.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from math import inf
from pathlib import Path

from denoise5d.batch import JOB_NAME, driver_script, log_folder
from denoise5d.config import Config
from denoise5d.errors import ClusterError, LockedError, StoppedByHandError, StoppedEarlyError
from denoise5d.execute import check
from denoise5d.jobs import JobRecord, ask_to_stop, record_job, recorded_jobs
from denoise5d.ledger import Ledger, run_folder
from denoise5d.level_ledgers import level_ledgers
from denoise5d.lock import Owner, is_dead, read_owner
from denoise5d.prepare import ledger_path, lock_path
from denoise5d.slurm import Silent, ending, is_here, job_end, queue
from denoise5d.slurm import cancel as cancel_jobs
from denoise5d.slurm import submit as submit_job
from denoise5d.slurm_words import QueuedJob

log = logging.getLogger(__name__)

UNTIL_DONE = "done"
_POLL_SECONDS = 1.0

_NOW_SECONDS = 60
"""So long a driver may take to end that has no blocks in work."""


def submit(config: Config, *, chain: str | None = None, overwrite: bool = False) -> str:
    """Write the batch script of a run beside its output, and submit it.

    Parameters
    ----------
    config : Config
        A run of kind ``slurm`` or ``allocation``.
    chain : str, optional
        How many jobs may follow, or ``"done"``: as many as it takes.
    overwrite : bool
        Begin anew.

    Returns
    -------
    str
        Number of the job.

    Raises
    ------
    RefusedError
        Whatever would make the run refuse to start; a run that is under way already; what SLURM
        refuses.
    """
    text = script(config, overwrite=overwrite)
    if not is_here():
        raise ClusterError(
            "there is no sbatch here; run `denoise5d submit` where jobs are submitted, mostly a "
            "login node, or see the script with --print"
        )
    _check_alone(config)
    path = _script_path(config)
    path.parent.mkdir(parents=True, exist_ok=True)
    log_folder(config).mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return _submit(config, chain=chain or _wanted_chain(config), overwrite=overwrite)


def script(config: Config, *, overwrite: bool = False) -> str:
    """Return the batch script of a run, after all checks that need no SLURM.

    Raises
    ------
    RefusedError
        As `submit`.
    """
    if config.cluster.batch is None:
        raise ClusterError(
            f"cluster.kind is local, which is no batch job ({config.source}); choose slurm or "
            f"allocation, or start it here with `denoise5d run`"
        )
    return driver_script(config, check(config, overwrite=overwrite).plan)


@contextmanager
def chained(config: Config, chain: str | None) -> Iterator[None]:
    """Let another job follow this one, as long as there is work and it gets done.

    Parameters
    ----------
    config : Config
        Of the run that is about to begin in this process.
    chain : str or None
        How many jobs may follow, ``"done"``, or none.

    Raises
    ------
    ClusterError
        If the two jobs before this one did not do a block.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if job is None or config.cluster.batch is None:
        yield
        return
    _check_progress(config, job)
    if chain not in (None, "0") and not _queued_drivers(config, besides=job):
        left = UNTIL_DONE if chain == UNTIL_DONE else str(int(chain or 1) - 1)
        _follow(config, job, left)
    end = job_end() or inf
    try:
        yield
    except StoppedEarlyError as stopped:
        if isinstance(stopped, StoppedByHandError) and time.time() < end:
            _drop_successors(config, job)
        raise
    except BaseException:
        if time.time() < end:  # else it is SLURM that ends this job
            _drop_successors(config, job)
        raise
    _drop_successors(config, job)


def _follow(config: Config, job: str, chain: str) -> None:
    """Submit the next job; without it this one works all the same."""
    try:
        successor = _submit(config, chain=chain, after=job)
    except ClusterError as error:
        log.warning("no job follows this one (%s); submit again when it has ended", error)
    else:
        log.info("job %s will go on if this one does not finish", successor)


def cancel(config: Config, *, now: bool, tell: Callable[[str], None]) -> list[str]:
    """Stop a run: let its blocks in work end, then cancel the jobs that are left.

    Parameters
    ----------
    config : Config
        Of the run.
    now : bool
        Do not wait for the blocks in work.
    tell : callable
        Called with a line about what is waited for, or did not happen.

    Returns
    -------
    list of str
        Numbers of the jobs that were cancelled; of those that this run recorded, and no others.

    Raises
    ------
    ClusterError
        If SLURM does not answer.
    """
    try:
        mine = _jobs(config)
        drivers = _drivers(config)
        waiting = [j.id for j in mine if j.id in drivers and j.state == "PENDING"]
        cancel_jobs(waiting)  # or one of them would begin when the driver ends
        owner = _living_owner(config)
        if owner is not None:
            ask_to_stop(config.output.path, str(owner))  # or it would replace its workers
            if not now:
                tell(f"asked the driver to stop: {owner}; its blocks in work are finished")
                _wait_for_end(config, owner)
        left = [job.id for job in _jobs(config)]
        cancel_jobs(left)
        if owner is not None and now and not _wait_for_end(config, owner, _NOW_SECONDS):
            tell(f"the driver has been asked to stop, and has not ended yet: {owner}")
    except Silent as error:
        raise ClusterError(f"SLURM does not answer ({error}); try again later") from error
    return [*waiting, *left]


def _wait_for_end(config: Config, owner: Owner, seconds: float = inf) -> bool:
    """Wait until a driver has let go of the output, and left the queue; return whether it has."""
    deadline = time.monotonic() + seconds
    while _living_owner(config) == owner:
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    deadline = time.monotonic() + _NOW_SECONDS
    while owner.job in {job.id for job in _jobs(config)} and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    return True


def _submit(
    config: Config, *, chain: str | None, after: str | None = None, overwrite: bool = False
) -> str:
    arguments = [str(config.source), *(["--chain", chain] if chain else [])]
    path = _script_path(config)
    if not path.exists():  # this job was submitted by hand
        path.write_text(script(config))
    job = submit_job(path, [*arguments, *(["--overwrite"] if overwrite else [])], after=after)
    record_job(config.output.path, job, "successor" if after else "driver")
    return job


def _script_path(config: Config) -> Path:
    name = "allocation" if config.cluster.kind == "allocation" else "driver"
    return run_folder(config.output.path) / f"{name}.sbatch"


def _wanted_chain(config: Config) -> str | None:
    batch = config.cluster.batch
    return UNTIL_DONE if batch and batch.until == "done" else None


def _check_alone(config: Config) -> None:
    if owner := _living_owner(config):
        raise LockedError(
            f"a driver works on this output already: {owner}; `denoise5d status` shows how far it "
            f"is, `denoise5d cancel` ends it"
        )
    if jobs := _queued_drivers(config):
        raise LockedError(
            f"this run waits in the queue already, as job {', '.join(jobs)}; `denoise5d cancel` "
            f"takes it out"
        )


def _queued_drivers(config: Config, *, besides: str | None = None) -> list[str]:
    drivers = _drivers(config) - {besides}
    try:
        return [job.id for job in _jobs(config) if job.id in drivers]
    except Silent:
        return []


def _drivers(config: Config) -> set[str | None]:
    roles = ("driver", "successor")
    return {r.job for r in recorded_jobs(config.output.path) if r.role in roles}


def _jobs(config: Config) -> list[QueuedJob]:
    """Return the jobs of this run that have not ended; numbers come again, names say whose."""
    numbers = {record.job for record in recorded_jobs(config.output.path)}
    if not numbers or not is_here():
        return []
    return [j for n, j in queue().items() if n in numbers and j.name.startswith(_names(config))]


def _names(config: Config) -> str:
    """Return what the names of the jobs begin with, nothing if the YAML gives them others."""
    batch = config.cluster.batch
    own = [*batch.removed_directives, *batch.extra_directives] if batch else []
    return "" if any(option.startswith(("--job-name", "-J")) for option in own) else JOB_NAME


def _living_owner(config: Config) -> Owner | None:
    """Return who works on the output; a job that is not in the queue is nobody any more."""
    owner = read_owner(lock_path(config))
    if owner is None or is_dead(owner):
        return None
    if owner.job is not None and is_here():
        try:
            return owner if owner.job in queue() else None
        except Silent:
            pass
    return owner


def _check_progress(config: Config, job: str) -> None:
    """Record that a job begins; refuse a successor if the two jobs before it got nowhere."""
    output = config.output.path
    ledgers = (ledger_path(config), *level_ledgers(output).values())
    records = recorded_jobs(output)
    _refuse_after_cancelled(records, job)
    if job not in {record.job for record in records}:
        record_job(output, job, "driver")  # it was submitted without us
    begun_ones = (Ledger.open(path, read_only=True) for path in ledgers if path.exists())
    done = sum(ledger.done_count for ledger in begun_ones)
    record_job(output, job, "begin", done=done)
    begun: list[int | None] = []
    for record in records:
        if record.role == "driver":  # somebody submitted it, and may have mended something
            begun = []
        elif record.role == "begin":
            begun.append(record.done)
    if begun[-2:] == [done, done]:
        raise ClusterError(
            f"two jobs in a row finished no block, so this one does not begin; the files in "
            f"{log_folder(config)} tell why. When that is mended, `denoise5d submit` goes on"
        )


def _refuse_after_cancelled(records: list[JobRecord], job: str) -> None:
    """Refuse to go on after a job that somebody cancelled, and that had no time to say so."""
    begun = [r.job for r in records if r.role == "begin"]
    if (
        not begun
        or begun[-1] == job
        or (job, "successor") not in {(r.job, r.role) for r in records}
    ):
        return
    with suppress(Silent):
        before = ending(begun[-1])
        if before is not None and before.state == "CANCELLED":
            raise ClusterError(
                f"job {begun[-1]}, which this one follows, was cancelled, so this one does not "
                f"begin; `denoise5d submit` goes on"
            )


def _drop_successors(config: Config, job: str) -> None:
    """Cancel what this job has submitted to follow it, also before it was requeued."""
    records = recorded_jobs(config.output.path)
    mine = {record.job for record in records if record.role == "successor"} - {job}
    try:
        cancel_jobs(queued.id for queued in _jobs(config) if queued.id in mine)
    except Silent as error:
        log.warning("the job that was to follow could not be cancelled: %s", error)
