"""A run: begin or resume, start the workers, stop in good order, say how it ended."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import chain
from math import inf
from pathlib import Path
from socket import gethostname
from threading import Thread, current_thread, main_thread
from time import monotonic
from types import FrameType
from typing import Any

from denoise5d.budget import machine_of
from denoise5d.cluster import start_workers
from denoise5d.config import Config
from denoise5d.contrast import write_contrast
from denoise5d.dispatch import BlockDone, dispatch
from denoise5d.errors import (
    BlocksFailedError,
    OutputError,
    StoppedByHandError,
    StoppedEarlyError,
)
from denoise5d.forecast import check_time
from denoise5d.identity import (
    estimate_noise,
    fingerprint,
    frozen_noise,
    given_noise,
    provenance,
)
from denoise5d.jobs import asked_to_stop, write_driver_facts
from denoise5d.ledger import Ledger, check_fingerprint, discard
from denoise5d.level_ledgers import level_ledgers
from denoise5d.lock import OutputLock, Owner, read_owner
from denoise5d.passes import Failure, Pass, Run, passes
from denoise5d.prepare import Job, grid_header, ledger_path, lock_path, open_input, prepare
from denoise5d.slurm import Silent, ending, job_end
from denoise5d.space import check_space, file_words
from denoise5d.store import (
    Image,
    create_output,
    is_untouched,
    made_by_conversion,
    open_output,
    read_provenance,
)
from denoise5d.writing import END_MARGIN_SECONDS

__all__ = ["BlockDone", "Failure", "Pass", "Run", "check", "execute"]

log = logging.getLogger(__name__)

_LOOK_SECONDS = 2.0

_STOPPING = (
    "stopping: no new blocks; the ones in work are finished (interrupt once more to give them up)"
)

Begun = Callable[[Run], None]


def execute(config: Config, *, overwrite: bool, on_begin: Begun, on_block: BlockDone) -> Run:
    """Run a configuration to its end; go on where an earlier run of it stopped.

    Parameters
    ----------
    config : Config
        What to do.
    overwrite : bool
        Begin anew: what an earlier run left at the output is removed.
    on_begin : callable
        Called with the run when it is about to start its workers.
    on_block : callable
        Called with the pass and the record of each block that has become done.

    Returns
    -------
    Run
        With every block of every pass done.

    Raises
    ------
    RefusedError
        If nothing was started: see `denoise5d.errors`.
    BlocksFailedError
        If some blocks failed for good; all others are done.
    StoppedEarlyError
        If a signal asked to stop, or the time is up; what was in work has been finished.
    """
    image = open_input(config)
    _check_target(config.output.path)
    _warn_on_login_node(config)
    with OutputLock(lock_path(config), _has_ended), _stop_on_request(config) as stop:
        run = _begin(config, image, overwrite=overwrite)
        end = job_end()
        run.ends = inf if end is None else end - END_MARGIN_SECONDS
        stages = passes(run)
        first = next(stages, None)
        on_begin(run)
        if first is not None and not stop.requested:
            with start_workers(run.job) as workers:
                page = workers.page_port() if config.cluster.dashboard else None
                write_driver_facts(config.output.path, gethostname(), page)
                todo = chain([first], stages)
                dispatch(run, todo, workers, lambda: stop.requested, on_block)
        if run.complete:
            write_contrast(config.output.path, image.info)
    _judge(run, by_hand=stop.by_hand)
    return run


def check(config: Config, *, overwrite: bool) -> Job:
    """Refuse whatever `execute` would refuse before it starts workers; write nothing.

    Raises
    ------
    RefusedError
        See `denoise5d.errors`.
    """
    image = open_input(config)
    _check_target(config.output.path)
    job = prepare(config, image.info, machine_of(config), anew=overwrite)
    if ledger_path(config).exists() and not overwrite:
        check_fingerprint(ledger_path(config), fingerprint(job, image))
    else:
        given_noise(config.noise, image.info.shape[1])
        check_space(job)
    check_time(job)
    return job


def _warn_on_login_node(config: Config) -> None:
    if config.cluster.kind == "slurm" and "SLURM_JOB_ID" not in os.environ:
        log.warning(
            "this process drives the run and must live as long as it does; if %s is a login node, "
            "whose long processes are often killed, stop here and use `denoise5d submit`",
            gethostname(),
        )


def _has_ended(owner: Owner) -> bool:
    """Tell whether SLURM says that the job of a lock's owner has ended, with its node maybe."""
    if owner.job is None or owner.cluster != os.environ.get("SLURM_CLUSTER_NAME"):
        return False
    if owner.job == os.environ.get("SLURM_JOB_ID"):
        return _is_requeued()
    try:
        return ending(owner.job) is not None
    except Silent:
        return False


def _check_target(path: Path) -> None:
    """Refuse an output that no run may make, before so much as a lock is written beside it."""
    if not path.parent.is_dir():
        raise OutputError(
            f"the folder of output.path must exist, got {path.parent}: make it, mount its disk, or "
            f"correct output.path"
        )
    if made_by_conversion(path):
        raise OutputError(
            f"output.path {path} is an image made by `denoise5d convert`, not by a run: choose "
            f"another path, or remove it yourself if it is not needed"
        )


