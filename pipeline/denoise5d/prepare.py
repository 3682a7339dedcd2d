"""From the YAML and the image to everything that a run is made of; nothing is written here.

::

    Config ──┐
             ├──> parameters, halo, budget ──> Job: a new plan, or the blocks of the earlier run
    Image  ──┘
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from denoise5d.budget import INTERPRETER_BYTES, NO_LIMIT, io_threads, share_out
from denoise5d.config import Config, DenoiseConfig
from denoise5d.errors import InputError, OutputError, PlanError
from denoise5d.geometry import BlockGrid, Index, as_index
from denoise5d.kernel import build_info, reach
from denoise5d.ledger import LEDGER_NAME, LOCK_NAME, Ledger, run_folder
from denoise5d.levels import PyramidLevel, make_levels
from denoise5d.machine import GIB, Machine, this_machine
from denoise5d.parameters import Parameters, resolve_parameters, resolve_ridge
from denoise5d.plan import Budget, Layout, Plan, choose_layout, make_plan
from denoise5d.sources import open_source
from denoise5d.store import Description, Image


@dataclass(frozen=True, slots=True)
class Job:
    """A run as it will be done.

    Attributes
    ----------
    config : Config
        What the user wrote.
    image : Description
        The input; an `ImageInfo` where it can be read.
    parameters : Parameters
        Of the estimator.
    plan : Plan
        The blocks and what they need.
    dtype : numpy.dtype
        Of the output.
    """

    config: Config
    image: Description
    parameters: Parameters
    plan: Plan
    dtype: np.dtype[Any]

    @property
    def io_threads(self) -> int:
        """Threads that decode and encode chunks in one worker."""
        return io_threads(self.plan.budget.threads)

    @property
    def output_bytes(self) -> int:
        """Bytes of all voxels of the output and its pyramid, uncompressed."""
        return self.plan.output_bytes(self.dtype.itemsize)


def ledger_path(config: Config) -> Path:
    """Return where a run keeps its ledger."""
    return run_folder(config.output.path) / LEDGER_NAME


def lock_path(config: Config) -> Path:
    """Return the file that keeps a second driver off the output."""
    return run_folder(config.output.path) / LOCK_NAME


def open_input(config: Config) -> Image:
    """Open the image of a YAML; raise InputError where it is not what the YAML says."""
    image = open_source(config.input.path, axes=config.input.axes, dataset=config.input.dataset)
    for key, given, own in (
        ("shape", config.input.shape, image.info.shape),
        ("dtype", config.input.dtype, image.info.dtype.name),
    ):
        if given is not None and given != own:
            raise InputError(
                f"input.{key} must be the image's own, {own}, got {given} ({config.source}); "
                f"correct it, or leave out input.shape and input.dtype"
            )
    return image


def describe_input(config: Config) -> Description:
    """Return what is known of the input: from the image, or where there is none from the YAML."""
    if config.input.shape is None or config.input.path.exists():
        return open_input(config).info
    dtype = np.dtype(config.input.dtype)
    return Description(name=config.input.path.stem, shape=config.input.shape, dtype=dtype)


def prepare(config: Config, image: Description, machine: Machine, *, anew: bool = False) -> Job:
    """Plan a run; one that was begun earlier keeps the blocks that it began with.

    Parameters
    ----------
    config : Config
        What the user wrote.
    image : Description
        The input.
    machine : Machine
        What there is to share out among the workers.
    anew : bool
        Plan as if there had never been an earlier run.

    Raises
    ------
    PlanError
        If no block fits the memory, or the blocks begun with do not fit any more.
    OutputError
        If the ledger of the earlier run is damaged.
    """
    build_info()  # refuses an instruction set that is asked for and not there
    parameters = wanted_parameters(config.denoise, image.shape)
    budget = share_out(config, image, parameters, machine)
    ledger = ledger_path(config)
    if ledger.exists() and not anew:
        plan = _begun_plan(Ledger.open(ledger, read_only=True), budget)
    else:
        plan = _new_plan(config, image.shape, parameters, budget)
    if config.output.pyramid:
        plan = replace(plan, levels=_levels(plan.grid, plan.layout, image))
    dtype = output_dtype(config, image)
    plan.layout.check_bytes(dtype.itemsize)
    return Job(config, image, parameters, plan, dtype)


def prepare_begun(config: Config, image: Description, ledger: Ledger) -> Job:
    """Return a run that was begun, to look at what it made: no worker has to fit this machine.

    Its levels are all that there may be, whether the YAML wants them or not.

    Raises
    ------
    OutputError
        If the ledger does not say how the run was cut into blocks.
    """
    build_info()
    parameters = wanted_parameters(config.denoise, image.shape)
    budget = Budget(
        workers=1,
        threads=this_machine().cpus,
        memory_bytes=NO_LIMIT,
        memory_factor=config.blocks.memory_factor,
        reserve_bytes=INTERPRETER_BYTES,
    )
    plan = _begun_plan(ledger, budget)
    plan = replace(plan, levels=_levels(plan.grid, plan.layout, image))
    return Job(config, image, parameters, plan, output_dtype(config, image))


def _levels(grid: BlockGrid, layout: Layout, image: Description) -> tuple[PyramidLevel, ...]:
    core = prod(grid.block_shape)
    return make_levels(image.shape, image.scales, layout=layout, core_voxels=core)


def begun_levels(ledger: Ledger, image: Description) -> tuple[PyramidLevel, ...]:
    """Return the levels that the pyramid of a run has, or may have, from its ledger.

    Parameters
    ----------
    ledger : Ledger
        Of the run.
    image : Description
        The input, or the output that the run began.

    Raises
    ------
    OutputError
        If the ledger does not say how the run was cut into blocks.
    """
    grid, layout, _ = _begun_cut(ledger)
    return _levels(grid, layout, image)


def output_dtype(config: Config, image: Description) -> np.dtype[Any]:
    """Return the type of the output's voxels."""
    return image.dtype if config.output.dtype == "same" else np.dtype(np.float32)


