"""The JSON schema agrees with the loader, and the shipped files with both."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from denoise5d.config import Config, NoiseConfig, json_schema, load_config
from denoise5d.config.cluster_models import ClusterModel
from denoise5d.errors import ConfigError

CONFIGS = Path(__file__).parents[1] / "configs"
PATHS = "input: {path: a.zarr}\noutput: {path: b.zarr}\n"

TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
    "boolean": (bool,),
}
LIMITS: dict[str, Callable[[Any, Any], bool]] = {
    "minimum": lambda value, limit: value >= limit,
    "maximum": lambda value, limit: value <= limit,
    "exclusiveMinimum": lambda value, limit: value > limit,
    "exclusiveMaximum": lambda value, limit: value < limit,
    "minItems": lambda value, limit: len(value) >= limit,
    "maxItems": lambda value, limit: len(value) <= limit,
    "minLength": lambda value, limit: len(value) >= limit,
    "const": lambda value, limit: value == limit,
    "enum": lambda value, limit: value in limit,
    "pattern": lambda value, limit: re.search(limit, value) is not None,
}
SAID = {"type", "title", "description", "default", "examples", "$defs", "$schema"}


def accepts(root: dict[str, Any], value: Any, rule: dict[str, Any] | None = None) -> bool:
    """Validate by the part of JSON schema that ours uses; an unknown keyword is a KeyError."""
    rule = root if rule is None else rule
    words = rule.get("type", list(TYPES))
    words = [words] if isinstance(words, str) else words
    kinds = tuple(kind for word in words for kind in TYPES[word])
    if not isinstance(value, kinds) or (isinstance(value, bool) and "boolean" not in words):
        return False
    return all(_holds(root, rule, word, value) for word in rule.keys() - SAID)


def _holds(root: dict[str, Any], rule: dict[str, Any], word: str, value: Any) -> bool:
    limit = rule[word]
    keys = value.keys() if isinstance(value, dict) else set()
    match word:
        case "properties":
            return all(accepts(root, value[key], limit[key]) for key in keys & limit.keys())
        case "additionalProperties":
            return bool(limit) or keys <= rule["properties"].keys()
        case "required":
            return value is None or set(limit) <= keys
        case "items":
            return all(accepts(root, item, limit) for item in value)
        case "anyOf":
            return any(accepts(root, value, option) for option in limit)
        case "oneOf":
            return sum(accepts(root, value, option) for option in limit) == 1
        case "$ref":
            return accepts(root, value, root["$defs"][limit.removeprefix("#/$defs/")])
        case _:
            return bool(LIMITS[word](value, limit))


def load(folder: Path, text: str | bytes) -> Config:
    path = folder / "run.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_config(path)


def test_schema_names_its_draft_and_is_json() -> None:
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert json.loads(json.dumps(schema, allow_nan=False)) == schema


def test_every_key_has_a_description_and_a_default() -> None:
    schema = json_schema()
    assert set(schema["$defs"]) == {
        *("InputModel", "OutputModel", "NoiseGiven"),
        *("DenoiseModel", "RidgeModel", "BlocksModel", "ClusterModel"),
    }
    for group in [schema, *schema["$defs"].values()]:
        assert len(group["description"]) > 10
        for name, key in group["properties"].items():
            target = schema["$defs"][key["$ref"].split("/")[-1]] if "$ref" in key else key
            assert len((target | key)["description"]) > 10, name
            assert "default" in key or name in group["required"], name


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_shipped_files_load_and_fit_the_schema(path: Path) -> None:
    config = load_config(path)
    assert config.input.path.parent == config.output.path.parent == CONFIGS
    assert accepts(json_schema(), yaml.safe_load(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "text",
    [
        "output: {path: b}",
        PATHS + "denoise: {iterations: 7}",
        PATHS + "denoise: {pvalue: 1}",
        PATHS + "denoise: {method: bm4d}",
        PATHS + "denoise: {quality: good}",
        PATHS + "denoise: {ridge: 2}",
        PATHS + "denoise: {ridge: {group: 1}}",
        PATHS + "denoise: {ridge: {rounds: 0}}",
        PATHS + "denoise: {ridge: {stride: [1, 1, 0, 4, 4]}}",
        PATHS + "denoise: {ridge: {serach: auto}}",
        PATHS + "blocks: {halo: auto}",
        PATHS + "blocks: {halo: [0, 0, -1, 0, 0]}",
        PATHS + "blocks: {shape: [1, 1, 1]}",
        PATHS + "cluster: {kind: pbs}",
        PATHS + "cluster: {partition: 'a b'}",
        PATHS + "cluster: {exclusive: 1}",
        PATHS + "cluster: {modules: gcc}",
        PATHS + "cluster: {modules: [-a]}",
        PATHS + "cluster: {prologue: 3}",
        PATHS + "cluster: {mail_type: [end]}",
        PATHS + "cluster: {worker_ports: '9000'}",
        PATHS + "cluster: {walltime: 12h}",
        PATHS + "cluster: {scheduler_port: 65536}",
        PATHS + "noise: {gain: []}",
        PATHS + "nose: auto",
    ],
)
def test_schema_refuses_what_the_loader_refuses(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError):
        load(tmp_path, text)
    assert not accepts(json_schema(), yaml.safe_load(text))


def test_schema_lets_a_section_be_empty() -> None:
    assert accepts(json_schema(), yaml.safe_load(PATHS + "denoise:\nblocks:\ncluster:\n"))
    assert accepts(json_schema(), yaml.safe_load(PATHS + "denoise: {ridge: }\n"))
    assert not accepts(json_schema(), yaml.safe_load("input:\noutput:\n"))


@pytest.mark.parametrize("quality", ["fast", "standard", "best"])
@pytest.mark.parametrize("method", ["ridge", "safir"])
def test_schema_knows_methods_and_qualities(method: str, quality: str) -> None:
    for denoise in (f"{{method: {method}}}", f"{{quality: {quality}}}"):
        assert accepts(json_schema(), yaml.safe_load(f"{PATHS}denoise: {denoise}\n"))


def test_the_examples_say_what_their_names_promise() -> None:
    demo, embryo, film = (
        load_config(CONFIGS / f"{name}.yaml") for name in ("demo", "embryo-202GB", "timelapse-2d")
    )
    camera = NoiseConfig((3.92,), (-388.0,), None, None)
    assert (demo.noise, demo.cluster.workers, demo.cluster.cpus) == (camera, 2, 1)
    assert (demo.input.path.name, demo.output.path.name) == ("embryo.zarr", "embryo-denoised.zarr")
    assert (embryo.input.shape, embryo.input.dtype) == ((17, 1, 1501, 2048, 1936), "uint16")
    assert embryo.noise == camera
    assert (embryo.cluster.workers, embryo.cluster.cpus, embryo.cluster.memory) == (1, 76, 230)
    assert (film.input.axes, film.noise) == ("TYX", None)


def test_the_examples_for_slurm_say_what_their_names_promise() -> None:
    csd3, generic, nodes = (
        load_config(CONFIGS / f"{name}.yaml")
        for name in ("csd3-icelake", "generic-slurm", "allocation")
    )
    assert (csd3.input.shape, csd3.input.dtype) == ((17, 1, 1501, 2048, 1936), "uint16")
    assert (csd3.cluster.kind, csd3.cluster.cpus, csd3.cluster.memory) == ("slurm", 76, 230)
    asked = csd3.cluster.batch
    assert asked is not None
    assert (asked.partition, asked.count, asked.walltime) == ("icelake", 4, 43200)
    assert (asked.account, asked.interface) == ("MYLAB-CPU", "ib0")
    assert asked.modules == ("rhel8/default-icl",)
    assert generic.cluster.kind == "slurm"
    assert nodes.cluster.kind == "allocation"
    assert nodes.cluster.batch is not None
    assert (nodes.cluster.batch.count, nodes.cluster.batch.exclusive) == (4, True)


def test_the_generic_example_has_every_key_and_each_may_be_switched_on(folder: Path) -> None:
    text = (CONFIGS / "generic-slurm.yaml").read_text(encoding="utf-8")
    switched_on = re.sub(r"^  # (?=[a-z_]+:|  )", "  ", text, flags=re.MULTILINE)
    data = yaml.safe_load(switched_on)
    assert data["cluster"].keys() == ClusterModel.model_fields.keys() - {"workers", "nodes"}
    config = load(folder, switched_on)
    assert config.cluster.batch is not None
    assert config.cluster.batch.prologue.count("\n") == 2
    assert accepts(json_schema(), data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("config")


FIVES = st.tuples(*[st.integers(1, 4000)] * 5).map(list)
MARGINS = st.tuples(*[st.integers(0, 8), st.just(0), *[st.integers(0, 8)] * 3]).map(list)
POSITIVE = st.floats(1e-6, 1e6)
SEARCHES = st.tuples(*[st.integers(0, 64), st.just(0), *[st.integers(0, 64)] * 3]).map(list)
STRIDES = st.tuples(*[st.integers(1, 17), st.just(1), *[st.integers(1, 17)] * 3]).map(list)
VALID: dict[tuple[str, ...], st.SearchStrategy[Any]] = {
    ("input", "axes"): st.permutations("TCZYX").map("".join),
    ("input", "dataset"): st.sampled_from(["0", "scale/1"]),
    ("output", "dtype"): st.sampled_from(["same", "float32"]),
    ("output", "chunks"): FIVES,
    ("denoise", "patch"): MARGINS,
    ("denoise", "iterations"): st.integers(1, 6),
    ("denoise", "pvalue"): st.floats(0.001, 0.999),
    ("denoise", "ridge", "search"): SEARCHES,
    ("denoise", "ridge", "group"): st.integers(2, 256),
    ("denoise", "ridge", "stride"): STRIDES,
    ("denoise", "ridge", "rounds"): st.integers(1, 4),
    ("blocks", "shape"): FIVES,
    ("blocks", "halo"): MARGINS,
    ("blocks", "memory_factor"): st.floats(1, 100),
    ("blocks", "retries"): st.integers(0, 9),
    ("cluster", "kind"): st.just("local"),
    ("cluster", "workers"): st.integers(1, 999),
    ("cluster", "cpus"): st.integers(1, 999),
    ("cluster", "memory"): POSITIVE,
    ("cluster", "dashboard"): st.sampled_from(["localhost:0", "[::1]:8787", "127.0.0.1:65535"]),
}


@settings(deadline=None, max_examples=100)
@given(values=st.fixed_dictionaries({}, optional=VALID))
def test_valid_values_come_back(folder: Path, values: dict[tuple[str, ...], Any]) -> None:
    data: dict[str, Any] = {"input": {"path": "a"}, "output": {"path": "b"}}
    for (*sections, key), value in values.items():
        place = data
        for section in sections:
            place = place.setdefault(section, {})
        place[key] = value
    config = load(folder, yaml.safe_dump(data))
    for steps, value in values.items():
        expected = tuple(value) if isinstance(value, list) else value
        assert attrgetter(".".join(steps))(config) == expected
    assert accepts(json_schema(), data)
