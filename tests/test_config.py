"""The YAML file: what is taken, and that nothing but a ConfigError comes of anything else."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from denoise5d.config import Config, DenoiseConfig, NoiseConfig, RidgeConfig, load_config
from denoise5d.errors import ConfigError

PATHS = "input: {path: a.zarr}\noutput: {path: b.zarr}\n"


STANDARD = RidgeConfig(search=None, group=None, stride=None, rounds=1)


def load(folder: Path, text: str | bytes) -> Config:
    path = folder / "run.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_config(path)


def test_defaults_are_those_of_a_laptop(tmp_path: Path) -> None:
    config = load(tmp_path, PATHS)
    assert config.source == tmp_path / "run.yaml"
    assert config.input.path == tmp_path / "a.zarr"
    assert (config.input.axes, config.input.shape, config.input.dtype) == (None, None, None)
    assert config.input.dataset is None
    assert config.output.path == tmp_path / "b.zarr"
    assert config.output.dtype == "same"
    assert config.output.format == "ome-zarr-0.5"
    assert (config.output.chunks, config.output.shards, config.output.shards_auto) == (
        None,
        None,
        True,
    )
    assert config.noise is None
    assert (config.denoise.patch, config.denoise.iterations, config.denoise.pvalue) == (
        None,
        None,
        0.1,
    )
    assert config.denoise.ridge == STANDARD
    assert (config.blocks.shape, config.blocks.halo) == (None, None)
    assert (config.blocks.memory_factor, config.blocks.retries) == (6, 2)
    assert (config.cluster.kind, config.cluster.workers, config.cluster.cpus) == (
        "local",
        None,
        None,
    )
    assert (config.cluster.memory, config.cluster.dashboard) == (None, None)


def test_every_key_arrives(tmp_path: Path) -> None:
    text = """
input: {path: /data/a.zarr, axes: tzyx, shape: [3, 1, 5, 6, 7], dtype: int16, dataset: "1"}
output:
  path: ../b.zarr
  format: ome-zarr-0.5
  dtype: float32
  chunks: [1, 1, 2, 3, 4]
  shards: [1, 1, 4, 3, 8]
noise: {gain: 2, offset: [-5, 1.5], read_noise: 0}
denoise:
  method: ridge
  patch: [1, 0, 2, 8, 0]
  iterations: 6
  pvalue: 0.5
  ridge: {search: [64, 0, 1, 2, 0], group: 256, stride: [1, 1, 2, 17, 3], rounds: 4}