def wanted_parameters(denoise: DenoiseConfig, image_shape: Index) -> Parameters:
    """Return the parameters that a YAML asks for, its gaps filled in."""
    safir = resolve_parameters(
        image_shape,
        patch=denoise.patch,
        iterations=denoise.iterations,
        pvalue=denoise.pvalue,
        ridge=False,
    )
    if denoise.ridge is None:
        return safir
    return replace(safir, ridge=resolve_ridge(image_shape, **asdict(denoise.ridge)))


def wanted_halo(config: Config, parameters: Parameters) -> Index:
    """Return the halo that a YAML asks for; the plan of an earlier run may have had another."""
    return reach(parameters) if config.blocks.halo is None else config.blocks.halo


def grid_header(plan: Plan) -> dict[str, Any]:
    """Return the part of the ledger's header that `prepare` reads back: blocks and files."""
    return {
        "blocks": plan.blocks,
        "image_shape": plan.grid.image_shape,
        "block_shape": plan.grid.block_shape,
        "halo": plan.grid.halo,
        "exact_halo": plan.exact_halo,
        "chunks": plan.layout.chunks,
        "shards": plan.layout.shards,
        "output_format": plan.layout.format,
    }


def _new_plan(config: Config, image_shape: Index, parameters: Parameters, budget: Budget) -> Plan:
    halo = wanted_halo(config, parameters)
    needed = [min(h, n - 1) for h, n in zip(reach(parameters), image_shape, strict=True)]
    layout = choose_layout(
        image_shape,
        halo,
        chunks=config.output.chunks,
        shards=config.output.shards,
        shards_auto=config.output.shards_auto,
        output_format=config.output.format,
        budget=budget,
    )
    return make_plan(
        image_shape,
        layout=layout,
        halo=halo,
        exact_halo=all(h >= n for h, n in zip(halo, needed, strict=True)),
        block_shape=config.blocks.shape,
        budget=budget,
    )


def _begun_cut(ledger: Ledger) -> tuple[BlockGrid, Layout, bool]:
    """Return the blocks and files that a run began with, and whether its halo is exact."""
    header = ledger.header
    try:
        image_shape, block_shape, halo, chunks = (
            as_index(header[key]) for key in ("image_shape", "block_shape", "halo", "chunks")
        )
        shards = None if header["shards"] is None else as_index(header["shards"])
        layout = Layout(chunks, shards, header["output_format"])
        exact_halo = bool(header["exact_halo"])
    except (KeyError, TypeError, ValueError) as error:
        raise OutputError(
            f"{ledger.path} does not say how its run was cut into blocks ({error!r}); "
            f"begin anew with `denoise5d run --overwrite`"
        ) from error
    return BlockGrid(image_shape, block_shape, halo), layout, exact_halo


def _begun_plan(ledger: Ledger, budget: Budget) -> Plan:
    grid, layout, exact_halo = _begun_cut(ledger)
    plan = Plan(grid, layout, budget, exact_halo)
    if plan.bytes_per_worker > budget.memory_bytes:
        raise PlanError(
            f"the blocks that this run began with ({list(grid.block_shape)}) need "
            f"{plan.bytes_per_worker / GIB:.2f} GiB a worker at blocks.memory_factor "
            f"{budget.memory_factor:g}, and a worker has {budget.memory_bytes / GIB:.2f} GiB. "
            f"Give cluster.memory more or run fewer cluster.workers; or begin anew with smaller "
            f"blocks: --overwrite (the blocks done so far are lost)."
        )
    return plan
