"""A crop, denoised in several ways exactly as a run would do it there; nothing is written.

::

    open_scene      the image, the noise that a run would use, and whether it has begun
    denoise_crop    a variant: voxels, time, memory, residual, and what a run would cost

With the exact halo a crop has the bits that it has in every run. With an approximate one the cuts
show, and the blocks that the crop meets are denoised apart, as the plan cuts them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import ceil
from time import perf_counter
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from denoise5d.budget import machine_of
from denoise5d.config import Config
from denoise5d.errors import PlanError
from denoise5d.forecast import Forecast, check_time, forecast, measured_rate
from denoise5d.geometry import AXES, Box
from denoise5d.identity import (
    estimate_from,
    estimated_before,
    fingerprint,
    frozen_noise,
    given_noise,
    read_samples,
)
from denoise5d.kernel import (
    denoise_block,
    reach,
)
from denoise5d.layout import FLOAT32_BYTES
from denoise5d.ledger import Ledger, diff_fingerprints
from denoise5d.machine import GIB, this_machine
from denoise5d.noise import NoiseModel, sample_boxes
from denoise5d.noise_survey import yaml_lines
from denoise5d.parameters import Parameters
from denoise5d.plan import Plan
from denoise5d.prepare import (
    Job,
    ledger_path,
    output_dtype,
    prepare,
    prepare_begun,
    wanted_parameters,
)
from denoise5d.preview_variants import Variant, scaled
from denoise5d.store import Image, convert_dtype

Progress: TypeAlias = Callable[[float, float], None]
"""Is told how much is done, and of how much."""

_MEASURED_SECONDS = 0.2
"""The first call wakes the threads and is slow; so what is short is measured again."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What is looked at.

    Attributes
    ----------
    config : Config
        What the YAML says.
    image : Image
        The input.
    noise : dict of NoiseModel
        By channel; those that are needed.
    noise_from : {"the YAML", "the run that has begun", "the image"}
        Where it comes from.
    goes_on : bool
        Whether a run with this very YAML has begun: its blocks are those of the plan.
    """

    config: Config
    image: Image
    noise: dict[int, NoiseModel]
    noise_from: str
    goes_on: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a variant.

    Attributes
    ----------
    variant : Variant
        The variant.
    values : ndarray of float32, YX
        The crop, denoised, before it is rounded to the output's type.
    stored : ndarray, YX
        What the run would write.
    residual : ndarray of float32, YX
        Raw minus `values`, over the noise's standard deviation; NaN where there is no noise.
    seconds : float
        That the kernel took.
    memory_bytes : int
        That it may take, beside what every process has: as planned, like that of a run.
    job : Job or None
        The run; None if it cannot be planned.
    cost : Forecast or None
        What the run would take, by the rate that was measured on the crop.
    refusal : str
        Why a run would be refused; empty if it would not.
    """

    variant: Variant
    values: NDArray[np.float32]
    stored: NDArray[Any]
    residual: NDArray[np.float32]
    seconds: float
    memory_bytes: int
    job: Job | None
    cost: Forecast | None
    refusal: str

    @property
    def spread(self) -> float:
        """Standard deviation of the residual about 0: 1 if it is the noise."""
        known = self.residual[np.isfinite(self.residual)].astype(np.float64)
        return float(np.sqrt(np.mean(known**2))) if known.size else float("nan")

    @property
    def correlation(self) -> float:
        """Correlation of the residual of neighbours along Y and X: 0 if it is white noise."""
        residual = self.residual.astype(np.float64)
        pairs = [residual[1:] * residual[:-1], residual[:, 1:] * residual[:, :-1]]
        both = np.concatenate([pair.ravel() for pair in pairs])
        known = both[np.isfinite(both)]
        return float(known.mean() / self.spread**2) if known.size else float("nan")


def open_scene(config: Config, image: Image, channels: Sequence[int], progress: Progress) -> Scene:
    """Find the noise that a run would use, and whether one has begun.

    Parameters
    ----------
    config : Config
        What the YAML says.
    image : Image
        Its input.
    channels : sequence of int
        Whose noise is needed.
    progress : callable
        Is told how many boxes have been read where noise is estimated.

    Raises
    ------
    NoiseError
        If the noise cannot be estimated, or is given for another number of channels.
    OutputError
        If the ledger of an earlier run is damaged.
    """
    path = ledger_path(config)
    ledger = Ledger.open(path, read_only=True) if path.exists() else None
    goes_on = False
    if ledger is not None:
        mark = fingerprint(prepare_begun(config, image.info, ledger), image)
        goes_on = not diff_fingerprints(ledger.header.get("fingerprint", {}), mark)
    source = "the YAML"
    models = given_noise(config.noise, image.info.shape[1])
    if (models is None and ledger is not None) and (
        goes_on or estimated_before(config, image, ledger.header)
    ):
        source, models = "the run that has begun", frozen_noise(ledger.header)
    if models is None:
        source, noise = "the image", _estimated(image, channels, progress)
    else:
        noise = {channel: models[channel] for channel in channels}
        progress(1, 1)
    return Scene(config, image, noise, source, goes_on)


def _estimated(image: Image, channels: Sequence[int], progress: Progress) -> dict[int, NoiseModel]:
    models, boxes = {}, len(sample_boxes(image.info.shape, 0))
    for number, channel in enumerate(channels):
        samples = []
        for sample in read_samples(image, channel):
            samples.append(sample)
            progress(number * boxes + len(samples), len(channels) * boxes)
        models[channel] = estimate_from(samples, channel).model
    return models


