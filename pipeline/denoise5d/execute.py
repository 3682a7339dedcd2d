"""A run: begin or resume, hand out blocks, commit what is done, stop in good order.

The driver holds coordinates only. At most two blocks a worker are on their way; each comes back as
a record of a few hundred bytes, goes into the ledger at once, and is forgotten.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import islice
from queue import Empty, SimpleQueue
from threading import current_thread, main_thread
from types import FrameType
from typing import Any

from distributed import Client, Future, get_worker
from distributed.scheduler import KilledWorker

from denoise5d.cluster import local_cluster
from denoise5d.config import Config
from denoise5d.errors import (
    BlocksFailedError,
    OutputError,
    PlanError,
    StoppedEarlyError,
)
from denoise5d.geometry import Block
from denoise5d.identity import (
    estimate_noise,
    fingerprint,
    frozen_noise,
    given_noise,
    provenance,
)
from denoise5d.ledger import BlockRecord, Ledger, check_fingerprint, discard
from denoise5d.lock import OutputLock
from denoise5d.machine import this_machine
from denoise5d.noise import NoiseModel
from denoise5d.prepare import GIB, Job, grid_header, ledger_path, lock_path, open_input, prepare
from denoise5d.store import (
    Image,
    create_output,
    free_bytes,
    made_by_conversion,
    open_output,
)
from denoise5d.task import TaskSettings, run_block

log = logging.getLogger(__name__)

_IN_FLIGHT = 2
"""Blocks a worker that are handed out: one in work, one waiting in the scheduler."""

_POLL_SECONDS = 0.5


@dataclass(slots=True)
class Failure:
    """A block that has used up its attempts.

    Attributes
    ----------
    block : int
        Its number.
    reason : str
        What the last attempt ended with.
    """

    block: int
    reason: str


@dataclass(slots=True)
class Run:
    """A run in progress; whoever shows it reads these.

    Attributes
    ----------
    job : Job
        What is done.
    ledger : Ledger
        What is done already.
    noise : list of NoiseModel
        What it is done with.
    failures : list of Failure
        What could not be done.
    """

    job: Job
    ledger: Ledger
    noise: list[NoiseModel]
    failures: list[Failure] = field(default_factory=list)

    @property
    def settings(self) -> TaskSettings:
        """What every task is told."""
        job = self.job
        return TaskSettings(
            input_path=job.config.input.path,
            axes=job.config.input.axes,
            dataset=job.config.input.dataset,
            output_path=job.config.output.path,
            image_shape=job.image.shape,
            noise=tuple(self.noise),
            parameters=job.parameters,
            threads=job.plan.budget.threads,
            io_threads=job.io_threads,
        )


Begun = Callable[[Run], None]
BlockDone = Callable[[Run, BlockRecord], None]


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
        Called with the run and the record of each block that has become done.

    Returns
    -------
    Run
        With every block done.

    Raises
    ------
    RefusedError
        If nothing was started: see `denoise5d.errors`.
    BlocksFailedError
        If some blocks failed for good; all others are done.
    StoppedEarlyError
        If a signal asked to stop; what was in work has been finished.
    """
    image = open_input(config)
    with OutputLock(lock_path(config)):
        run = _begin(config, image, overwrite=overwrite)
        on_begin(run)
        if run.ledger.done_count == run.ledger.blocks:
            return run
        with (
            _stop_on_signals() as stop,
            local_cluster(run.job.plan, dashboard=config.cluster.dashboard) as client,
        ):
            _Dispatch(run, client, stop, on_block).work()
    _judge(run)
    return run


def _begin(config: Config, image: Image, *, overwrite: bool) -> Run:
    """Take up the ledger of an earlier run, or make output and ledger."""
    ledger = ledger_path(config)
    job = prepare(config, image.info, this_machine(), anew=overwrite)
    if ledger.exists() and not overwrite:
        return _resume(job, image)
    if config.output.path.exists() and made_by_conversion(config.output.path):
        raise OutputError(
            f"output.path {config.output.path} is an image made by `denoise5d convert`, not by a "
            f"run: choose another path, or remove it yourself if it is not needed"
        )
    noise = given_noise(config.noise, image.info.shape[1])
    if noise is None:
        noise = [estimate.model for estimate in estimate_noise(image)]
    _check_space(job, job.output_bytes)
    identity = fingerprint(job, image)
    discard(ledger)
    create_output(
        config.output.path,
        image.info,
        layout=job.plan.layout,
        dtype=job.dtype,
        provenance={**provenance(job, noise), "fingerprint": identity},
        overwrite=overwrite,
    )
    header = {
        **grid_header(job.plan),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": version("denoise5d"),
        "voxel_bytes": job.dtype.itemsize,
        "noise": [asdict(model) for model in noise],
        "fingerprint": identity,
    }
    return Run(job, Ledger.create(ledger, header), noise)


def _resume(job: Job, image: Image) -> Run:
    path = ledger_path(job.config)
    check_fingerprint(path, fingerprint(job, image))
    ledger = Ledger.open(path)
    if not job.config.output.path.exists():
        raise OutputError(
            f"{job.config.output.path} is gone, but its ledger {path} says that "
            f"{ledger.done_count} blocks are done; put it back, or begin anew with --overwrite"
        )
    open_output(job.config.output.path)
    wanted = job.config.blocks.shape
    if wanted is not None and wanted != job.plan.grid.block_shape:
        log.warning(
            "blocks.shape %s is not used: this run goes on with the blocks of %s it began with",
            list(wanted),
            list(job.plan.grid.block_shape),
        )
    left = 1 - ledger.done_count / ledger.blocks
    _check_space(job, int(job.output_bytes * left))
    return Run(job, ledger, frozen_noise(ledger.header))


