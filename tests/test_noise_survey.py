"""The command `noise`: what it finds, prints, draws and refuses."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import matplotlib.image
import numpy as np
import pytest
import yaml
import zarr
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from denoise5d.cli import cli
from denoise5d.config import load_config
from denoise5d.errors import NoiseError, RefusedError
from denoise5d.identity import estimate_noise, given_noise
from denoise5d.noise import NoiseModel
from denoise5d.noise_survey import yaml_lines
from denoise5d.phantom import camera, embryo
from denoise5d.prepare import open_input

CAMERAS = ((3.92, 100.0, 2.0), (1.7, 300.0, 5.0))
"""Gain, black level and read noise of two channels."""


def two_channels() -> NDArray[np.uint16]:
    truth = embryo((3, 2, 16, 112, 112))
    parts = [
        camera(truth[:, c : c + 1], gain=gain, black=black, read_noise=read, seed=c)
        for c, (gain, black, read) in enumerate(CAMERAS)
    ]
    return np.concatenate(parts, axis=1)


def write(folder: Path, image: NDArray[Any], **sections: Any) -> Path:
    zarr.create_array(folder / "in put.zarr", data=image, chunks=image.shape)
    document = {"input": {"path": "in put.zarr"}, "output": {"path": "out.zarr"}}
    file = folder / "my run.yaml"
    file.write_text(yaml.safe_dump(document | sections))
    return file


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The YAML of an image of two channels, without noise."""
    return write(tmp_path_factory.mktemp("two"), two_channels())


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["noise", *map(str, arguments)], catch_exceptions=False)


def test_it_finds_what_a_run_finds(two: Path) -> None:
    before = sorted(two.parent.rglob("*"))
    found = json.loads(call("--json", two).stdout)["channels"]
    assert sorted(two.parent.rglob("*")) == before
    run = estimate_noise(open_input(load_config(two)))
    for channel, (entry, estimate) in enumerate(zip(found, run, strict=True)):
        gain, black, read = CAMERAS[channel]
        assert entry["channel"] == channel
        assert NoiseModel(entry["gain"], entry["offset"], entry["read_noise"]) == estimate.model
        assert abs(entry["gain"] - gain) < 3 * entry["gain_error"]
        assert abs(entry["offset"] - (read**2 - gain * black)) < 3 * entry["offset_error"]
        assert (entry["refused"], entry["doubts"], entry["given"]) == (None, [], None)


def test_the_keys_of_the_json_are_in_the_help(two: Path) -> None:
    found = json.loads(call("--json", two).stdout)
    words = call("--help").stdout.replace(",", " ").split()
    assert found.keys() | found["channels"][0].keys() <= set(words)


def test_what_it_prints(two: Path) -> None:
    lines = call(two).stdout.splitlines()
    assert lines[0] == f"Noise of {two}, channel 0"
    assert lines[1].split()[0] == "gain"
    assert "±" in lines[1]
    assert "black level  9" in "\n".join(lines)
    assert "in the YAML" not in "\n".join(lines)
    assert "To paste into the YAML:" in lines


def test_the_lines_to_paste_load_and_say_the_same(two: Path, tmp_path: Path) -> None:
    lines = call(two).stdout.partition("To paste into the YAML:\n")[2]
    copy = tmp_path / "copy.yaml"
    paths = f"input: {{path: {str(two.parent)!r}}}\noutput: {{path: out.zarr}}\n"
    copy.write_text(paths + lines)
    given = given_noise(load_config(copy).noise, 2)
    assert given is not None
    for pasted, found in zip(
        given, json.loads(call("--json", two).stdout)["channels"], strict=True
    ):
        assert pasted.gain == pytest.approx(found["gain"], rel=1e-6)
        assert pasted.offset == pytest.approx(found["offset"], rel=1e-6)
        assert pasted.read_noise == pytest.approx(found["read_noise"], rel=1e-6)


def test_lines_for_sigmas_and_for_both() -> None:
    gaussian, poisson = NoiseModel.gaussian(2.5), NoiseModel.poisson_gaussian(2, -100)
    assert yaml_lines([gaussian, gaussian]) == "noise:\n  sigma: [2.5, 2.5]"
    assert yaml_lines([poisson]) == "noise:\n  gain: [2]\n  offset: [-100]"
    assert yaml_lines([gaussian, poisson]) is None
    small = NoiseModel.poisson_gaussian(1e-5, -3.25e-4)  # YAML takes 1e-05 for text
    assert yaml_lines([small]) == "noise:\n  gain: [0.00001]\n  offset: [-0.000325]"
    known = NoiseModel.poisson_gaussian(2, -100, 3)
    assert yaml_lines([known]) == "noise:\n  gain: [2]\n  offset: [-100]\n  read_noise: [3]"


