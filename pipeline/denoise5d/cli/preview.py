"""``denoise5d preview``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import isnan
from pathlib import Path
from typing import Any

import click

from denoise5d.budget import io_threads
from denoise5d.cli.console import counter, duration, say, show_columns, show_table, size
from denoise5d.cli.options import picture_path
from denoise5d.cli.plan import noise_words, yaml_argument
from denoise5d.config import load_config
from denoise5d.crop import Place, crop_at, structured_crop
from denoise5d.geometry import Box
from denoise5d.machine import this_machine
from denoise5d.prepare import open_input
from denoise5d.preview import Outcome, Scene, denoise_crop, noise_lines, open_scene, raw_crop
from denoise5d.preview_variants import Variant, choose_variants
from denoise5d.report import PreviewPanel, VoxelSize, can_draw, save_preview
from denoise5d.store import limit_threads

_SIDE = 256
_UNITS = {"micrometer": "µm", "nanometer": "nm", "millimeter": "mm"}


def _place(context: click.Context, parameter: click.Parameter, text: str | None) -> Place | None:
    if text is None:
        return None
    t, z, y, x = _whole(context, parameter, text, counts=(4,))
    return t, z, y, x


def _size(context: click.Context, parameter: click.Parameter, text: str) -> tuple[int, int]:
    numbers = _whole(context, parameter, text, counts=(1, 2))
    return numbers[0], numbers[-1]


def _whole(
    _context: click.Context, parameter: click.Parameter, text: str, *, counts: Sequence[int]
) -> list[int]:
    """Return as many whole numbers as there may be."""
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in counts:
        raise click.BadParameter(f"must be whole numbers {parameter.metavar}, got {text}")
    return numbers


def _value(text: str) -> object:
    """Return a number where there is one; the rules of the YAML judge the rest."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _split(_context: click.Context, _parameter: click.Parameter, given: Any) -> list[object]:
    """Return the values of an option that may be repeated, or hold a list with commas."""
    return [_value(part.strip()) for text in given for part in text.split(",")]


def _patches(_context: click.Context, _parameter: click.Parameter, given: Any) -> list[object]:
    """Return patches: each is five numbers, so that a comma is not between two of them."""
    parts = ([_value(part.strip()) for part in text.split(",")] for text in given)
    return [tuple(values) if len(values) > 1 else values[0] for values in parts]


def _scales(context: click.Context, parameter: click.Parameter, given: Any) -> list[float]:
    values = _split(context, parameter, given)
    if bad := [value for value in values if isinstance(value, str)]:
        raise click.BadParameter(f"must be numbers greater than 0, got {bad[0]}")
    return [float(str(value)) for value in values]


