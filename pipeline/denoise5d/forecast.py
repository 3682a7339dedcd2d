"""How long a run will take, before it has begun: by rates that were measured elsewhere.

They say whether a plan is a matter of minutes or of days. `status` says better, once there is a
block done.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod

from denoise5d.errors import PlanError
from denoise5d.geometry import Box, Index, as_index
from denoise5d.kernel import (
    reach,
)
from denoise5d.parameters import Parameters, Ridge, resolve_parameters
from denoise5d.plan import Plan
from denoise5d.prepare import Job

_RATES = {
    # (T, Z longer than 1): SAFIR alone, refined once; million voxels per second and thread
    (False, False): (4.1, 1.2),
    (True, False): (3.5, 1.3),
    (False, True): (3.4, 1.3),
    (True, True): (5.5, 2.0),
}
"""Halves of what `tests/benchmarks/speed.py` measured with two threads (docs/performance.md)."""

_PILOT = 0.25
"""Share of the pilot in the time of one round of refinement with its pilot."""

_SEARCH = 0.2
"""Share of the search for similar patches in the refinement; the rest goes with the group."""

_EFFICIENCY = 0.8
"""Of many threads, compared with one."""

_LEVEL_RATE = 20e6
"""Voxels that a level of the pyramid reads per second and thread of a worker's files; half of what
ledgers of runs have shown."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run will take, roughly.

    Attributes
    ----------
    rate : float
        Voxels per second and thread that it is reckoned with.
    block_seconds : float
        For the largest block.
    worker_seconds : float
        Of all workers together; divided by their number, the time of the whole run at best.
    level_seconds : float
        The part of it that goes into the levels of the pyramid.
    """

    rate: float
    block_seconds: float
    worker_seconds: float
    level_seconds: float = 0.0

    def wall_seconds(self, workers: int) -> float:
        """Return the time of the whole run with so many workers, at best."""
        blocks = max((self.worker_seconds - self.level_seconds) / workers, self.block_seconds)
        return blocks + self.level_seconds / workers


def forecast(job: Job, *, rate: float | None = None) -> Forecast:
    """Return what a run will take.

    Parameters
    ----------
    job : Job
        The run.
    rate : float, optional
        Voxels per second and thread; otherwise as measured for such images.
    """
    plan = job.plan
    rate = rate or _rate(job.parameters, plan)
    a_worker = rate * plan.budget.threads * (_EFFICIENCY if plan.budget.threads > 1 else 1)
    voxels = prod(plan.grid.image_shape) * plan.redundancy
    levels = sum(prod(level.below) for level in plan.levels) / (_LEVEL_RATE * job.io_threads)
    return Forecast(
        rate=rate,
        block_seconds=prod(plan.grid.largest_padded) / a_worker,
        worker_seconds=voxels / a_worker + levels,
        level_seconds=levels,
    )


def check_time(job: Job, expected: Forecast | None = None) -> None:
    """Refuse a plan whose blocks take longer than a job may run.

    Parameters
    ----------
    job : Job
        The run.
    expected : Forecast, optional
        What it will take; otherwise by `forecast`.

    Raises
    ------
    PlanError
        With both times, and the keys to change.
    """
    batch = job.config.cluster.batch
    if batch is None:
        return
    expected = expected or forecast(job)
    room = batch.walltime - batch.signal_lead
    if expected.block_seconds > room:
        raise PlanError(
            f"a block {list(job.plan.grid.largest_padded)} takes about "
            f"{expected.block_seconds:.0f} s (at {expected.rate / 1e6:.2g} million voxels per "
            f"second and thread), and a job has {room} s (cluster.walltime less "
            f"cluster.signal_lead); give more cluster.walltime, more cluster.cpus, or smaller "
            f"blocks: less cluster.memory, or blocks.shape"
        )


def measured_rate(
    job: Job, cores: Sequence[tuple[Box, Box]], *, seconds: float, threads: int
) -> float:
    """Return the rate for `forecast` that follows from what a few boxes of the image took.

    Around a small box most of the work is margin, and more so for the first steps than for the
    last. So what counts is the voxels that each step really worked on, there and in the run.

    Parameters
    ----------
    job : Job
        The run.
    cores : sequence of (Box, Box)
        What was denoised, each with what was read for it.
    seconds : float
        That all of them took together.
    threads : int
        Of the kernel.
    """
    grid = job.plan.grid
    here = whole = 0.0
    for weight, margin in _steps(job.parameters, grid.image_shape):
        here += weight * sum(
            core.grown(margin, grid.image_shape).within(read).voxels for core, read in cores
        )
        halo = as_index([min(m, h) for m, h in zip(margin, grid.halo, strict=True)])
        whole += weight * replace(grid, halo=halo).padded_voxels
    processors = threads * (_EFFICIENCY if threads > 1 else 1)
    return grid.padded_voxels / (seconds * processors * whole / here)


def _rate(parameters: Parameters, plan: Plan) -> float:
    """Return voxels per second and thread; time goes with the offsets looked at."""
    shape = plan.grid.image_shape
    alone, refined = (1e6 * n for n in _RATES[shape[0] > 1, shape[2] > 1])
    total = sum(weight for weight, _ in _steps(parameters, shape))
    return (alone if parameters.ridge is None else refined) / total


def _steps(parameters: Parameters, image_shape: Index) -> Iterator[tuple[float, Index]]:
    """Yield the time of each step, that of all with the defaults being 1, and its margin.

    The margin is how far around a core the step works: as far as the steps after it look, and a
    patch farther.
    """
    usual = resolve_parameters(image_shape, ridge=parameters.ridge is not None)
    pilot = 1.0 if parameters.ridge is None else _PILOT
    offsets, usual_offsets = (
        [prod(2 * r + 1 for r in window) for window in p.windows] for p in (parameters, usual)
    )
    for number, looked_at in enumerate(offsets, 1):
        weight = pilot * looked_at / sum(usual_offsets)
        after = _reach_after(parameters, number)
        yield weight, as_index([a + b for a, b in zip(after, parameters.patch, strict=True)])
    if parameters.ridge is not None:
        weight = (1 - _PILOT) * _refinement(parameters.ridge, usual.ridge)
        patches = [
            a + b for a, b in zip(parameters.ridge.search, parameters.ridge.patch, strict=True)
        ]
        for left in reversed(range(parameters.ridge.rounds)):
            yield weight, as_index([(2 * left + 1) * p for p in patches])


def _reach_after(parameters: Parameters, iterations: int) -> Index:
    """Return how far what follows the first iterations of SAFIR looks around a voxel."""
    whole = reach(parameters)
    done = reach(replace(parameters, windows=parameters.windows[:iterations], ridge=None))
    return as_index([a - b for a, b in zip(whole, done, strict=True)])


def _refinement(ridge: Ridge, usual: Ridge | None) -> float:
    """Return the time of a round, that of one with the defaults being 1."""
    assert usual is not None
    references = prod(usual.stride) / prod(ridge.stride)
    window, usual_window = (prod(2 * r + 1 for r in each.search) for each in (ridge, usual))
    a_group = _SEARCH * window / usual_window + (1 - _SEARCH) * ridge.group / usual.group
    return references * a_group
