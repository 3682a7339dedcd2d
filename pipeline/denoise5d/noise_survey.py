"""The noise of an image, channel by channel, as a run would find it, and what to think of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from denoise5d.config import Config
from denoise5d.errors import NoiseError
from denoise5d.identity import estimate_from, given_noise, read_samples
from denoise5d.noise import HALF_A_PHOTON, NoiseEstimate, NoiseModel, sample_boxes
from denoise5d.noise_doubts import cut_off, doubts
from denoise5d.prepare import open_input

_FAR = 0.1
"""Relative difference of the variances from which a given noise is doubted."""


@dataclass(frozen=True, slots=True)
class ChannelNoise:
    """What was found in one channel.

    Attributes
    ----------
    channel : int
        Its number.
    found : NoiseEstimate or NoiseError
        The estimate, or why there is none.
    doubts : tuple of str
        What speaks against it.
    given : NoiseModel or None
        What the YAML gives.
    """

    channel: int
    found: NoiseEstimate | NoiseError
    doubts: tuple[str, ...]
    given: NoiseModel | None


def survey(config: Config, progress: Callable[[float, float], None]) -> list[ChannelNoise]:
    """Estimate the noise of every channel of the image of a YAML, from the boxes a run samples.

    Parameters
    ----------
    config : Config
        Names the image; may give a noise, which is then compared.
    progress : callable
        Is told how many boxes have been read, and of how many.

    Raises
    ------
    InputError
        If the image cannot be read.
    NoiseError
        If the YAML gives the noise of another number of channels.
    """
    image = open_input(config)
    channels = image.info.shape[1]
    models = given_noise(config.noise, channels)
    boxes = len(sample_boxes(image.info.shape, 0))
    result = []
    for channel in range(channels):
        given = None if models is None else models[channel]
        samples = []
        for sample in read_samples(image, channel):
            samples.append(sample)
            progress(channel * boxes + len(samples), channels * boxes)
        try:
            found = estimate_from(samples, channel)
        except NoiseError as error:
            hint = cut_off(samples)
            refused = NoiseError(f"{error}. {hint}") if hint else error
            result.append(ChannelNoise(channel, refused, (), given))
            continue
        against = [*doubts(found, samples), *_far_off(found, given)]
        result.append(ChannelNoise(channel, found, tuple(against), given))
    return result


def deviation(estimate: NoiseEstimate, given: NoiseModel) -> tuple[float, float]:
    """Return the smallest and largest relative difference of variances, where there were points."""
    ratio = given.variance(estimate.means) / estimate.model.variance(estimate.means) - 1
    return float(np.min(ratio)), float(np.max(ratio))


def _far_off(estimate: NoiseEstimate, given: NoiseModel | None) -> list[str]:
    if given is None or max(map(abs, deviation(estimate, given))) <= _FAR:
        return []
    low, high = deviation(estimate, given)
    return [
        f"The noise that the YAML gives is another one: its variance is {100 * low:+.0f} % to "
        f"{100 * high:+.0f} % off what is found here. With too little given, noise stays in the "
        f"result; with too much, detail goes."
    ]


def yaml_lines(models: Sequence[NoiseModel]) -> str | None:
    """Return the lines that give these noises in a YAML; None if it takes two kinds to say them."""
    if all(model.gain > 0 for model in models):
        values = {key: [getattr(m, key) for m in models] for key in ("gain", "offset")}
        if any(model.read_noise != HALF_A_PHOTON * model.gain for model in models):
            values["read_noise"] = [model.read_noise for model in models]
    elif all(model.gain == 0 for model in models):
        values = {"sigma": [model.offset**0.5 for model in models]}
    else:
        return None
    lines = (f"  {k}: [{', '.join(map(_seven_digits, each))}]" for k, each in values.items())
    return "\n".join(["noise:", *lines])


def _seven_digits(value: float) -> str:
    """Write a number without an exponent, since YAML takes ``1e-05`` for text."""
    return np.format_float_positional(float(f"{value:.7g}"), trim="-")