def test_channels_of_two_kinds_have_no_lines(tmp_path: Path) -> None:
    image = two_channels().astype(np.float32)
    image[:, 1] = np.random.default_rng(0).normal(500, 6, image[:, 1].shape)
    file = write(tmp_path, image)
    text = call(file).stdout
    assert "cannot give a gain for one channel and a sigma for another" in text
    assert "\n  sigma  " in text
    assert json.loads(call("--json", file).stdout)["yaml"] is None


@pytest.mark.parametrize(
    ("noise", "far"),
    [
        ({"gain": [3.92, 1.7], "offset": [-388, -485]}, [False, False]),
        ({"gain": [3.92, 2.5], "offset": [-388, -725]}, [False, True]),
        ({"sigma": 20}, [True, True]),
    ],
)
def test_noise_in_the_yaml_is_compared(
    noise: dict[str, Any], far: list[bool], tmp_path: Path
) -> None:
    file = write(tmp_path, two_channels(), noise=noise)
    found = json.loads(call("--json", file).stdout)["channels"]
    assert [any("the YAML gives" in d for d in entry["doubts"]) for entry in found] == far
    for entry, is_far in zip(found, far, strict=True):
        low, high = entry["deviation"]
        assert low <= high
        assert (max(-low, high) > 0.1) == is_far
    assert call(file).stdout.count("in the YAML  ") == 2


def test_a_doubt_is_printed(tmp_path: Path) -> None:
    file = write(tmp_path, np.minimum(two_channels()[:, :1], 400))
    assert "\n! Saturated: " in call(file).stdout


def test_a_refused_channel_leaves_the_others(tmp_path: Path) -> None:
    image = two_channels()
    image[:, 1] = 7
    file = write(tmp_path, image)
    message = r"channel 1: the noise cannot be estimated: every sampled voxel has the value 7"
    with pytest.raises(NoiseError, match=message):
        call(file, "--picture", tmp_path / "a.png")
    text = CliRunner().invoke(cli, ["noise", str(file)]).stdout
    assert "channel 0" in text
    assert "channel 1" not in text
    assert "To paste" not in text
    assert (tmp_path / "a.png").exists()
    found = json.loads(CliRunner().invoke(cli, ["noise", "--json", str(file)]).stdout)
    assert found["channels"][0]["refused"] is None
    assert "channel 1: the noise" in found["channels"][1]["refused"]
    assert found["yaml"] is None


def test_a_clipped_black_level_is_refused_with_its_reason(tmp_path: Path) -> None:
    truth = embryo((1, 1, 16, 128, 128), peak=300)
    file = write(tmp_path, camera(truth, gain=1, black=0, read_noise=10, seed=2))
    message = (
        r"channel 0: .* free of voxels clipped .* instead of auto\. \d\d % of the voxels have the "
        r"smallest value, 0: a black level that is clipped, or masked"
    )
    with pytest.raises(NoiseError, match=message):
        call(file)


# ---- the picture


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_a_picture(suffix: str, two: Path, tmp_path: Path) -> None:
    path = tmp_path / f"a picture{suffix}"
    assert f"Picture: {path}" in call(two, "--picture", path).stdout
    assert path.stat().st_size > 5000


def test_a_picture_has_points_and_lines_for_each_channel(tmp_path: Path) -> None:
    file = write(tmp_path, two_channels(), noise={"gain": [4, 2], "offset": [-390, -580]})
    call(file, "--picture", tmp_path / "a.png")
    pixels = np.asarray(matplotlib.image.imread(tmp_path / "a.png"))[..., :3]
    assert pixels.shape[0] < 600
    assert 1000 < pixels.shape[1] < 1300
    middle = pixels.shape[1] // 2
    colours = {"points": (0.902, 0.624, 0), "line": (0, 0.447, 0.698), "given": (0.835, 0.369, 0)}
    for half in (pixels[:-60, :middle], pixels[:-60, middle:]):  # above the legend
        for name, colour in colours.items():
            near = np.abs(half - np.array(colour)).max(axis=-1) < 0.02
            assert near.sum() > 200, name


@pytest.mark.parametrize("name", ["a.jpeg", "a", "no folder/a.png"])
def test_a_picture_that_cannot_be_is_refused_before_anything_is_read(
    name: str, two: Path, tmp_path: Path
) -> None:
    with pytest.raises(click.BadParameter, match=r"must (end with \.png, \.svg, \.pdf|exist), got"):
        cli.main(["noise", str(two), "--picture", str(tmp_path / name)], standalone_mode=False)


def test_without_matplotlib_it_says_what_is_missing(
    two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_module("denoise5d.cli.noise"), "can_draw", lambda: False)
    with pytest.raises(RefusedError, match=r"needs matplotlib: pip install 'denoise5d\[report\]'"):
        call(two, "--picture", two.parent / "b.png")
    assert call(two).exit_code == 0
