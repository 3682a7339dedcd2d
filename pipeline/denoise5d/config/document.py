"""A YAML file as plain data that knows its lines.

Nothing is taken from YAML but text, numbers, true/false, null, lists and mappings with text keys.
The traps of YAML 1.1 (``017`` is octal, ``1:30`` is 90, ``no`` is false, ``1e3`` is text, the last
of two equal keys wins) are refused or explained.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import yaml
from yaml.constructor import SafeConstructor

from denoise5d.errors import ConfigError

Location: TypeAlias = tuple[str | int, ...]
"""Keys and list positions from the top of the file, e.g. ``("blocks", "halo", 3)``."""

MAX_BYTES = 64 * 1024  # far beyond any YAML of ours; an image given by mistake is larger

_TAG = "tag:yaml.org,2002:"
_TEXT_TAGS = {
    _TAG + name for name in ("str", "timestamp", "value")
}  # a date may be a folder's name
_SCALAR_TAGS = {_TAG + name for name in ("int", "float", "bool", "null")}
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,3})?")
_SYNTAX_HINTS = {
    "'\\t'": "indent with spaces, never with tabs",
    "unknown escape character": "in double quotes a backslash is special: use 'single quotes'",
    "mapping values are not allowed": "check the indentation, and quote text that contains ': '",
    "could not find expected ':'": "check that the key is followed by ': ' and well indented",
    "found another document": "keep one document: remove the line ---",
    "expected ',' or": "check that every [ and { is closed",
}


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong.

    Attributes
    ----------
    line : int
        Line in the file, from 1.
    location : Location
        The key; empty for the file as a whole.
    text : str
        The rule, the value got, and what to do.
    """

    line: int
    location: Location
    text: str


class Document:
    """A YAML text, turned into dicts, tuples, text, numbers, booleans and None.

    Parameters
    ----------
    root : yaml.Node
        The composed document.

    Attributes
    ----------
    data : object
        The plain data; None stands where something could not be read.
    mistakes : list of Mistake
        What was wrong with it as YAML: double keys, keys that are no text, treacherous numbers.
    """

    def __init__(self, root: yaml.Node) -> None:
        self._root = root
        self._constructor = SafeConstructor()
        self._seen: dict[int, object] = {}  # a node met again through an alias is not read twice
        self.mistakes: list[Mistake] = []
        self.data = self._value(root, ())

    def line(self, location: Location) -> int:
        """Return the line of a key or list entry, or of the closest group that it is missing in."""
        node, line = self._root, _line(self._root)
        for step in location:
            found = _child(node, step)
            if found is None:
                break
            node, line = found
        return line

    def shown(self, location: Location) -> str | None:
        """Return the value at `location` as written, cut short; None if there is none."""
        node = self._root
        for step in location:
            found = _child(node, step)
            if found is None:
                return None
            node = found[0]
        return _shown(node)

    def _wrong(self, node: yaml.Node, location: Location, text: str) -> None:
        self.mistakes.append(Mistake(_line(node), location, text))

    def _value(self, node: yaml.Node, location: Location) -> object:
        if id(node) in self._seen:
            return self._seen[id(node)]
        self._seen[id(node)] = None  # what an alias inside its own anchor gets
        value: object
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            value = self._mapping(node, location)
        elif isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            items = enumerate(node.value)
            value = tuple([self._value(item, (*location, i)) for i, item in items])
        elif isinstance(node, yaml.ScalarNode) and node.tag in _TEXT_TAGS:
            value = self._text(node, location)
        elif isinstance(node, yaml.ScalarNode) and node.tag in _SCALAR_TAGS:
            value = self._scalar(node, location)
        else:
            tag = printable(node.tag.replace(_TAG, "!!"))
            self._wrong(node, location, f"the YAML tag {tag} is not taken; remove it")
            value = None
        self._seen[id(node)] = value
        return value

    def _mapping(self, node: yaml.MappingNode, location: Location) -> dict[str, object]:
        result: dict[str, object] = {}
        lines: dict[str, int] = {}
        for key, value in node.value:
            scalar = isinstance(key, yaml.ScalarNode) and key.tag in _TEXT_TAGS
            if not scalar or self._text(key, location) is None:
                rule = f"a key must be plain text, got {_shown(key)}; put it in quotes or remove it"
                self._wrong(key, location, rule)
                continue
            name = key.value
            if name in lines:
                rule = f"is given twice, first in line {lines[name]}; keep one of the two"
                self._wrong(key, (*location, name), rule)
            lines.setdefault(name, _line(key))
            result[name] = self._value(value, (*location, name))
        return result

    def _text(self, node: yaml.ScalarNode, location: Location) -> str | None:
        text = str(node.value)
        if any(char == "\0" or "\ud800" <= char <= "\udfff" for char in text):
            rule = f"contains a character that is no text, got {_shown(node)}; remove it"
            self._wrong(node, location, rule)
            return None
        return text

    def _scalar(self, node: yaml.ScalarNode, location: Location) -> object:
        text = node.value
        rule = "is not written as YAML expects"
        number = node.tag in (_TAG + "int", _TAG + "float")
        if number and ":" in text:
            rule = "is read by YAML as a number to the base 60; put it in quotes, or write it out"
        elif number and re.fullmatch(r"[-+]?0[0-7_]+", text):
            rule = "is read by YAML as an octal number; remove the leading 0, or quote it as text"
        else:
            try:
                return self._constructor.construct_object(node)
            except (ValueError, KeyError, IndexError):  # e.g. !!int x, !!bool x, !!int ""
                pass
        self._wrong(node, location, f"{_shown(node)} {rule}")
        return None


