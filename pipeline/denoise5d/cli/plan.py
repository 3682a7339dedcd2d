"""``denoise5d plan``."""

from __future__ import annotations

import json
from dataclasses import asdict
from math import prod
from pathlib import Path
from textwrap import indent
from typing import Any

import click

from denoise5d.batch import driver_script, job_gib, walltime
from denoise5d.budget import machine_of
from denoise5d.cli.console import duration, grey_level, number, say, shape, show_table, size, voxels
from denoise5d.cluster import worker_script
from denoise5d.config import load_config
from denoise5d.forecast import Forecast, check_time, forecast
from denoise5d.identity import fingerprint, given_noise
from denoise5d.ledger import check_fingerprint
from denoise5d.noise import NoiseModel
from denoise5d.parameters import (
    Ridge,
)
from denoise5d.prepare import Job, describe_input, ledger_path, open_input, prepare
from denoise5d.reading import TOO_MUCH, decoded_per_voxel
from denoise5d.space import check_space, file_words
from denoise5d.store import ImageInfo, free_bytes

yaml_argument = click.argument(
    "yaml", type=click.Path(dir_okay=False, path_type=Path), metavar="YAML"
)


@click.command(
    epilog="""\b
Example:
  denoise5d plan embryo.yaml
  denoise5d plan --json embryo.yaml | jq .bytes_per_worker"""
)
@yaml_argument
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    metavar="N",
    help="Million voxels per second and thread to reckon the time with.",
)
def plan(yaml: Path, as_json: bool, rate: float | None) -> None:
    """Say what a run would do; write nothing.

    Blocks, memory, time, files and disk space; with a batch system its jobs and their scripts.
    Exits with 2 where the YAML, the image, the memory, the disk, the walltime or an earlier run
    with other parameters would make `run` refuse. Works without the image if the YAML gives
    input.shape and input.dtype. The time is a guess by rates measured elsewhere, unless --rate
    gives one.

    \b
    Keys of --json (lists are T, C, Z, Y, X; lengths in voxels):
      input, output, dtype            paths; type of the output's voxels
      noise                           a model for each channel; null: the run estimates it
      patch, windows                  radii of patch and search, the latter one an iteration
      ridge                           the refinement: patch, search, stride, group, rounds; or null
      image_shape, block_shape, block_counts, largest_padded_shape, halo, exact_halo
      blocks, workers, threads, rounds, redundancy
      memory_factor, reserve_bytes, memory_bytes, bytes_per_worker
      format, chunks, shards          of the output; shards null: none
      levels                          of its pyramid: shape, factors, files of each
      files                           of all of it
      rate                            voxels per second and thread that the times are reckoned with
      block_seconds, worker_seconds   of the largest block; of all workers together
      level_seconds                   the part of the latter that goes into the pyramid
      output_bytes, free_bytes        needed at most, and free on its disk
      jobs                            of a batch system: kind, count, gib, seconds, scripts; or null
      begun                           whether an earlier run left blocks to go on with
    """  # noqa: D301  \b is click's: do not wrap
    show_plan(yaml, as_json=as_json, rate=rate and 1e6 * rate)


def show_plan(
    yaml: Path, *, as_json: bool = False, anew: bool = False, rate: float | None = None
) -> None:
    """Print the plan of a YAML; raise RefusedError where a run would be refused."""
    config = load_config(yaml)
    job = prepare(config, describe_input(config), machine_of(config), anew=anew)
    free = free_bytes(config.output.path)
    begun = ledger_path(config).exists() and not anew
    expected = forecast(job, rate=rate)
    if as_json:
        say(json.dumps(_json(job, free, expected, begun=begun), indent=2))
    else:
        show_table(f"Plan of {yaml}", _rows(job, free, expected, begun=begun))
        for title, script in _scripts(job).items():
            say(f"\n{title}:\n" + indent(script, "  "))
    check_time(job, expected)
    if not config.input.path.exists():  # planned for another machine
        return
    if begun:
        check_fingerprint(ledger_path(config), fingerprint(job, open_input(config)))
    else:
        check_space(job)


def noise_words(models: list[NoiseModel]) -> str:
    """Write the noise of every channel."""

    def one(model: NoiseModel) -> str:
        if model.gain == 0:
            return f"sigma {model.offset**0.5:.4g}"
        return f"gain {model.gain:.4g}, offset {grey_level(model.offset)}"

    return "; ".join(f"channel {c}: {one(model)}" for c, model in enumerate(models))


def _given(job: Job) -> list[NoiseModel] | None:
    return given_noise(job.config.noise, job.image.shape[1])


def _json(job: Job, free: int, expected: Forecast, *, begun: bool) -> dict[str, Any]:
    noise, batch = _given(job), job.config.cluster.batch
    jobs = batch and {
        "kind": job.config.cluster.kind,
        "count": batch.count,
        "gib": job_gib(job.config, job.plan),
        "seconds": batch.walltime,
        "scripts": list(_scripts(job).values()),
    }
    return {
        "input": str(job.config.input.path),
        "output": str(job.config.output.path),
        "dtype": job.dtype.name,
        "noise": None if noise is None else [asdict(model) for model in noise],
        "patch": list(job.parameters.patch),
        "windows": [list(window) for window in job.parameters.windows],
        "ridge": None if job.parameters.ridge is None else asdict(job.parameters.ridge),
        **job.plan.to_json(),
        **asdict(expected),
        "jobs": jobs,
        "output_bytes": job.output_bytes,
        "free_bytes": free,
        "begun": begun,
    }


