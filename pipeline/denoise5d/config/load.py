"""From a YAML file to a `Config`, or to one error that lists every mistake in plain words."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from denoise5d.config.cluster_fields import ports, seconds
from denoise5d.config.cluster_models import ClusterModel
from denoise5d.config.document import (
    Document,
    Location,
    Mistake,
    as_written,
    key_name,
    read_document,
)
from denoise5d.config.fields import RuleBroken
from denoise5d.config.models import SECTIONS, ConfigModel, DenoiseModel, NoiseGiven
from denoise5d.config.values import (
    BatchConfig,
    BlocksConfig,
    ClusterConfig,
    Config,
    DenoiseConfig,
    InputConfig,
    NoiseConfig,
    OutputConfig,
    RidgeConfig,
)
from denoise5d.errors import ConfigError
from denoise5d.geometry import Index, as_index

Number = TypeVar("Number", int, float)

_RULES = {
    "bool_type": "must be true or false",
    "finite_number": "must be a finite number",
    "float_type": "must be a number",
    "greater_than": "must be greater than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "int_type": "must be a whole number",
    "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be at most {le}",
    "missing": "is required",
    "model_type": "must be a group of keys; write them below it, indented",
    "string_too_short": "must not be empty",
    "string_type": "must be text, in quotes if it looks like a number",
    "tuple_type": "must be a list in square brackets",
}


def load_config(path: Path) -> Config:
    """Read and check the YAML file of a run.

    Paths in it that are not absolute start at its folder; ``~`` is the home folder.

    Parameters
    ----------
    path : Path
        The YAML file.

    Returns
    -------
    Config
        Its values, defaults filled in.

    Raises
    ------
    ConfigError
        If the file cannot be read or anything in it is wrong. The message has a line for each
        mistake: ``FILE:LINE: key.sub[3]: rule, got VALUE; what to do``.
    """
    document = read_document(path)
    folder = path.absolute().parent
    model: ConfigModel | None = None
    broken = list(_path_rules(document.data, folder))
    try:
        model = ConfigModel.model_validate(_with_sections(document.data))
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            broken += rules_broken(detail)
    known = {mistake.location for mistake in document.mistakes}
    mistakes = document.mistakes + [
        _mistake(document, location, text) for location, text in broken if location not in known
    ]
    if mistakes or model is None:
        raise ConfigError(_report(path, mistakes))
    return _config(model, path.absolute())


def json_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of the YAML file, for editors to complete and check.

    Rules between keys (gain needs offset, shards are multiples of chunks) are beyond it.
    """
    schema = ConfigModel.model_json_schema()
    for definition in schema["$defs"].values():
        if "required" not in definition and definition["title"] != NoiseGiven.__name__:
            definition["type"] = ["object", "null"]  # a section may be left empty
    schema["title"] = "A run of denoise5d"
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _with_sections(data: object) -> object:
    """Fill in the sections that are empty (all their keys commented out) or required."""
    if not isinstance(data, dict):
        return data
    return _filled({"input": None, "output": None, **data}, ())


def _filled(data: dict[str, object], place: tuple[str, ...]) -> dict[str, object]:
    filled = dict(data)
    for key, value in data.items():
        if (*place, key) in SECTIONS and key != "noise":
            if value is None:
                filled[key] = {}
            elif isinstance(value, dict):
                filled[key] = _filled(value, (*place, key))
    return filled


def _is_tag(step: str | int) -> bool:
    return isinstance(step, str) and step.startswith("<")


def rules_broken(detail: ErrorDetails) -> Iterator[RuleBroken]:
    """Yield what one of pydantic's errors says, in plain words."""
    kind, context = detail["type"], detail.get("ctx", {})
    location = tuple(step for step in detail["loc"] if not _is_tag(step))
    if kind == "broken_rules":
        for inner, text in context["broken"]:
            yield (*location, *inner), text
    elif kind == "extra_forbidden":
        section = tuple(step for step in detail["loc"][:-1] if not _is_tag(step))
        location = (*section, detail["loc"][-1])  # the key itself may look like a tag
        yield location, f"is not a known key; {_where_known(location)}"
    elif kind == "literal_error":
        yield location, "must be " + context["expected"].replace("'", "")
    elif kind == "too_short" and len(detail["input"]) >= context["min_length"]:
        return  # pydantic counts the good entries only; the bad ones have errors of their own
    elif kind in ("too_short", "too_long"):
        per_channel = location[0] == "noise"
        rule = "not be empty" if per_channel else "have five entries (T, C, Z, Y, X)"
        yield location, f"must {rule}"
    else:
        yield location, _RULES[kind].format_map(context) if kind in _RULES else detail["msg"]


def _mistake(document: Document, location: Location, text: str) -> Mistake:
    """Add the value got, and examples unless the text already says what to do."""
    rule, _, advice = text.partition("; ")
    shown = document.shown(location)
    got = "" if shown is None else f", got {shown}"
    advice = advice or examples(location)
    return Mistake(document.line(location), location, f"{rule}{got}; {advice}")


def examples(location: Location) -> str:
    """Say how the value of a key may look."""
    steps = tuple(map(str, location))
    depth = max(n for n in range(len(steps)) if steps[:n] in SECTIONS)
    examples = SECTIONS[steps[:depth]].model_fields[steps[depth]].examples or []
    return "write for example " + " or ".join(map(as_written, examples))


