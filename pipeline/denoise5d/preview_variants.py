"""The ways to denoise that a preview compares: combinations of settings and of noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from denoise5d.config import Config, DenoiseConfig, denoise_section, denoise_variant
from denoise5d.errors import RefusedError
from denoise5d.noise import HALF_A_PHOTON, NoiseModel

MOST_VARIANTS = 12
"""More are neither to be told apart in a picture nor a matter of seconds."""

QUALITIES = ("fast", "standard", "best")

_DEFAULT = {"quality": "standard"}
"""What a YAML without a section `denoise` asks for."""

_DIGITS = 7
"""Of the numbers that `yaml_lines` writes: a scaled noise has no more, so that they give it."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One of the ways to denoise that are compared.

    Attributes
    ----------
    name : str
        What it is called in tables and pictures.
    denoise : DenoiseConfig
        The settings of the estimator.
    noise_scale : float
        The noise's standard deviation, over the one that a run would use.
    of_yaml : bool
        Whether it is what the YAML says.
    lines : str
        The section ``denoise`` of a YAML, in one line.
    """

    name: str
    denoise: DenoiseConfig
    noise_scale: float
    of_yaml: bool
    lines: str


def choose_variants(
    config: Config, settings: Mapping[str, Sequence[object]], noise_scales: Sequence[float]
) -> list[Variant]:
    """Return all combinations of the values, each once.

    Parameters
    ----------
    config : Config
        What the YAML says; its settings hold where no others are given.
    settings : mapping
        Values to try by their keys in the section ``denoise``. Without any: what the YAML says,
        and if there are no `noise_scales` either, every quality.
    noise_scales : sequence of float
        Factors of the noise's standard deviation, > 0.

    Raises
    ------
    ConfigError
        If the YAML's rules forbid a combination.
    RefusedError
        If there are too many, or a scale is not positive.
    """
    bad = [scale for scale in noise_scales if not 0 < scale < np.inf]
    if bad:
        raise RefusedError(f"--noise-scale must be greater than 0 and finite, got {bad[0]:g}")
    choices = [[(key, value) for value in values] for key, values in settings.items() if values]
    sections: list[dict[str, object]] = [dict(chosen) for chosen in product(*choices)]
    if not choices and not noise_scales:
        qualities: list[dict[str, object]] = [{"quality": quality} for quality in QUALITIES]
        usual = [denoise_variant(config.denoise, section) for section in qualities]
        sections = ([] if config.denoise in usual else [{}]) + qualities
    found = [_variant(config, s, scale) for s in sections for scale in noise_scales or [1.0]]
    variants = list(dict.fromkeys(found))
    if len(variants) > MOST_VARIANTS:
        raise RefusedError(
            f"at most {MOST_VARIANTS} combinations are compared at a time, got {len(variants)}; "
            f"give fewer values, the others in a second preview"
        )
    return variants


def _variant(config: Config, section: Mapping[str, object], scale: float) -> Variant:
    denoise = denoise_variant(config.denoise, section)
    of_yaml = denoise == config.denoise and scale == 1
    words = [str(v) if k == "quality" else f"{k} {_short(v)}" for k, v in section.items()]
    if scale != 1 or not words:
        words.append("as in the YAML" if scale == 1 else f"noise × {scale:g}")
    elif of_yaml:
        words[-1] += " (the YAML's)"
    lines = section if "quality" in section else denoise_section(denoise) or _DEFAULT
    return Variant(", ".join(words), denoise, scale, of_yaml, f"denoise: {_flow(dict(lines))}")


def _short(value: object) -> str:
    """Write a value as the option takes it."""
    return _flow(value).replace(", ", ",").strip("[]")


def _flow(value: object) -> str:
    """Write a value as YAML does in one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return np.format_float_positional(value, trim="-") if isinstance(value, float) else str(value)


def scaled(model: NoiseModel, scale: float) -> NoiseModel:
    """Return noise of a standard deviation that is `scale` times as large, in round numbers.

    It is the noise that a YAML with `yaml_lines` of it gives.
    """
    if scale == 1:
        return model
    if model.gain == 0:
        return NoiseModel.gaussian(_rounded(scale * model.offset**0.5))
    gain, offset = (_rounded(scale**2 * value) for value in (model.gain, model.offset))
    if model.read_noise == HALF_A_PHOTON * model.gain:
        return NoiseModel.poisson_gaussian(gain, offset)
    return NoiseModel.poisson_gaussian(gain, offset, _rounded(scale * model.read_noise))


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
