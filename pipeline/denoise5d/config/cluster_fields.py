"""The kinds of values that only `cluster` takes: names for SLURM, times, ports, folders of nodes.

They end up in batch scripts. Each rule is a pattern that leaves no room for a second line, and for
nothing that a shell or sbatch would read as more than the value; `prologue` alone is shell text.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from denoise5d.config.fields import LIST, NULL, TEXT, LocalPath, any_text, either


@dataclass(frozen=True, slots=True)
class Pattern:
    """Text that matches as a whole and is printable, one line then; editors are told the pattern.

    Attributes
    ----------
    pattern : str
        The regular expression, read alike by Python and by JSON schema.
    rule : str
        What a user is told whose text does not match.
    """

    pattern: str
    rule: str

    def _check(self, text: str) -> str:
        if not (re.fullmatch(self.pattern, text) and text.isprintable()):
            raise PydanticCustomError("rule", "{rule}", {"rule": self.rule})
        return text

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Let pydantic check the text."""
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Add the pattern to the JSON schema."""
        return {**handler(schema), "pattern": f"^(?:{self.pattern})$"}


def seconds(walltime: str) -> int:
    """Return ``HH:MM:SS`` or ``D-HH:MM:SS`` in seconds."""
    days, _, clock = walltime.rpartition("-")
    hours, minutes, rest = map(int, clock.split(":"))
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + rest


def ports(text: str) -> tuple[int, int]:
    """Return the first and the last port of a range, ``9000:9100``."""
    first, last = map(int, text.split(":"))
    return first, last


def _walltime(text: str) -> str:
    if seconds(text) < 60:
        raise PydanticCustomError("rule", "must be a minute or more")
    return text


def _worker_ports(text: str) -> str:
    first, last = ports(text)
    if not 1 <= first < last <= 65535:
        raise PydanticCustomError("rule", "must be two ports from 1 to 65535, the smaller first")
    return text


def _home(text: str) -> str:
    try:
        return str(Path(text).expanduser())
    except RuntimeError as error:
        rule = f"must begin with a home folder that exists ({error})"
        raise PydanticCustomError("rule", "{rule}", {"rule": rule}) from error


def _shell_text(text: str) -> str:
    if any(unicodedata.category(char) == "Cc" and char not in "\n\t" for char in text):
        rule = "must not hold control characters other than line breaks and tabs"
        raise PydanticCustomError("rule", "{rule}", {"rule": rule})
    return text


Name = Annotated[
    str,
    Pattern(
        r"[A-Za-z0-9_][A-Za-z0-9_.@:,+=/-]*",
        "must be a name of letters, digits and . _ @ : , + = / -, beginning with a letter or digit",
    ),
]
Constraint = Annotated[
    str,
    Pattern(
        r"[A-Za-z0-9_.@:,+=/&|!*()\[\]-]+",
        "must be features of nodes: letters, digits and . _ @ : , + = / - & | ! * ( ) [ ], no "
        "spaces",
    ),
]
Module = Annotated[
    str,
    Pattern(
        r"[A-Za-z0-9_./+:@=][A-Za-z0-9_./+:@=-]*",
        "must be the name of one module: letters, digits and . _ / + : @ = -, not beginning with -",
    ),
]
Directive = Annotated[
    str,
    Pattern(
        r"-(?:[A-Za-z]|-[A-Za-z][A-Za-z0-9-]*(?=$|[= ]))[^#]*",
        "must be one option of sbatch that begins with -, on one line, without #SBATCH and #",
    ),
]
DirectiveName = Annotated[
    str,
    Pattern(
        r"--[A-Za-z0-9][A-Za-z0-9-]*|-[A-Za-z0-9]",
        "must be the name of an option of sbatch alone, such as --mem or -p, without its value",
    ),
]
NodePath = Annotated[
    str,
    Pattern(
        r"[~/][^$]*",
        "must be an absolute path, or begin with ~ for home, on one line and without $ variables",
    ),
    AfterValidator(_home),
]
LogPath = Annotated[
    LocalPath,
    Pattern(r"[^$]+", "must be a path on one line without $ variables"),
    AfterValidator(_home),
]
Walltime = Annotated[
    str,
    Pattern(
        r"(?:[0-9]{1,3}-)?[0-9]{1,3}:[0-5][0-9]:[0-5][0-9]",
        "must be hours:minutes:seconds or days-hours:minutes:seconds, minutes and seconds below 60",
    ),
    AfterValidator(_walltime),
]
Ports = Annotated[
    str,
    Pattern(r"[0-9]{1,5}:[0-9]{1,5}", "must be text of the form first:last"),
    AfterValidator(_worker_ports),
]
Port = Annotated[int, Field(ge=0, le=65535)]
Lead = Annotated[int, Field(ge=1, le=65535)]  # what --signal of sbatch takes
MailType = Literal[
    "BEGIN",
    "END",
    "FAIL",
    "REQUEUE",
    "TIME_LIMIT",
    "TIME_LIMIT_90",
    "TIME_LIMIT_80",
    "TIME_LIMIT_50",
    "INVALID_DEPEND",
    "STAGE_OUT",
    "ALL",
]

_ShellText = Annotated[str, AfterValidator(_shell_text)]
ShellText = Annotated[
    Annotated[_ShellText, TEXT] | Annotated[tuple[_ShellText, ...], LIST] | Annotated[None, NULL],
    either("must be text, or a list of lines", any_text),
]
