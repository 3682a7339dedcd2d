"""``denoise5d plan`` and ``denoise5d run``."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from time import monotonic

import click
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from denoise5d.cli import console
from denoise5d.cli.console import duration, gib, shape, show_table, voxels
from denoise5d.config import load_config
from denoise5d.errors import PlanError
from denoise5d.execute import Run, execute
from denoise5d.identity import given_noise
from denoise5d.ledger import BlockRecord
from denoise5d.machine import this_machine
from denoise5d.noise import NoiseModel
from denoise5d.prepare import Job, describe_input, ledger_path, prepare
from denoise5d.store import free_bytes

log = logging.getLogger("denoise5d")

yaml_argument = click.argument(
    "yaml", type=click.Path(dir_okay=False, path_type=Path), metavar="YAML"
)


@click.command()
@yaml_argument
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
def plan(yaml: Path, as_json: bool) -> None:
    """Say what a run would do; write nothing.

    Exits with 2 where `run` would refuse.
    """
    show_plan(yaml, as_json=as_json)


@click.command()
@yaml_argument
@click.option("--overwrite", is_flag=True, help="Begin anew: remove what an earlier run left.")
@click.option("--dry-run", is_flag=True, help="The same as `denoise5d plan`.")
def run(yaml: Path, overwrite: bool, dry_run: bool) -> None:
    """Denoise an image; after a crash or an interrupt the same command goes on.

    Ctrl-C once finishes the blocks in work and exits with 75; twice gives them up.
    """
    if dry_run:
        show_plan(yaml, as_json=False)
    else:
        run_with_progress(yaml, overwrite=overwrite)


def run_with_progress(yaml: Path, *, overwrite: bool = False) -> Run:
    """Run a YAML with a progress bar on a terminal, with a line a block elsewhere."""
    config = load_config(yaml)
    display = _Bar() if console.errors.is_terminal else _Lines()
    with display:
        finished = execute(
            config, overwrite=overwrite, on_begin=display.begin, on_block=display.block
        )
    display.summary(finished)
    return finished


def show_plan(yaml: Path, *, as_json: bool) -> None:
    """Print the plan of a YAML; raise PlanError where a run would be refused."""
    config = load_config(yaml)
    image = describe_input(config)
    job = prepare(config, image, this_machine())
    free = free_bytes(config.output.path)
    missing = free < job.output_bytes
    if as_json:
        click.echo(
            json.dumps(
                {
                    **job.plan.to_json(),
                    "output_bytes": job.output_bytes,
                    "free_bytes": free,
                    "patch": list(job.parameters.patch),
                    "windows": [list(window) for window in job.parameters.windows],
                },
                indent=2,
            )
        )
    else:
        show_table(f"Plan of {yaml}", _plan_rows(job, free))
    if missing and config.input.path.exists():
        raise PlanError(
            f"the disk of output.path {config.output.path} has {gib(free)} free, and the output "
            f"may need {gib(job.output_bytes)} (uncompressed); make room, or choose another path"
        )


def _plan_rows(job: Job, free: int) -> list[tuple[str, str]]:
    budget, grid, layout = job.plan.budget, job.plan.grid, job.plan.layout
    noise = given_noise(job.config.noise, job.image.shape[1])
    windows = ", ".join(str(list(window)) for window in job.parameters.windows)
    halo = f"{list(grid.halo)}, " + ("exact" if job.plan.exact_halo else "APPROXIMATE: seams")
    short = "" if free >= job.output_bytes else "  TOO LITTLE"
    count = prod_voxels(job)
    rows = [
        ("input", f"{job.config.input.path}"),
        ("image", f"{shape(job.image.shape)}, {job.image.dtype}, {voxels(count)}"),
        ("noise", "auto: estimated by the run" if noise is None else _noise_words(noise)),
        ("patch radius", f"{list(job.parameters.patch)}  (T, C, Z, Y, X)"),
        ("search radius", f"{windows}, one an iteration"),
        ("halo", halo),
        ("block", f"{list(grid.block_shape)}, with halo up to {list(grid.largest_padded)}"),
        ("blocks", f"{job.plan.blocks} in {job.plan.rounds} rounds"),
        ("redundancy", f"{job.plan.redundancy:.3f}  (voxels read over voxels written)"),
        ("workers", f"{budget.workers} with {budget.threads} threads each"),
        (
            "memory a worker",
            f"{gib(job.plan.bytes_per_worker)} of {gib(budget.memory_bytes)}: "
            f"{budget.memory_factor:g} x {gib(job.plan.padded_bytes)} (block with halo in "
            f"float32) + {gib(budget.reserve_bytes)} reserve",
        ),
        ("output", f"{job.config.output.path}, {job.dtype}"),
        ("chunks, shards", f"{list(layout.chunks)}, {_shards_words(layout.shards)}"),
        ("files", f"{job.plan.files}"),
        ("disk", f"up to {gib(job.output_bytes)} needed, {gib(free)} free{short}"),
    ]
    if ledger_path(job.config).exists():
        rows.append(("earlier run", "begun already: its blocks are kept; see `denoise5d status`"))
    return rows


def prod_voxels(job: Job) -> int:
    """Return the number of voxels of the image."""
    return job.output_bytes // job.dtype.itemsize


def _shards_words(shards: tuple[int, ...] | None) -> str:
    return "no shards" if shards is None else str(list(shards))


def _noise_words(models: list[NoiseModel]) -> str:
    def one(model: NoiseModel) -> str:
        if model.gain == 0:
            return f"sigma {model.offset**0.5:.4g}"
        return f"gain {model.gain:.4g}, offset {model.offset:.4g}"

    return "; ".join(f"channel {c}: {one(model)}" for c, model in enumerate(models))


class _Display:
    """Sums over the blocks of one run; what it says at the beginning and at the end."""

    def __init__(self) -> None:
        self._begin = monotonic()
        self._voxels = 0
        self._blocks = 0
        self._peak = 0
        self._seconds = {"read": 0.0, "kernel": 0.0, "write": 0.0, "verify": 0.0}

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...

    def begin(self, run: Run) -> None:
        ledger, plan = run.ledger, run.job.plan
        log.info("noise: %s", _noise_words(run.noise))
        if ledger.done_count:
            log.info("going on: %d of %d blocks are done", ledger.done_count, ledger.blocks)
        if not plan.exact_halo:
            log.warning("blocks.halo %s is approximate: blocks may show", list(plan.grid.halo))
        log.info(
            "%d blocks of %s, %d workers with %d threads and %s each",
            ledger.blocks,
            list(plan.grid.block_shape),
            plan.budget.workers,
            plan.budget.threads,
            gib(plan.bytes_per_worker),
        )
        self._begin = monotonic()

    def block(self, run: Run, record: BlockRecord) -> None:
        self._voxels += run.job.plan.grid[record.block].core.voxels
        self._blocks += 1
        self._peak = max(self._peak, record.peak_bytes)
        for stage in self._seconds:
            self._seconds[stage] += getattr(record.seconds, stage)

    @property
    def rate(self) -> float:
        """Voxels a second since the first block was handed out."""
        return self._voxels / max(monotonic() - self._begin, 1e-9)

    def summary(self, run: Run) -> None:
        if not self._blocks:
            console.output.print(f"nothing to do: all {run.ledger.blocks} blocks are done")
            return
        total = sum(self._seconds.values())
        shares = ", ".join(f"{k} {100 * v / total:.0f} %" for k, v in self._seconds.items())
        show_table(
            f"Done: {run.job.config.output.path}",
            [
                ("blocks", f"{self._blocks} of {run.ledger.blocks} in this run"),
                ("time", f"{duration(monotonic() - self._begin)}, {voxels(self.rate)}/s"),
                ("workers' time", shares),
                (
                    "peak memory",
                    f"{gib(self._peak)} a worker, {gib(run.job.plan.bytes_per_worker)} planned",
                ),
            ],
        )


class _Lines(_Display):
    """For a log: one line a block."""

    def block(self, run: Run, record: BlockRecord) -> None:
        super().block(run, record)
        seconds = record.seconds
        log.info(
            "block %d done (%d of %d) in %s: read %.2f, kernel %.2f, write %.2f, verify %.2f s; "
            "peak %s; worker %s; %s/s",
            record.block,
            run.ledger.done_count,
            run.ledger.blocks,
            duration(seconds.read + seconds.kernel + seconds.write + seconds.verify),
            seconds.read,
            seconds.kernel,
            seconds.write,
            seconds.verify,
            gib(record.peak_bytes),
            record.worker,
            voxels(self.rate),
        )


class _Bar(_Display):
    """For a terminal."""

    def __init__(self) -> None:
        super().__init__()
        self._progress = Progress(
            TextColumn("[bold]denoising"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("blocks, {task.fields[rate]},"),
            TimeElapsedColumn(),
            TextColumn("gone,"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console.errors,
        )

    def __enter__(self) -> None:
        self._progress.start()

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def begin(self, run: Run) -> None:
        super().begin(run)
        done = run.ledger.done_count
        self._progress.add_task("", total=run.ledger.blocks, completed=done, rate="- voxel/s")

    def block(self, run: Run, record: BlockRecord) -> None:
        super().block(run, record)
        for task in self._progress.task_ids:
            rate = f"{voxels(self.rate)}/s"
            self._progress.update(task, completed=run.ledger.done_count, rate=rate)