def noise_lines(scene: Scene, variant: Variant) -> str | None:
    """Return the section ``noise`` of a variant; None if it takes two kinds to say it."""
    return yaml_lines([scaled(model, variant.noise_scale) for model in scene.noise.values()])


def raw_crop(scene: Scene, crop: Box) -> NDArray[Any]:
    """Return the crop as it is in the image, YX."""
    plane: NDArray[Any] = scene.image.read(crop)[0, 0, 0]
    return plane


def denoise_crop(scene: Scene, crop: Box, variant: Variant) -> Outcome:
    """Denoise a crop as a run would, and say what that run would cost.

    Parameters
    ----------
    scene : Scene
        Has the noise of the crop's channel.
    crop : Box
        One plane of one channel, as of `denoise5d.crop`.
    variant : Variant
        How.

    Raises
    ------
    PlanError
        If the crop does not fit this machine; with an approximate halo, also if the run does not
        fit its workers, since then nobody knows how it would be cut.
    InputError
        If the input is damaged or not finite.
    """
    parameters = wanted_parameters(variant.denoise, scene.image.info.shape)
    job, refusal = _planned(scene, variant)
    pieces = _pieces(scene, crop, parameters, job.plan if job else None)
    memory_bytes = _memory_bytes(scene.config, pieces)
    values, seconds = _computed(scene, crop, variant, parameters, pieces)
    cost = None
    if job:
        threads = this_machine().cpus
        cost = forecast(job, rate=measured_rate(job, pieces, seconds=seconds, threads=threads))
        try:
            check_time(job, cost)
        except PlanError as error:
            refusal = str(error)
    stored = convert_dtype(values, output_dtype(scene.config, scene.image.info))
    residual = _residual(raw_crop(scene, crop), values, scene.noise[crop.start[1]])
    return Outcome(variant, values, stored, residual, seconds, memory_bytes, job, cost, refusal)


def _planned(scene: Scene, variant: Variant) -> tuple[Job | None, str]:
    """Return the run of a variant, or why there can be none."""
    config = replace(scene.config, denoise=variant.denoise)
    anew = not (scene.goes_on and variant.of_yaml)
    try:
        return prepare(config, scene.image.info, machine_of(config), anew=anew), ""
    except PlanError as error:
        if config.blocks.halo is not None:
            raise
        return None, str(error)


def _pieces(
    scene: Scene, crop: Box, parameters: Parameters, plan: Plan | None
) -> list[tuple[Box, Box]]:
    """Return what is denoised at a time, each with what is read for it."""
    shape, far = scene.image.info.shape, reach(parameters)
    if plan is None or plan.exact_halo:
        return [(crop, crop.grown(far, shape))]
    cores = crop.tiles(plan.grid.block_shape)
    blocks = ((core, plan.grid[plan.grid.index_of(core.start)]) for core in cores)
    return [(core, core.grown(far, shape).within(block.padded)) for core, block in blocks]


def _memory_bytes(config: Config, pieces: Sequence[tuple[Box, Box]]) -> int:
    """Return the memory that the crop may take, as a block of its size is granted it by a plan."""
    most = max((read for _, read in pieces), key=lambda box: box.voxels)
    needed = ceil(config.blocks.memory_factor * FLOAT32_BYTES * most.voxels)
    given = this_machine().memory_bytes
    if needed > given:
        raise PlanError(
            f"the crop with its margin {list(most.shape)} ({', '.join(AXES)}) must fit the memory "
            f"of this machine: it takes up to {needed / GIB:.1f} GiB of {given / GIB:.1f} GiB; "
            f"give a smaller --size"
        )
    return needed


def _computed(
    scene: Scene,
    crop: Box,
    variant: Variant,
    parameters: Parameters,
    pieces: Sequence[tuple[Box, Box]],
) -> tuple[NDArray[np.float32], float]:
    """Return the denoised plane, and the kernel's seconds."""
    channel = crop.start[1]
    noise = [scaled(scene.noise[channel], variant.noise_scale)] * (channel + 1)
    values, seconds = np.empty(crop.shape, np.float32), 0.0
    for core, read in pieces:
        denoise = partial(
            denoise_block,
            scene.image.read(read),
            padded_origin=read.start,
            core=core,
            image_shape=scene.image.info.shape,
            noise=noise,
            parameters=parameters,
            threads=this_machine().cpus,
        )
        values[core.relative_to(crop.start).slices], took = _timed(denoise)
        seconds += took
    return values[0, 0, 0], seconds


def _timed(denoise: Callable[[], NDArray[np.float32]]) -> tuple[NDArray[np.float32], float]:
    """Return the result and the shortest time; what takes no time is done a few times."""
    spent, shortest = 0.0, float("inf")
    while spent < _MEASURED_SECONDS:
        begin = perf_counter()
        result = denoise()
        took = perf_counter() - begin
        spent, shortest = spent + took, min(shortest, took)
    return result, shortest


def _residual(
    raw: NDArray[Any], values: NDArray[np.float32], noise: NoiseModel
) -> NDArray[np.float32]:
    variance = noise.variance(values.astype(np.float64))
    known = np.where(variance > 0, variance, np.nan)
    residual = (raw.astype(np.float64) - values) / np.sqrt(known)
    return residual.astype(np.float32)