@click.command(
    epilog="""\b
Example:
  denoise5d preview embryo.yaml
  denoise5d preview --at 8,700,1024,900 --iterations 1,2 --pvalue 0.05,0.1 embryo.yaml"""
)
@yaml_argument
@click.option(
    "--at",
    callback=_place,
    metavar="T,Z,Y,X",
    help="The voxel in the middle, from 0; left out: the most structured place that is found.",
)
@click.option(
    "--size",
    callback=_size,
    metavar="Y,X",
    default=str(_SIDE),
    show_default=True,
    help="Voxels of the crop, or the side of a square; at most the image.",
)
@click.option("--channel", type=int, default=0, show_default=True, help="Channel, from 0.")
@click.option(
    "--quality",
    multiple=True,
    callback=_split,
    metavar="NAME,...",
    help="Qualities: fast, standard, best.",
)
@click.option(
    "--patch",
    multiple=True,
    callback=_patches,
    metavar="T,C,Z,Y,X",
    help="Radius of its patch, or auto; give the option again for another.",
)
@click.option(
    "--iterations",
    multiple=True,
    callback=_split,
    metavar="N,...",
    help="Numbers of iterations of the first estimate.",
)
@click.option(
    "--pvalue",
    multiple=True,
    callback=_split,
    metavar="P,...",
    help="Its p-values: how readily places are taken for different.",
)
@click.option(
    "--noise-scale",
    multiple=True,
    callback=_scales,
    metavar="S,...",
    help="What if the noise's standard deviation were so many times as large.",
)
@click.option(
    "--picture",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=picture_path,
    metavar="FILE",
    help="PNG, SVG or PDF; left out: YAML's name and -preview.png, in the current folder.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
def preview(
    yaml: Path,
    at: Place | None,
    size: tuple[int, int],
    channel: int,
    noise_scale: list[float],
    picture: Path | None,
    as_json: bool,
    **settings: list[object],
) -> None:
    """Denoise a crop in several ways, and show them side by side.

    The crop is one plane. Its voxels are those that a run would write there, to the last bit: same
    noise, same margin. Without options it is denoised with each quality, and as the YAML says if
    that is something else. --quality, --iterations, --pvalue and --noise-scale take values with
    commas between them, --patch may be repeated, and all combinations are compared, twelve at most.
    A quality stands for all settings of the estimator. What is not given is as in the YAML.

    The picture has the raw crop, the results with the same contrast, and the residuals: raw minus
    result, over the noise's standard deviation. Nothing else is written. The time is that of this
    machine, for the crop and, worked out from it, for the whole run.

    \b
    Keys of --json:
      yaml, picture                   paths; picture null: none was drawn
      start, stop                     of the crop, T, C, Z, Y, X: first voxel, first one beyond
      noise_from, gain, offset        where the noise comes from; that of the channel
      combinations                    a dict for each:
        name, of_yaml, noise_scale    what it is; whether it is what the YAML says
        denoise, noise                lines for the YAML; noise null: as it is
        seconds, memory_bytes         for the crop, with its margin
        residual, correlation         standard deviation, 1 if it is the noise; of neighbours;
                                      null: no noise here
        run                           of the whole image, null if it cannot be planned:
          seconds, worker_seconds     by the clock; of all workers together
          blocks, bytes_per_worker    how many; memory
        refusal                       why a run would be refused, or null
    """  # noqa: D301  \b is click's: do not wrap
    config = load_config(yaml)
    limit_threads(io_threads(this_machine().cpus))
    variants = choose_variants(config, settings, noise_scale)
    image = open_input(config)
    shape = image.info.shape
    crop = crop_at(shape, at or (0, 0, 0, 0), size, channel)  # refuses before anything is read
    every = any(scale != 1 for scale in noise_scale)  # lines for a YAML name all channels
    with counter("noise") as advance:
        scene = open_scene(config, image, range(shape[1]) if every else [channel], advance)
    if at is None:
        with counter("places") as advance:
            crop = structured_crop(image, size, channel, scene.noise[channel], advance)
    outcomes: list[Outcome] = []
    with counter("combinations") as advance:
        advance(0, len(variants))
        for variant in variants:
            outcomes.append(denoise_crop(scene, crop, variant))
            advance(len(outcomes), len(variants))
    picture = picture or Path(f"{yaml.stem}-preview.png")
    drawn = picture if can_draw() else None
    if as_json:
        found = [_json(scene, outcome) for outcome in outcomes]
        say(json.dumps(_json_head(yaml, drawn, scene, crop) | {"combinations": found}, indent=2))
    else:
        _show(yaml, scene, crop, outcomes)
    if drawn:
        _draw(drawn, scene, crop, outcomes)
    if not as_json:
        missing = "left out: it needs matplotlib (pip install 'denoise5d[report]')"
        say(f"\nPicture: {drawn or missing}")


def _where(crop: Box) -> str:
    t, c, z, y, x = crop.start
    return f"T {t}, C {c}, Z {z}, Y {y}:{crop.stop[3]}, X {x}:{crop.stop[4]}"


def _show(yaml: Path, scene: Scene, crop: Box, outcomes: Sequence[Outcome]) -> None:
    noise = noise_words([scene.noise[crop.start[1]]]).partition(": ")[2]
    show_table(
        f"Preview of {yaml}",
        [("crop", _where(crop)), ("noise", f"{noise}, from {scene.noise_from}")],
    )
    batch = scene.config.cluster.batch is not None
    head = ["", "time", "memory", "residual", "correlation", "run: time", "blocks", "a worker"]
    say("")
    show_columns([*head, "node-hours"] if batch else head, [_row(o, batch) for o in outcomes])
    say(
        "\nResidual: its standard deviation over the noise's, 1 if it is the noise; with more, "
        "structure was\ntaken away, with less, noise stays. Correlation: of neighbours in it, 0 if "
        "it is the noise."
    )
    for outcome in outcomes:
        if outcome.refusal:
            say(f"\n! {outcome.variant.name}: a run would be refused: {outcome.refusal}")
    say("\nTo have one of them, write into the YAML:\n")
    show_columns(None, [[o.variant.name, _lines(scene, o.variant)] for o in outcomes])


def _row(outcome: Outcome, batch: bool) -> list[str]:
    cells = [
        outcome.variant.name,
        _time(outcome),
        size(outcome.memory_bytes),
        _judgement(outcome.spread, ".2f"),
        _judgement(outcome.correlation, "+.2f"),
    ]
    job, cost = outcome.job, outcome.cost
    if job is None or cost is None:
        return [*cells, "refused", "", "", *[""] * batch]
    wall = duration(cost.wall_seconds(job.plan.budget.workers))
    hours = [f"{cost.worker_seconds / 3600:.2g}"] if batch else []
    return [*cells, wall, str(job.plan.blocks), size(job.plan.bytes_per_worker), *hours]


def _time(outcome: Outcome) -> str:
    return f"{outcome.seconds:.2f} s" if outcome.seconds < 1 else duration(outcome.seconds)


def _run_words(outcome: Outcome) -> str:
    if outcome.job is None or outcome.cost is None:
        return "run: refused"
    plan = outcome.job.plan
    wall = duration(outcome.cost.wall_seconds(plan.budget.workers))
    return f"run: {wall}, {size(plan.bytes_per_worker)} a worker"


def _judgement(value: float, layout: str) -> str:
    """Write a number about the residual; where there is no noise there is none."""
    return "-" if isnan(value) else format(value, layout)


def _lines(scene: Scene, variant: Variant) -> str:
    """Return what a YAML must say, each section in one line."""
    noise = _noise(scene, variant)
    return variant.lines if noise is None else f"{variant.lines}   {noise}"


def _noise(scene: Scene, variant: Variant) -> str | None:
    if variant.noise_scale == 1:
        return None
    section, *keys = (noise_lines(scene, variant) or "noise:").splitlines()
    return f"{section} {{{', '.join(key.strip() for key in keys)}}}" if keys else None


def _json_head(yaml: Path, picture: Path | None, scene: Scene, crop: Box) -> dict[str, Any]:
    model = scene.noise[crop.start[1]]
    return {
        "yaml": str(yaml),
        "picture": None if picture is None else str(picture),
        "start": list(crop.start),
        "stop": list(crop.stop),
        "noise_from": scene.noise_from,
        "gain": model.gain,
        "offset": model.offset,
    }


def _json(scene: Scene, outcome: Outcome) -> dict[str, Any]:
    variant, job, cost = outcome.variant, outcome.job, outcome.cost
    run = None
    if job is not None and cost is not None:
        run = {
            "seconds": cost.wall_seconds(job.plan.budget.workers),
            "worker_seconds": cost.worker_seconds,
            "blocks": job.plan.blocks,
            "bytes_per_worker": job.plan.bytes_per_worker,
        }
    return {
        "name": variant.name,
        "of_yaml": variant.of_yaml,
        "noise_scale": variant.noise_scale,
        "denoise": variant.lines,
        "noise": _noise(scene, variant),
        "seconds": outcome.seconds,
        "memory_bytes": outcome.memory_bytes,
        "residual": None if isnan(outcome.spread) else outcome.spread,
        "correlation": None if isnan(outcome.correlation) else outcome.correlation,
        "run": run,
        "refusal": outcome.refusal or None,
    }


def _draw(path: Path, scene: Scene, crop: Box, outcomes: Sequence[Outcome]) -> None:
    info = scene.image.info
    panels = [
        PreviewPanel(
            caption=f"{outcome.variant.name}\n{_time(outcome)}, {size(outcome.memory_bytes)}\n"
            f"{_run_words(outcome)}",
            below=f"residual {_judgement(outcome.spread, '.2f')}, "
            f"correlation {_judgement(outcome.correlation, '+.2f')}",
            result=outcome.stored,
            residual=outcome.residual,
        )
        for outcome in outcomes
    ]
    save_preview(path, f"{info.name}: {_where(crop)}", raw_crop(scene, crop), panels, _voxel(scene))


def _voxel(scene: Scene) -> VoxelSize:
    """Return the size of a voxel, if the image says it for both axes in the same unit."""
    info = scene.image.info
    unit = info.units[4]
    if unit is None or unit != info.units[3] or min(info.scales[3:]) <= 0:
        return VoxelSize(1.0, 1.0, "voxels")
    return VoxelSize(info.scales[3], info.scales[4], _UNITS.get(unit, unit))
