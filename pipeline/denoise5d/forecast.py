"""How long a run will take, before it has begun: by rates that were measured elsewhere.

They say whether a plan is a matter of minutes or of days. `status` says better, once there is a
block done.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from denoise5d.errors import PlanError
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
    """

    rate: float
    block_seconds: float
    worker_seconds: float


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
    return Forecast(
        rate=rate,
        block_seconds=prod(plan.grid.largest_padded) / a_worker,
        worker_seconds=voxels / a_worker,
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


def _rate(parameters: Parameters, plan: Plan) -> float:
    """Return voxels per second and thread; time goes with the offsets looked at."""
    shape = plan.grid.image_shape
    alone, refined = (1e6 * n for n in _RATES[shape[0] > 1, shape[2] > 1])
    usual = resolve_parameters(shape, ridge=parameters.ridge is not None)
    offsets, usual_offsets = (
        sum(prod(2 * r + 1 for r in window) for window in p.windows) for p in (parameters, usual)
    )
    if parameters.ridge is None:
        return alone * usual_offsets / offsets
    pilot = _PILOT * offsets / usual_offsets
    return refined / (pilot + (1 - _PILOT) * _refinement(parameters.ridge, usual.ridge))


def _refinement(ridge: Ridge, usual: Ridge | None) -> float:
    """Return the time of all rounds, that of one with the defaults being 1."""
    assert usual is not None
    references = prod(usual.stride) / prod(ridge.stride)
    window, usual_window = (prod(2 * r + 1 for r in each.search) for each in (ridge, usual))
    a_group = _SEARCH * window / usual_window + (1 - _SEARCH) * ridge.group / usual.group
    return ridge.rounds * references * a_group
