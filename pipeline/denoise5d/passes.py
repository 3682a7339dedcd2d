"""The passes of a run: the first one denoises, each further one makes a level of the pyramid.

A pass is a grid of blocks, a ledger, and what a worker does with a block. A level is read from the
one below, so its pass begins when the pass before is complete, and counts only as long as that one
is: take a line out of a ledger, and all levels above are made anew. Viewers see what the metadata
name, which is the levels that are complete::

    pass 0   denoise    ledger.jsonl     ──> array 0
    pass 1   level 1    level-1.jsonl    array 0 ──> array 1 ──> named in the metadata
    pass 2   level 2    level-2.jsonl    array 1 ──> array 2 ──> named in the metadata
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from math import inf

from denoise5d.errors import OutputError
from denoise5d.geometry import BlockGrid
from denoise5d.ledger import Ledger, discard
from denoise5d.level_ledgers import level_ledger, level_ledgers, open_level_ledger
from denoise5d.level_task import LevelSettings
from denoise5d.levels import PyramidLevel
from denoise5d.noise import NoiseModel
from denoise5d.prepare import Job
from denoise5d.store import create_level, describe_levels, open_output, read_provenance
from denoise5d.task import TaskSettings
from denoise5d.writing import Target

log = logging.getLogger(__name__)


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
        What is denoised already.
    noise : list of NoiseModel
        What it is done with.
    failures : list of Failure
        What could not be done; of one pass, as none begins after a failure.
    ends : float
        When the driver's job ends, in seconds since 1970; infinite if it does not.
    stage : Pass
        The pass that it has come to.
    """

    job: Job
    ledger: Ledger
    noise: list[NoiseModel]
    failures: list[Failure] = field(default_factory=list)
    ends: float = inf
    stage: Pass = field(init=False)

    def __post_init__(self) -> None:
        plan = self.job.plan
        later = sum(len(level.grid) for level in plan.levels)
        self.stage = Pass(self, 0, plan.grid, self.ledger, later)

    @property
    def complete(self) -> bool:
        """Whether all blocks of all passes are done."""
        return self.stage.complete and not self.stage.later

    @property
    def settings(self) -> TaskSettings:
        """What every worker is told of the blocks that it denoises."""
        job = self.job
        return TaskSettings(
            input_path=job.config.input.path,
            axes=job.config.input.axes,
            dataset=job.config.input.dataset,
            target=self._target(0),
            grid=job.plan.grid,
            noise=tuple(self.noise),
            parameters=job.parameters,
            threads=job.plan.budget.threads,
        )

    @property
    def level_settings(self) -> list[LevelSettings]:
        """What every worker is told of the levels, in their order."""
        plan = self.job.plan
        return [
            LevelSettings(self._target(level.number), level, plan.padded_bytes)
            for level in plan.levels
        ]

    def _target(self, level: int) -> Target:
        path = self.job.config.output.path
        return Target(path, level, self.job.io_threads, read_provenance(path), self.ends)


@dataclass(frozen=True, slots=True)
class Pass:
    """Blocks that depend on nothing that is made along with them.

    Attributes
    ----------
    run : Run
        That it is a part of.
    level : int
        0 denoises; the others make this level of the pyramid.
    grid : BlockGrid
        Its blocks.
    ledger : Ledger
        What is done of it.
    later : int
        Blocks of the passes after it.
    """

    run: Run
    level: int
    grid: BlockGrid
    ledger: Ledger
    later: int

    @property
    def complete(self) -> bool:
        """Whether all blocks are done."""
        return self.ledger.done_count == self.ledger.blocks

    @property
    def left(self) -> int:
        """Blocks that are neither done nor given up."""
        return self.ledger.blocks - self.ledger.done_count - len(self.run.failures)


def passes(run: Run) -> Iterator[Pass]:
    """Yield the passes that have blocks left, each when those before it are complete.

    To be asked for the next one when all blocks of the last one are done; it ends when that is not
    so. Before each pass, and at the end, the levels that are complete are named in the metadata of
    the output, and no others; this mends what a crash left out.
    """
    stage, levels = run.stage, run.job.plan.levels
    if stage.left:
        _drop(run.job, 0)
        yield stage
    for level in levels:
        if not stage.complete:
            return
        run.stage = stage = _begin_level(run, level, stage.later - len(level.grid))
        if stage.left:
            yield stage
    if levels and stage.complete:
        _name(run.job, len(levels))


def _begin_level(run: Run, level: PyramidLevel, later: int) -> Pass:
    """Take up the ledger of a level, or make its array and its ledger."""
    output = run.job.config.output.path
    ledger = open_level_ledger(output, level) if _is_there(run.job, level) else None
    if ledger is None or ledger.done_count < ledger.blocks:
        _drop(run.job, level.number)
    if ledger is None:
        path = level_ledger(output, level.number)
        if path.exists():
            log.info("level %d of the pyramid is made anew: it was another one", level.number)
            discard(path)
        create_level(output, level, run.job.dtype)
        facts = {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "version": version("denoise5d"),
            "voxel_bytes": run.job.dtype.itemsize,
        }
        ledger = Ledger.create(path, level.header | facts)
    return Pass(run, level.number, level.grid, ledger, later)


def _is_there(job: Job, level: PyramidLevel) -> bool:
    try:
        return open_output(job.config.output.path, level.number).shape == level.shape
    except OutputError:
        return False


def _drop(job: Job, number: int) -> None:
    """Let nothing above a level count that is not complete, and name neither it nor those above."""
    _name(job, max(0, number - 1))
    for above, path in level_ledgers(job.config.output.path).items():
        if above > number:
            log.info("level %d of the pyramid is made anew, as what is below it changes", above)
            discard(path)


def _name(job: Job, count: int) -> None:
    """Name so many levels in the metadata of the output."""
    describe_levels(job.config.output.path, job.image, job.plan.levels[:count])