def _begin(config: Config, image: Image, *, overwrite: bool) -> Run:
    """Take up the ledger of an earlier run, or make output and ledger."""
    ledger = ledger_path(config)
    overwrite = overwrite and not (_is_requeued() and _begun_by_this_job(ledger))
    job = prepare(config, image.info, machine_of(config), anew=overwrite)
    check_time(job)
    if ledger.exists() and not overwrite:
        return _resume(job, image)
    noise = given_noise(config.noise, image.info.shape[1])
    if noise is None:
        log.info("estimating the noise from a sample of the image")
        noise = [estimate.model for estimate in estimate_noise(image)]
    check_space(job)
    files, many = file_words(job.plan)
    if many:
        log.warning("files of the output: %s", files)
    identity = fingerprint(job, image)
    for path in (ledger, *level_ledgers(config.output.path).values()):
        discard(path)
    create_output(
        config.output.path,
        image.info,
        layout=job.plan.layout,
        dtype=job.dtype,
        provenance={**provenance(job, noise), "fingerprint": identity},
        # Without a ledger and without a voxel it is what a driver left that was killed right here.
        overwrite=overwrite or is_untouched(config.output.path),
    )
    header = {
        **grid_header(job.plan),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": version("denoise5d"),
        "voxel_bytes": job.dtype.itemsize,
        "job": os.environ.get("SLURM_JOB_ID"),
        "noise": [asdict(model) for model in noise],
        "fingerprint": identity,
    }
    return Run(job, Ledger.create(ledger, header), noise)


def _is_requeued() -> bool:
    """Tell whether SLURM has started this job before: with the same number, the same arguments."""
    return os.environ.get("SLURM_RESTART_COUNT", "0") != "0"


def _begun_by_this_job(ledger: Path) -> bool:
    header = Ledger.open(ledger, read_only=True).header if ledger.exists() else {}
    return header.get("job") == os.environ["SLURM_JOB_ID"]


def _resume(job: Job, image: Image) -> Run:
    path, output = ledger_path(job.config), job.config.output.path
    check_fingerprint(path, fingerprint(job, image))
    ledger = Ledger.open(path)
    if not output.exists():
        raise OutputError(
            f"{output} is gone, but its ledger {path} says that {ledger.done_count} blocks are "
            f"done; put it back, or begin anew with `denoise5d run --overwrite`"
        )
    open_output(output)
    if not ledger.is_of(read_provenance(output)):
        raise OutputError(
            f"{output} is not the image that its ledger {path} tells of; put that one back, or "
            f"begin anew with `denoise5d run --overwrite`"
        )
    wanted = job.config.blocks.shape
    if wanted is not None and wanted != job.plan.grid.block_shape:
        log.warning(
            "blocks.shape %s is not used: this run goes on with the blocks of %s it began with",
            list(wanted),
            list(job.plan.grid.block_shape),
        )
    check_space(job, ledger)
    return Run(job, ledger, frozen_noise(ledger.header))


class _Stop:
    """Whether a signal, or `denoise5d cancel` on some machine, has asked to stop.

    Parameters
    ----------
    output : Path
        Of the run.
    driver : str
        What this process is called in the output's lock.

    Attributes
    ----------
    by_hand : bool
        Whether somebody did; a batch system's warning is nobody's wish.
    """

    def __init__(self, output: Path, driver: str) -> None:
        self._output, self._driver = output, driver
        self._signalled = self.by_hand = False
        self._next_look = 0.0

    @property
    def requested(self) -> bool:
        """Whether no new blocks are to be begun."""
        if not self._signalled and monotonic() > self._next_look:
            self._next_look = monotonic() + _LOOK_SECONDS
            if asked_to_stop(self._output, self._driver):
                self._stop(by_hand=True)
        return self._signalled

    def request(self, number: int, _frame: FrameType | None) -> None:
        """Answer a signal: the first drains, the second gives up at once."""
        if self._signalled and number != signal.SIGUSR1:
            raise KeyboardInterrupt
        self._stop(by_hand=number != signal.SIGUSR1)

    def _stop(self, *, by_hand: bool) -> None:
        if not self._signalled:
            # From a thread, which waits for its turn: this may be the middle of a line being
            # written.
            Thread(target=log.warning, args=(_STOPPING,)).start()
        self._signalled = True
        self.by_hand |= by_hand


@contextmanager
def _stop_on_request(config: Config) -> Iterator[_Stop]:
    """Turn SIGINT, SIGTERM and SIGUSR1 (a batch system's warning) into a request to stop."""
    stop = _Stop(config.output.path, str(read_owner(lock_path(config))))
    if current_thread() is not main_thread():
        yield stop
        return
    before: dict[int, Any] = {}
    try:
        for asked in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            before[asked] = signal.signal(asked, stop.request)
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _judge(run: Run, *, by_hand: bool) -> None:
    """Raise what the end of a run that is not complete amounts to."""
    stage = run.stage
    ledger, failed, left = stage.ledger, len(run.failures), stage.left
    what = f"blocks of level {stage.level} of the pyramid" if stage.level else "blocks"
    blocks = f"{ledger.blocks} {what}"
    if failed:
        shown = "".join(f"\n  block {f.block}: {f.reason}" for f in run.failures[:5])
        more = f"\n  and {failed - 5} more" if failed > 5 else ""
        others = f", {left} were left undone" if left else ""
        raise BlocksFailedError(
            f"{failed} of {blocks} failed, {ledger.done_count} are done and stay done{others}:"
            f"{shown}{more}\nMend the cause and run the same command again."
        )
    if left:
        raise (StoppedByHandError if by_hand else StoppedEarlyError)(
            f"stopped early: {left} of {blocks} are left; run the same command again to go on"
        )
