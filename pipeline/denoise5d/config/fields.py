"""The kinds of values that keys take: five numbers, a number or ``auto``, a path, ...

A union such as "``auto`` or five numbers" is decided by the kind of the value alone, so that a
mistake gets one message that names the rule, not one for each member of the union.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from denoise5d.config.document import Location
from denoise5d.geometry import AXES, NDIM

RuleBroken: TypeAlias = tuple[Location, str]
"""Where, seen from the value that is checked, and the rule with what to do."""


def broken_rules(broken: Sequence[RuleBroken]) -> PydanticCustomError:
    """Return the error that carries rules broken at several places.

    Rules between values are looked at once each of the values is right by itself.
    """
    return PydanticCustomError("broken_rules", "rules broken", {"broken": list(broken)})


class Section(BaseModel):
    """A group of keys; any other key is a mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


AUTO, EXACT, TEXT, NULL, NUMBER, LIST, GROUP = (
    Tag(f"<{kind}>") for kind in ("'auto'", "'exact'", "text", "null", "number", "list", "group")
)


def _kind(value: object) -> str | None:
    """Name the kind of a YAML value; words each are a kind of their own."""
    if isinstance(value, str):
        return f"<{value!r}>"
    kinds = {type(None): NULL, int: NUMBER, float: NUMBER, tuple: LIST, dict: GROUP}
    kind = kinds.get(type(value))
    return kind.tag if kind else None


def any_text(value: object) -> str | None:
    """Name the kind of a YAML value; all words are of one kind."""
    return TEXT.tag if isinstance(value, str) else _kind(value)


def either(rule: str, kind: Callable[[object], str | None] = _kind) -> Discriminator:
    """Choose the member of a union by the kind of the value; no member of that kind: `rule`.

    The tags appear in pydantic's locations, in angle brackets.
    """
    return Discriminator(kind, custom_error_type="rule", custom_error_message=rule)


def _channel_zero(values: tuple[int, ...]) -> tuple[int, ...]:
    if values[1] != 0:
        rule = "must be 0 for C, channels are denoised one by one"
        raise broken_rules([((1,), rule)])
    return values


def _channel_one(values: tuple[int, ...]) -> tuple[int, ...]:
    if values[1] != 1:
        rule = "must be 1 for C, channels are denoised one by one"
        raise broken_rules([((1,), rule)])
    return values


def _axes(text: str) -> str:
    axes = text.upper()
    if set(axes) - set(AXES) or len(set(axes)) < len(axes) or not {"Y", "X"} <= set(axes):
        raise PydanticCustomError("rule", "must be letters of TCZYX, each once, with Y and X")
    return axes


def _one_line(text: str) -> str:
    if any(unicodedata.category(char) in ("Cc", "Zl", "Zp") for char in text):
        raise PydanticCustomError("rule", "must not hold line breaks or control characters")
    return text


def _local_path(text: str) -> str:
    if "://" in text:
        raise PydanticCustomError("rule", "must be a folder on this machine, not a URL")
    return text


def _dashboard(text: str) -> str:
    host, _, port = text.rpartition(":")
    known = port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535
    if not known or not host or not host.isprintable() or set(host) & set(" /"):
        raise PydanticCustomError("rule", "must be text of the form host:port")
    return text


Length = Annotated[int, Field(ge=1, le=2**31 - 1)]
Margin = Annotated[int, Field(ge=0, le=2**31 - 1)]
Radius = Annotated[int, Field(ge=0, le=8)]
Distance = Annotated[int, Field(ge=0, le=64)]
Stride = Annotated[int, Field(ge=1, le=17)]
Count = Annotated[int, Field(ge=1, le=100_000)]
Five = Field(min_length=NDIM, max_length=NDIM)
Shape = Annotated[tuple[Length, ...], Five]
Halo = Annotated[tuple[Margin, ...], Five, AfterValidator(_channel_zero)]
Patch = Annotated[tuple[Radius, ...], Five, AfterValidator(_channel_zero)]
Search = Annotated[tuple[Distance, ...], Five, AfterValidator(_channel_zero)]
Strides = Annotated[tuple[Stride, ...], Five, AfterValidator(_channel_one)]
Text = Annotated[str, Field(min_length=1), AfterValidator(_one_line)]
LocalPath = Annotated[Text, AfterValidator(_local_path)]
Axes = Annotated[str, AfterValidator(_axes)]
HostPort = Annotated[str, AfterValidator(_dashboard)]

DType = Literal["uint8", "uint16", "uint32", "int8", "int16", "int32", "float32"]

Auto = Annotated[Literal["auto"], AUTO]
FIVE = "a list of five whole numbers (T, C, Z, Y, X)"
AutoShape = Annotated[Auto | Annotated[Shape, LIST], either(f"must be auto or {FIVE}")]
AutoPatch = Annotated[
    Auto | Annotated[None, NULL] | Annotated[Patch, LIST], either(f"must be auto or {FIVE}")
]
AutoShards = Annotated[
    Auto | Annotated[None, NULL] | Annotated[Shape, LIST],
    either(f"must be auto, null (no shards) or {FIVE}"),
]
ExactHalo = Annotated[
    Annotated[Literal["exact"], EXACT] | Annotated[Halo, LIST],
    either(f"must be exact or {FIVE}"),
]
AutoIterations = Annotated[
    Auto | Annotated[None, NULL] | Annotated[int, Field(ge=1, le=6), NUMBER],
    either("must be auto or a whole number"),
]
AutoGroup = Annotated[
    Auto | Annotated[None, NULL] | Annotated[int, Field(ge=2, le=256), NUMBER],
    either("must be auto or a whole number"),
]
AutoSearch = Annotated[
    Auto | Annotated[None, NULL] | Annotated[Search, LIST],
    either(f"must be auto or {FIVE}"),
]
AutoStride = Annotated[
    Auto | Annotated[None, NULL] | Annotated[Strides, LIST],
    either(f"must be auto or {FIVE}"),
]
AutoCount = Annotated[
    Auto | Annotated[None, NULL] | Annotated[Count, NUMBER],
    either("must be auto or a whole number"),
]
AutoMemory = Annotated[
    Auto | Annotated[float, Field(gt=0, le=1e6), NUMBER],
    either("must be auto or a number of GiB without a unit"),
]
PerChannel = Annotated[
    Annotated[float, NUMBER]
    | Annotated[tuple[float, ...], Field(min_length=1), LIST]
    | Annotated[None, NULL],
    either("must be a number or a list with a number for each channel"),
]
"""A number for all channels, or a list with one for each."""