def _check_space(job: Job, needed: int) -> None:
    free = free_bytes(job.config.output.path)
    if free < needed:
        raise PlanError(
            f"the disk of output.path {job.config.output.path} has {free / GIB:.2f} GiB free, and "
            f"the output may need {needed / GIB:.2f} GiB (uncompressed); make room, or choose "
            f"another output.path"
        )


class _Stop:
    """Whether a signal has asked to stop."""

    def __init__(self) -> None:
        self.signal: str | None = None

    def request(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Answer a signal: the first drains, the second gives up at once."""
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number).name
        log.warning(
            "%s: no new blocks; the ones in work are finished (once more to give them up)",
            self.signal,
        )


@contextmanager
def _stop_on_signals() -> Iterator[_Stop]:
    """Turn SIGINT, SIGTERM and SIGUSR1 (a batch system's warning) into a request to stop."""
    stop = _Stop()
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


class _Dispatch:
    """Hands out the blocks of a run and takes them back."""

    def __init__(self, run: Run, client: Client, stop: _Stop, on_block: BlockDone) -> None:
        self._run = run
        self._client = client
        self._stop = stop
        self._on_block = on_block
        self._todo = run.ledger.remaining()
        self._handed_out: dict[Future, tuple[int, int]] = {}  # block and attempt
        self._ended: SimpleQueue[Future] = SimpleQueue()
        self._succeeded = False
        self._hopeless = False

    def work(self) -> None:
        """Return when all blocks are done or failed, or nothing more may be handed out."""
        for block in islice(self._todo, _IN_FLIGHT * self._run.job.plan.budget.workers):
            self._submit(block, 1)
        drained = False
        while self._handed_out:
            self._take(self._next_ended())
            if self._draining and not drained:
                drained = True
                self._cancel_waiting()

    @property
    def _draining(self) -> bool:
        return self._stop.signal is not None or self._hopeless

    def _next_ended(self) -> list[Future]:
        """Wait a moment for blocks that have ended, so that a signal is seen in between."""
        futures = []
        with suppress(Empty):
            futures.append(self._ended.get(timeout=_POLL_SECONDS))
            while True:
                futures.append(self._ended.get_nowait())
        return futures

    def _take(self, futures: list[Future]) -> None:
        """Commit all blocks that are done with one write to the disk; then see to the others."""
        done = [future for future in futures if future.status == "finished"]
        records = [future.result() for future in done]
        self._run.ledger.append(records)
        for record in records:
            self._succeeded = True
            self._on_block(self._run, record)
        for future in futures:
            block, attempt = self._handed_out.pop(future)
            if future.status == "finished":
                self._hand_out()
            elif not (future.cancelled() and self._draining):
                self._retry(block, attempt, _reason(future))
            future.release()

    def _hand_out(self) -> None:
        block = None if self._draining else next(self._todo, None)
        if block is not None:
            self._submit(block, 1)

    def _submit(self, block: int, attempt: int) -> None:
        run = self._run
        future = self._client.submit(
            _in_worker, run.settings, run.job.plan.grid[block], attempt, pure=False
        )
        self._handed_out[future] = (block, attempt)
        future.add_done_callback(self._ended.put)

    def _retry(self, block: int, attempt: int, reason: str) -> None:
        """Try a failed block again, or give it up."""
        most = 1 + self._run.job.config.blocks.retries
        log.warning("block %d failed, attempt %d of %d: %s", block, attempt, most, reason)
        if attempt < most:
            if not self._draining:
                self._submit(block, attempt + 1)
            return  # while draining it is left to the next run
        self._run.failures.append(Failure(block, reason))
        if not self._succeeded and not self._hopeless:
            self._hopeless = True
            log.warning("no block has succeeded so far: no more are handed out")
        self._hand_out()

    def _cancel_waiting(self) -> None:
        """Take back the blocks that no worker has begun; those in work are left to finish."""
        begun = {key for keys in self._client.processing().values() for key in keys}
        for future in self._handed_out:
            if future.key not in begun and not future.done():
                future.cancel()


def _in_worker(settings: TaskSettings, block: Block, attempt: int) -> BlockRecord:
    return run_block(settings, block, str(get_worker().name), attempt)


def _reason(future: Future) -> str:
    if future.cancelled():
        return "the scheduler lost it"
    error = future.exception()
    if isinstance(error, KilledWorker):
        return (
            "its worker died, most likely killed for its memory (by the system, or by its own "
            "limit); a higher blocks.memory_factor gives each block more, fewer cluster.workers "
            "leave more to each"
        )
    return str(error) or type(error).__name__


def _judge(run: Run) -> None:
    """Raise what the end of a run that is not complete amounts to."""
    left = run.ledger.blocks - run.ledger.done_count
    if run.failures:
        shown = "".join(f"\n  block {f.block}: {f.reason}" for f in run.failures[:5])
        more = len(run.failures) - 5
        raise BlocksFailedError(
            f"{len(run.failures)} of {run.ledger.blocks} blocks failed, {run.ledger.done_count} "
            f"are done and stay done:{shown}"
            + (f"\n  and {more} more" if more > 0 else "")
            + "\nMend the cause and run the same command again."
        )
    if left:
        raise StoppedEarlyError(
            f"stopped early: {left} of {run.ledger.blocks} blocks are left; "
            f"run the same command again to go on"
        )
