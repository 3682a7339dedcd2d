"""Other values for the section ``denoise`` of a YAML, held to the rules of the YAML itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from pydantic import ValidationError

from denoise5d.config.document import Location, as_written, key_name
from denoise5d.config.load import denoise_values, examples, rules_broken
from denoise5d.config.models import DenoiseModel, RidgeModel
from denoise5d.config.values import DenoiseConfig
from denoise5d.errors import ConfigError


def denoise_variant(base: DenoiseConfig, keys: Mapping[str, object]) -> DenoiseConfig:
    """Return the settings with some keys of the section changed.

    Parameters
    ----------
    base : DenoiseConfig
        What the YAML says.
    keys : mapping
        Keys of the section and values as a YAML would give them, lists as tuples. With ``quality``
        they are the whole section, as a quality stands for all other settings.

    Raises
    ------
    ConfigError
        If a YAML with these keys would be refused; the message has a line for each mistake.
    """
    section = dict(keys) if "quality" in keys else denoise_section(base) | dict(keys)
    try:
        return denoise_values(DenoiseModel.model_validate(section))
    except ValidationError as error:
        broken = [rule for detail in error.errors() for rule in rules_broken(detail)]
        lines = [_mistake(section, location, text) for location, text in broken]
        raise ConfigError("\n".join(lines)) from error


def denoise_section(given: DenoiseConfig) -> dict[str, object]:
    """Return the shortest section that gives these settings: only what differs from a default."""
    section: dict[str, object] = {} if given.ridge else {"method": "safir"}
    plain = {"patch": given.patch, "iterations": given.iterations, "pvalue": given.pvalue}
    section |= _unusual(plain, DenoiseModel())
    if given.ridge and (ridge := _unusual(asdict(given.ridge), RidgeModel())):
        section["ridge"] = ridge
    return section


def _unusual(
    values: Mapping[str, object], defaults: DenoiseModel | RidgeModel
) -> dict[str, object]:
    """Return the values that differ from the defaults; None stands for auto."""
    pairs = ((key, "auto" if value is None else value) for key, value in values.items())
    return {key: value for key, value in pairs if value != getattr(defaults, key)}


def _mistake(section: Mapping[str, object], location: Location, text: str) -> str:
    place: Location = ("denoise", *location)
    rule, _, advice = text.partition("; ")
    got = f", got {as_written(section[key])}" if (key := str(location[0])) in section else ""
    return f"{key_name(place)}: {rule}{got}; {advice or examples(place)}"