def read_document(path: Path) -> Document:
    """Read and parse a YAML file.

    Raises
    ------
    ConfigError
        If the file cannot be read, is too large, empty, not UTF-8 or not YAML.
    """
    text = _read(path)
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is None:
            raise ConfigError(f"{path}: is empty; it needs at least input.path and output.path")
        return Document(root)
    except yaml.YAMLError as error:
        raise ConfigError(_syntax_message(path, text, error)) from error
    except RecursionError as error:
        raise ConfigError(f"{path}: is nested too deeply; three levels are all it takes") from error
    except (ValueError, OverflowError) as error:  # PyYAML lets "\UFFFFFFFF" and its like through
        raise ConfigError(f"{path}: is not valid YAML: {printable(str(error))}") from error


def key_name(location: Location) -> str:
    """Return a location as users know it, e.g. ``blocks.halo[3]``."""
    name = ""
    for step in location:
        if isinstance(step, int):
            name += f"[{step}]"
        else:
            name += ("." if name else "") + printable(step)
    return name


def printable(text: str, limit: int = 60) -> str:
    """Return `text` cut to `limit` characters, in quotes and escaped where it is no plain text."""
    short = text if len(text) <= limit else text[: limit - 3] + "..."
    return short if short.isprintable() and short == short.strip() != "" else repr(short)


def as_written(value: object) -> str:
    """Return an example the way that it is written in YAML: text in quotes only where it must."""
    if isinstance(value, str) and yaml.safe_load(value) != value:
        return json.dumps(value)
    return json.dumps(value).replace('"', "")


def _read(path: Path) -> str:
    try:
        if path.is_dir():
            raise ConfigError(f"{path}: is a folder; give the YAML file of a run")
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: does not exist; check the name of the YAML file") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"{path}: cannot be read: {reason}") from error
    if len(raw) > MAX_BYTES:
        raise ConfigError(
            f"{path}: is larger than 64 KiB, so no YAML file of a run; give that file"
        )
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        rule = f"is not UTF-8 text, got byte 0x{raw[error.start]:02x}"
        raise ConfigError(f"{path}:{line}: {rule}; give the YAML file, saved as UTF-8") from error


def _syntax_message(path: Path, text: str, error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return f"{path}:{line}: is not valid YAML: holds a control character; remove it"
    if not isinstance(error, yaml.MarkedYAMLError):
        return f"{path}: is not valid YAML: {error}"
    mark = error.problem_mark or error.context_mark
    where = f"{path}:{mark.line + 1}" if mark else str(path)
    problem = ", ".join(part for part in (error.context, error.problem) if part)
    hints = [hint for sign, hint in _SYNTAX_HINTS.items() if sign in problem]
    return f"{where}: is not valid YAML: {'; '.join([printable(problem, 200), *hints])}"


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _child(node: yaml.Node, step: str | int) -> tuple[yaml.Node, int] | None:
    """Return the node under a key (with the key's line) or at a list position."""
    if isinstance(node, yaml.MappingNode):
        for key, value in reversed(node.value):  # of two equal keys the last one counts
            if isinstance(key, yaml.ScalarNode) and key.value == step:
                return value, _line(key)
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step], _line(node.value[step])
    return None


def _shown(node: yaml.Node, depth: int = 0) -> str:
    if isinstance(node, yaml.ScalarNode):
        return _shown_scalar(node, explain=depth == 0)
    if depth == 2:
        return "..."
    items = list(node.value[:9])
    if isinstance(node, yaml.MappingNode):
        parts = [f"{_shown(k, depth + 1)}: {_shown(v, depth + 1)}" for k, v in items]
    else:
        parts = [_shown(item, depth + 1) for item in items]
    text = ", ".join([*parts, "..."] if len(node.value) > len(items) else parts)
    return f"{{{text}}}" if isinstance(node, yaml.MappingNode) else f"[{text}]"


def _shown_scalar(node: yaml.ScalarNode, *, explain: bool) -> str:
    text = printable(node.value)
    if node.style is not None and text == node.value:
        text = f"'{text}'"
    note = ""
    if node.tag == _TAG + "null":
        return "nothing" if node.value in ("", "~", "null") else text
    if node.tag == _TAG + "bool" and node.value.lower() not in ("true", "false"):
        yes = node.value.lower() in ("yes", "on")
        note = f" (YAML reads it as {str(yes).lower()})"
    elif node.tag in _TEXT_TAGS and _NUMBER.fullmatch(node.value.replace(",", ".")):
        note = f" (YAML reads it as text: {_as_number(node.value)} is a number)"
    return text + note if explain else text


def _as_number(text: str) -> str:
    """Return text that people read as a number, the way that YAML reads as one."""
    number = float(text.replace(",", "."))
    dumped = yaml.safe_dump(int(number) if number.is_integer() else number)
    return str(dumped).splitlines()[0]