blocks: {shape: [1, 1, 5, 6, 7], halo: [0, 0, 1, 2, 3], memory_factor: 6.5, retries: 0}
cluster: {kind: local, workers: 3, cpus: 4, memory: 0.5, dashboard: "localhost:8787"}
"""
    config = load(tmp_path, text)
    assert config.input.path == Path("/data/a.zarr").resolve()
    assert config.input.axes == "TZYX"
    assert config.input.shape == (3, 1, 5, 6, 7)
    assert (config.input.dtype, config.input.dataset) == ("int16", "1")
    assert config.output.path == tmp_path.parent / "b.zarr"
    assert config.output.dtype == "float32"
    assert config.output.chunks == (1, 1, 2, 3, 4)
    assert (config.output.shards, config.output.shards_auto) == ((1, 1, 4, 3, 8), False)
    assert config.noise == NoiseConfig((2.0, 2.0), (-5.0, 1.5), (0.0, 0.0), None)
    assert (config.denoise.patch, config.denoise.iterations) == ((1, 0, 2, 8, 0), 6)
    assert config.denoise.pvalue == 0.5
    assert config.denoise.ridge == RidgeConfig((64, 0, 1, 2, 0), 256, (1, 1, 2, 17, 3), 4)
    assert (config.blocks.shape, config.blocks.halo) == ((1, 1, 5, 6, 7), (0, 0, 1, 2, 3))
    assert (config.blocks.memory_factor, config.blocks.retries) == (6.5, 0)
    assert (config.cluster.workers, config.cluster.cpus, config.cluster.memory) == (3, 4, 0.5)
    assert config.cluster.dashboard == "localhost:8787"


@pytest.mark.parametrize(
    ("noise", "expected"),
    [
        ("auto", None),
        ("{sigma: 20}", NoiseConfig(None, None, None, (20.0,))),
        ("{sigma: [20, 3.5]}", NoiseConfig(None, None, None, (20.0, 3.5))),
        ("{gain: [3.92], offset: [-388]}", NoiseConfig((3.92,), (-388.0,), None, None)),
        ("{gain: 1, offset: 0, sigma: null}", NoiseConfig((1.0,), (0.0,), None, None)),
    ],
)
def test_noise(tmp_path: Path, noise: str, expected: NoiseConfig | None) -> None:
    assert load(tmp_path, f"{PATHS}noise: {noise}\n").noise == expected


@pytest.mark.parametrize(
    ("denoise", "expected"),
    [
        ("{method: ridge}", STANDARD),
        ("{method: safir}", None),
        ("{quality: fast}", None),
        ("{quality: standard}", STANDARD),
        ("{quality: best}", replace(STANDARD, rounds=2)),
        ("{method: safir, quality: fast}", None),
        ("{method: ridge, quality: best}", replace(STANDARD, rounds=2)),
        ("{ridge: {search: auto, stride: auto}}", STANDARD),
        ("{ridge: {group: 2}}", replace(STANDARD, group=2)),
        ("{ridge: }", STANDARD),
        ("{quality: best, ridge: }", replace(STANDARD, rounds=2)),
        ("{method: safir, ridge: }", None),
    ],
)
def test_refinement(tmp_path: Path, denoise: str, expected: RidgeConfig | None) -> None:
    config = load(tmp_path, f"{PATHS}denoise: {denoise}\n").denoise
    assert config == DenoiseConfig(expected, patch=None, iterations=None, pvalue=0.1)


def test_the_first_estimate_keeps_its_numbers_without_a_refinement(tmp_path: Path) -> None:
    text = PATHS + "denoise: {method: safir, patch: [0, 0, 0, 3, 3], iterations: 4, pvalue: 0.2}\n"
    assert load(tmp_path, text).denoise == DenoiseConfig(None, (0, 0, 0, 3, 3), 4, 0.2)


@pytest.mark.parametrize("shards", ["", ", shards: auto", ", shards: null"])
def test_an_older_format_has_no_shards(tmp_path: Path, shards: str) -> None:
    text = f"input: {{path: a}}\noutput: {{path: b, format: ome-zarr-0.4{shards}}}\n"
    output = load(tmp_path, text).output
    assert (output.format, output.shards, output.shards_auto) == ("ome-zarr-0.4", None, False)


def test_null_shards_mean_a_file_for_each_chunk(tmp_path: Path) -> None:
    output = load(tmp_path, "input: {path: a}\noutput: {path: b, shards: null}\n").output
    assert (output.shards, output.shards_auto) == (None, False)


def test_sections_with_everything_commented_out_are_their_defaults(tmp_path: Path) -> None:
    text = PATHS + "denoise:\n  ridge:\n    # rounds: 2\nblocks:\ncluster:\n"
    assert load(tmp_path, text) == load(tmp_path, PATHS)
    text = PATHS + "denoise:\n  # quality: best\n"
    assert load(tmp_path, text) == load(tmp_path, PATHS)


def test_an_alias_stands_for_its_anchor(tmp_path: Path) -> None:
    text = "input: {path: a}\noutput: {path: b, chunks: &c [1, 1, 2, 2, 2], shards: *c}\n"
    assert load(tmp_path, text).output.shards == (1, 1, 2, 2, 2)


def test_a_folder_named_like_a_date_is_text(tmp_path: Path) -> None:
    assert load(tmp_path, "input: {path: 2024-13-45}\noutput: {path: b}\n").input.path == (
        tmp_path / "2024-13-45"
    )


def test_home_folder_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    config = load(tmp_path, "input: {path: ~/a.zarr}\noutput: {path: b}\n")
    assert config.input.path == tmp_path / "home" / "a.zarr"


def test_paths_do_not_depend_on_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = load(tmp_path, PATHS)
    monkeypatch.chdir(tmp_path)
    assert load_config(Path("run.yaml")) == expected


def test_windows_line_ends_and_byte_order_mark(tmp_path: Path) -> None:
    text = b"\xef\xbb\xbf" + PATHS.replace("\n", "\r\n").encode()
    assert load(tmp_path, text) == load(tmp_path, PATHS)


def test_values_are_frozen(tmp_path: Path) -> None:
    config = load(tmp_path, PATHS)
    with pytest.raises(FrozenInstanceError):
        config.blocks.retries = 3  # type: ignore[misc]


KEYS = (
    "path axes shape dtype dataset format chunks shards gain offset read_noise sigma patch "
    "iterations pvalue method quality ridge search group stride rounds "
    "halo memory_factor retries kind workers cpus memory dashboard jobs nodes walltime partition "
    "exclusive worker_ports python log_folder modules prologue mail_type signal_lead "
    "input noise <list> ~"
)
NAMES = st.sampled_from(KEYS.split())
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(
        ["auto", "exact", "same", "a", "b", "YX", "local", "ridge", "best", "h:1", "~a/b", 10**400]
    )
    | st.sampled_from(["slurm", "allocation", "1:00:00", "0:01:00", "9:8", "-x", "END", "/tmp"])
    | st.lists(st.integers(-1, 9), min_size=4, max_size=6)
)
JUNK = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=6)
        | st.dictionaries(NAMES | st.text(max_size=5), inner, max_size=6)
    ),
    max_leaves=12,
)
SECTIONS = st.sampled_from(["input", "output", "noise", "denoise", "blocks", "cluster"])
MAPPINGS = st.dictionaries(
    SECTIONS | st.text(max_size=5),
    JUNK | st.dictionaries(NAMES, LEAVES, max_size=4),
    max_size=6,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("config")


@settings(deadline=None, max_examples=300)
@given(data=MAPPINGS)
def test_any_mapping_loads_or_is_refused(folder: Path, data: dict[str, Any]) -> None:
    try:
        config = load(folder, yaml.safe_dump(data))
    except ConfigError as error:
        lines = str(error).split("\n")
    else:
        lines = []
        assert isinstance(config, Config)
    assert all(line.startswith(str(folder)) for line in lines)


@settings(deadline=None, max_examples=300)
@given(text=st.text(alphabet="ab:-[]{},&*!|>'\"\\#%@`<~?0198.e_ \n\tx", max_size=40))
def test_any_text_loads_or_is_refused(folder: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"run\.yaml"):
        load(folder, text)
