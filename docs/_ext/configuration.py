"""The reference of the YAML, from the models that check it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from denoise5d.config import json_schema
from denoise5d.config.models import SECTIONS

_UNLIMITED = 100_000
"""Upper bounds from here on only keep numbers sane."""

_KINDS = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "`true` or `false`",
    "null": "`null`",
}


def reference() -> str:
    """Return Markdown with a heading for each section and an entry for each of its keys."""
    return "\n".join(_sections())


def _sections() -> Iterator[str]:
    whole = json_schema()
    parts = whole["$defs"]
    schemas = {place: parts.get(model.__name__, whole) for place, model in SECTIONS.items()}
    for place, section in schemas.items():
        if not place:
            continue  # it holds nothing but the other sections
        yield f"## {'.'.join(place)}\n\n{section['description']}\n"
        itself = schemas[place[:-1]]["properties"][place[-1]]
        if "oneOf" in itself or "anyOf" in itself:  # a word may stand in the place of the section
            yield _entry(place, itself, required=False)
        for key, value in section["properties"].items():
            if (*place, key) not in SECTIONS:
                yield _entry((*place, key), value, required="default" not in value)


def _entry(place: tuple[str, ...], value: dict[str, Any], *, required: bool) -> str:
    """Write one key as an entry that can be linked to."""
    null = "null" in value["description"]  # elsewhere it only means: not given
    if required:
        default = "none, it must be given"
    elif value["default"] is None and not null:
        default = "not given"
    else:
        default = f"`{_yaml(value['default'])}`"
    examples = "\n".join(f"{place[-1]}: {_yaml(example)}" for example in value["examples"])
    return (
        f"````{{confval}} {'.'.join(place)}\n:type: {words(value, null=null)}\n"
        f":default: {default}\n\n{value['description']}\n\n```yaml\n{examples}\n```\n````\n"
    )


def _yaml(value: object) -> str:
    """Write a value as in a YAML, on one line."""
    text: str = yaml.safe_dump(value, default_flow_style=True, width=1000)
    return text.removesuffix("...\n").strip()


def words(schema: dict[str, Any], *, null: bool = True) -> str:
    """Say what values a JSON schema allows."""
    if kinds := schema.get("oneOf") or schema.get("anyOf"):
        return _either([words(kind) for kind in kinds if null or kind.get("type") != "null"])
    if "$ref" in schema:
        return "the keys below"
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return _either([f"`{value}`" for value in schema["enum"]])
    if schema["type"] == "array":
        return _list_words(schema)
    return _KINDS[schema["type"]] + _range(schema)


def _either(kinds: list[str]) -> str:
    *first, last = kinds
    return f"{', '.join(first)} or {last}" if first else last


def _list_words(schema: dict[str, Any]) -> str:
    items = schema["items"]
    if "enum" in items:
        return f"list of {words(items)}"
    kind = _KINDS[items["type"]].replace("number", "numbers")
    if "maxItems" in schema:
        kind = f"{schema['maxItems']} {kind}"
    return f"list of {kind}{_range(items)}"


def _range(schema: dict[str, Any]) -> str:
    least, most = schema.get("minimum"), schema.get("maximum", _UNLIMITED)
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if above is not None:
        return f" above {above}" if below is None else f" between {above} and {below}"
    if least is None:
        return ""
    return f" from {least} to {most}" if most < _UNLIMITED else f" from {least}"