def _rows(job: Job, free: int, expected: Forecast, *, begun: bool) -> list[tuple[str, str]]:
    grid, layout, noise = job.plan.grid, job.plan.layout, _given(job)
    image = f"{shape(job.image.shape)}; {job.image.dtype}, {voxels(prod(job.image.shape))}"
    halo = "exact" if job.plan.exact_halo else "APPROXIMATE: block edges may show"
    space = f"up to {size(job.output_bytes)} needed, {size(free)} free"
    short = "" if begun or free >= job.output_bytes else "  TOO LITTLE"
    rows = [
        ("input", str(job.config.input.path)),
        ("image", image),
        ("noise", "auto: the run estimates it" if noise is None else noise_words(noise)),
        ("patch radius", f"{list(job.parameters.patch)}  (T, C, Z, Y, X)"),
        ("search radius", _windows(job)),
        ("refinement", _refinement(job.parameters.ridge)),
        ("halo", f"{list(grid.halo)}, {halo}"),
        ("block", f"{list(grid.block_shape)}, with halo up to {list(grid.largest_padded)}"),
        ("blocks", f"{job.plan.blocks} in {number(job.plan.rounds, 'round')}"),
        ("redundancy", f"{job.plan.redundancy:.3f}  (voxels read over voxels written)"),
        *_reading_rows(job),
        *_machine_rows(job),
        *_time_rows(job, expected),
        ("output", f"{job.config.output.path}  ({layout.format}, {job.dtype})"),
        ("chunks", str(list(layout.chunks))),
        ("shards", "none: a file for each chunk" if layout.shards is None else _shards(layout)),
        ("pyramid", _pyramid(job)),
        ("files", file_words(job.plan)[0]),
        ("disk", space + short),
    ]
    if begun:
        rows.append(("earlier run", "has begun already: `denoise5d status` says how far it is"))
    return rows


def _reading_rows(job: Job) -> list[tuple[str, str]]:
    """Say so where most of what is decoded of the input is thrown away."""
    if not isinstance(job.image, ImageInfo):
        return []
    decoded = decoded_per_voxel(job.plan.grid, job.image.chunks)
    if decoded < TOO_MUCH:
        return []
    words = (
        f"SLOW: {decoded:.1f} voxels decoded for each one that is wanted, as the input comes in "
        f"pieces of {list(job.image.chunks)}; `denoise5d convert` it first"
    )
    return [("reading", words)]


def _machine_rows(job: Job) -> list[tuple[str, str]]:
    plan, budget = job.plan, job.plan.budget
    return [
        ("workers", f"{budget.workers}, with {number(budget.threads, 'thread')} each"),
        (
            "memory a worker",
            f"{size(plan.bytes_per_worker)} of {size(budget.memory_bytes)}: "
            f"{budget.memory_factor:g} x {size(plan.padded_bytes)} (block with halo in float32) "
            f"+ {size(budget.reserve_bytes)} reserve",
        ),
    ]


def _time_rows(job: Job, expected: Forecast) -> list[tuple[str, str]]:
    """Return the rows on time and jobs."""
    plan, batch = job.plan, job.config.cluster.batch
    best = expected.wall_seconds(plan.budget.workers)
    guess = f"{duration(expected.block_seconds)} a block, at {voxels(expected.rate)}/s and thread"
    if expected.level_seconds:
        guess += f"; the pyramid {duration(expected.level_seconds / plan.budget.workers)}"
    rows = [("time", f"about {duration(best)}; {guess}")]
    if batch is None:
        return rows
    hours = f"{expected.worker_seconds / 3600:.2g} node-hours if a worker has a node of its own"
    cpus = number(plan.budget.threads, "CPU")
    each = f"{cpus}, {job_gib(job.config, plan)} GiB, {walltime(batch.walltime)}"
    kind = "worker job" if job.config.cluster.kind == "slurm" else "node"
    beside = "and a small one for the driver" if kind == "worker job" else "in one job"
    return [*rows, ("cost", hours), ("jobs", f"{number(batch.count, kind)} of {each}, {beside}")]


def _scripts(job: Job) -> dict[str, str]:
    """Return the batch scripts of a run by what they are."""
    config, plan = job.config, job.plan
    if config.cluster.batch is None:
        return {}
    scripts = {"Batch script that `denoise5d submit` submits": driver_script(config, plan)}
    if config.cluster.kind == "slurm":
        scripts["Batch script of each worker"] = worker_script(config, plan)
    return scripts


def _windows(job: Job) -> str:
    windows = ", ".join(str(list(window)) for window in job.parameters.windows)
    return f"{windows}  ({number(len(job.parameters.windows), 'iteration')})"


def _refinement(ridge: Ridge | None) -> str:
    if ridge is None:
        return "none: SAFIR alone"
    return (
        f"patch radius {list(ridge.patch)}, search {list(ridge.search)}, "
        f"stride {list(ridge.stride)}, groups of {ridge.group}, {number(ridge.rounds, 'round')}"
    )


def _pyramid(job: Job) -> str:
    """Write the shapes of the levels, and what they take of the disk."""
    levels = job.plan.levels
    if not levels:
        wanted = job.config.output.pyramid
        return "none: the image is small" if wanted else "none: output.pyramid is false"
    shapes = ", ".join(str(list(level.shape)) for level in levels)
    space = size(sum(level.voxels for level in levels) * job.dtype.itemsize)
    return f"{number(len(levels), 'level')}: {shapes}; {space}"


def _shards(layout: Any) -> str:
    return str(list(layout.shards))