def _where_known(location: Location) -> str:
    """Tell where an unknown key may belong, or which one may be meant."""
    *section, key = map(str, location)
    keys = SECTIONS[tuple(section)].model_fields
    if section and key in ConfigModel.model_fields:
        return f"{key} belongs to the top level, without indentation"
    homes = [".".join(place) for place, model in SECTIONS.items() if key in model.model_fields]
    if homes:
        return f"it belongs under {' or '.join(homes)}"
    close = difflib.get_close_matches(key[:40].lower(), keys, n=1)
    return f"did you mean {close[0]}?" if close else f"known here: {', '.join(keys)}"


def _absolute(text: str, folder: Path) -> Path:
    return (folder / Path(text).expanduser()).resolve()


def _path_rules(data: object, folder: Path) -> Iterator[RuleBroken]:
    """Check both paths together, whatever else is wrong."""
    places: dict[str, Path] = {}
    for name in ("input", "output"):
        section = data.get(name) if isinstance(data, dict) else None
        text = section.get("path") if isinstance(section, dict) else None
        if isinstance(text, str) and text and "://" not in text:
            try:
                places[name] = _absolute(text, folder)
            except (OSError, RuntimeError) as error:  # an unknown ~user, a loop of links
                yield (name, "path"), f"cannot be followed ({error}); correct the path"
    if len(places) < 2:
        return
    source, target = places["input"], places["output"]
    if source == target:
        relation = "be the input itself"
    elif target.is_relative_to(source):
        relation = "lie inside the input"
    elif source.is_relative_to(target):
        relation = "contain the input"
    else:
        return
    yield ("output", "path"), f"must not {relation}, which stays as it is; give another folder"


def _report(path: Path, mistakes: list[Mistake]) -> str:
    lines = []
    for mistake in sorted(mistakes, key=lambda m: m.line):
        parts = [f"{path}:{mistake.line}", key_name(mistake.location), mistake.text]
        lines.append(": ".join(part for part in parts if part))
    return "\n".join(lines)


def _index(value: str | tuple[int, ...] | None) -> Index | None:
    return as_index(value) if isinstance(value, tuple) else None


def _number(value: str | Number | None) -> Number | None:
    return None if isinstance(value, str) else value


def _noise(given: NoiseGiven) -> NoiseConfig:
    """Repeat single numbers where other keys are lists: all tuples are of one length."""
    values = given.given()
    channels = max(len(numbers) for numbers in values.values())
    full = {key: v if len(v) == channels else v * channels for key, v in values.items()}
    return NoiseConfig(*(full.get(key) for key in ("gain", "offset", "read_noise", "sigma")))


def denoise_values(given: DenoiseModel) -> DenoiseConfig:
    """Return the values of a checked section `denoise`."""
    refines = given.method == "ridge" and given.quality != "fast"
    ridge = RidgeConfig(
        search=_index(given.ridge.search),
        group=_number(given.ridge.group),
        stride=_index(given.ridge.stride),
        rounds=2 if given.quality == "best" else given.ridge.rounds,
    )
    return DenoiseConfig(
        ridge=ridge if refines else None,
        patch=_index(given.patch),
        iterations=_number(given.iterations),
        pvalue=given.pvalue,
    )


def _batch(given: ClusterModel, folder: Path) -> BatchConfig:
    prologue = given.prologue or ""
    default_mail = ("END", "FAIL") if given.mail_user else ()
    return BatchConfig(
        count=given.jobs if given.kind == "slurm" else given.nodes,
        walltime=seconds(given.walltime or ""),
        partition=given.partition,
        account=given.account,
        qos=given.qos,
        constraint=given.constraint,
        reservation=given.reservation,
        memory_request=given.memory_request,
        exclusive=given.exclusive,
        interface=given.interface,
        scheduler_port=given.scheduler_port,
        worker_ports=ports(given.worker_ports) if given.worker_ports else None,
        local_folder=given.local_folder,
        log_folder=folder / given.log_folder if given.log_folder else None,
        modules=given.modules or (),
        prologue=prologue if isinstance(prologue, str) else "\n".join(prologue),
        python=given.python,
        extra_directives=given.extra_directives or (),
        removed_directives=given.removed_directives or (),
        mail_user=given.mail_user,
        mail_type=default_mail if given.mail_type is None else given.mail_type,
        signal_lead=given.signal_lead,
        until=given.until,
    )


def _config(model: ConfigModel, source: Path) -> Config:
    given, output, blocks, cluster = model.input, model.output, model.blocks, model.cluster
    return Config(
        source=source,
        input=InputConfig(
            path=_absolute(given.path, source.parent),
            axes=given.axes,
            shape=_index(given.shape),
            dtype=given.dtype,
            dataset=given.dataset,
        ),
        output=OutputConfig(
            path=_absolute(output.path, source.parent),
            format=output.format,
            dtype=output.dtype,
            chunks=_index(output.chunks),
            shards=_index(output.shards),
            shards_auto=output.shards == "auto" and output.format != "ome-zarr-0.4",
            pyramid=output.pyramid,
        ),
        noise=None if model.noise == "auto" else _noise(model.noise),
        denoise=denoise_values(model.denoise),
        blocks=BlocksConfig(
            shape=_index(blocks.shape),
            halo=_index(blocks.halo),
            memory_factor=blocks.memory_factor,
            retries=blocks.retries,
        ),
        cluster=ClusterConfig(
            kind=cluster.kind,
            workers=_number(cluster.workers),
            cpus=_number(cluster.cpus),
            memory=_number(cluster.memory),
            dashboard=cluster.dashboard,
            batch=None if cluster.kind == "local" else _batch(cluster, source.parent),
        ),
    )
