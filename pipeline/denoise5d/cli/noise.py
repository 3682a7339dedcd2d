"""``denoise5d noise``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from denoise5d.cli.console import counter, grey_level, number, say, show_table
from denoise5d.cli.options import picture_path
from denoise5d.cli.plan import noise_words, yaml_argument
from denoise5d.config import load_config
from denoise5d.errors import NoiseError, RefusedError
from denoise5d.noise import NoiseEstimate
from denoise5d.noise_survey import ChannelNoise, deviation, survey, yaml_lines
from denoise5d.report import NoiseChart, can_draw, save_noise


@click.command(
    epilog="""\b
Example:
  denoise5d noise embryo.yaml
  denoise5d noise --picture noise.png embryo.yaml"""
)
@yaml_argument
@click.option(
    "--picture",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=picture_path,
    metavar="FILE",
    help="Draw variance against mean, with the line: PNG, SVG or PDF.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
def noise(yaml: Path, picture: Path | None, as_json: bool) -> None:
    """Estimate the noise, and say how far to trust it.

    Finds for each channel what `run` would find with `noise: auto`, from the same boxes of the
    image: gain and offset, give or take two standard errors, and how well the line fits. Warns
    where the model of a camera does not hold, compares with the noise that the YAML gives, and ends
    with lines to paste into it. Exits with 2 if the noise of a channel cannot be told.

    \b
    Keys of --json:
      channels                        a dict for each:
        channel, refused              its number; why there is no estimate, or null
        gain, offset, read_noise      of the model; gain 0: Gaussian, of variance offset
        gain_error, offset_error      standard errors
        cells, points, scatter        that the line rests on; typical relative distance from it
        darkest, brightest            means of the points, in grey levels
        doubts                        what speaks against it
        given, deviation              noise in the YAML; relative range of its variance; or null
      yaml                            lines to paste, or null
    """  # noqa: D301  \b is click's: do not wrap
    if picture is not None and not can_draw():
        raise RefusedError(
            "--picture needs matplotlib: pip install 'denoise5d[report]', or leave it out"
        )
    config = load_config(yaml)
    with counter("boxes") as advance:
        channels = survey(config, advance)
    found = [c for c in channels if isinstance(c.found, NoiseEstimate)]
    refused = [str(c.found) for c in channels if isinstance(c.found, NoiseError)]
    lines = None if refused else yaml_lines([_estimate(c).model for c in found])
    if picture is not None and found:
        save_noise(picture, [_chart(channel) for channel in found])
    if as_json:
        say(json.dumps({"channels": [_json(c) for c in channels], "yaml": lines}, indent=2))
    else:
        _show(yaml, found, lines, refused)
        if picture is not None and found:
            say(f"\nPicture: {picture}")
    if refused:
        raise NoiseError("\n".join(refused))


def _show(yaml: Path, found: list[ChannelNoise], lines: str | None, refused: list[str]) -> None:
    for channel in found:
        show_table(f"Noise of {yaml}, channel {channel.channel}", _rows(channel))
        say("".join(f"\n! {doubt}" for doubt in channel.doubts) + "\n" * bool(channel.doubts))
    if lines is not None:
        say(f"To paste into the YAML:\n\n{lines}")
    elif not refused:
        say("A YAML cannot give a gain for one channel and a sigma for another: leave noise: auto.")


def _estimate(channel: ChannelNoise) -> NoiseEstimate:
    assert isinstance(channel.found, NoiseEstimate)
    return channel.found


def _rows(channel: ChannelNoise) -> list[tuple[str, str]]:
    found = _estimate(channel)
    model = found.model
    give = grey_level(float(f"{2 * found.offset_error:.2g}"))
    if model.gain:
        black, offset = -model.offset / model.gain, grey_level(model.offset)
        rows = [
            ("gain", f"{model.gain:.4g} ± {2 * found.gain_error:.2g} grey levels a photon"),
            ("offset", f"{offset} ± {give} grey levels² (variance at grey level 0)"),
            ("black level", f"{grey_level(black)} grey levels, or read noise² / gain above it"),
        ]
    else:
        rows = [
            ("sigma", f"{model.offset**0.5:.4g} grey levels (variance {model.offset:.4g} ± {give})")
        ]
    span = f"{grey_level(found.means.min())} to {grey_level(found.means.max())} grey levels"
    where = f"{number(len(found.means), 'point')} of {found.cells} cells, from {span}"
    rows.append(("fit", f"{where}, typically {100 * found.scatter:.1f} % off the line"))
    if channel.given is not None:
        low, high = (f"{100 * value:+.1f} %" for value in deviation(found, channel.given))
        rows.append(
            (
                "in the YAML",
                f"{noise_words([channel.given]).partition(': ')[2]}: variance {low} to {high} off",
            )
        )
    return rows


def _chart(channel: ChannelNoise) -> NoiseChart:
    model = _estimate(channel).model
    words = noise_words([model]).partition(": ")[2]
    return NoiseChart(f"channel {channel.channel}: {words}", _estimate(channel), channel.given)


def _json(channel: ChannelNoise) -> dict[str, Any]:
    if isinstance(channel.found, NoiseError):
        return {"channel": channel.channel, "refused": str(channel.found)}
    found, given = channel.found, channel.given
    return {
        "channel": channel.channel,
        "refused": None,
        "gain": found.model.gain,
        "offset": found.model.offset,
        "read_noise": found.model.read_noise,
        "gain_error": found.gain_error,
        "offset_error": found.offset_error,
        "cells": found.cells,
        "points": len(found.means),
        "scatter": found.scatter,
        "darkest": float(found.means.min()),
        "brightest": float(found.means.max()),
        "doubts": list(channel.doubts),
        "given": given and {"gain": given.gain, "offset": given.offset},
        "deviation": given and list(deviation(found, given)),
    }
