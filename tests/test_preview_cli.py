"""The command `preview`: table, JSON, picture, and what it refuses."""

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
from click.testing import CliRunner, Result

from denoise5d import preview as module
from denoise5d.cli import cli
from denoise5d.config import load_config
from denoise5d.errors import ConfigError, Denoise5dError, InputError, NoiseError, RefusedError
from denoise5d.phantom import camera, embryo
from runs import Project, structured

SHAPE = (3, 2, 7, 50, 60)


@pytest.fixture(autouse=True)
def _no_second_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MEASURED_SECONDS", 0.0001)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """An image of two channels and its YAML, in a folder that is not the current one."""
    (tmp_path / "data").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    made = Project(tmp_path / "data").image(structured(SHAPE, "uint16"))
    made.write(denoise={"method": "ridge"})
    return made


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["preview", *map(str, arguments)], catch_exceptions=False)


def found(*arguments: object) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(call("--json", *arguments).stdout)
    return result


def test_without_options(project: Project) -> None:
    before = sorted(project.folder.rglob("*"))
    text = call(project.yaml).stdout
    assert sorted(project.folder.rglob("*")) == before
    assert [path.name for path in Path().iterdir()] == ["run-preview.png"]
    lines = text.splitlines()
    assert lines[0] == f"Preview of {project.yaml}"
    assert "gain 1, offset 0, from the YAML" in lines[2]
    rows = [line.split("  ")[1] for line in lines if " MiB" in line]
    assert rows == ["fast", "standard (the YAML's)", "best"]
    assert "node-hours" not in text
    assert text.rstrip().endswith("Picture: run-preview.png")


def test_the_place_is_the_same_each_time(project: Project) -> None:
    first, second = (found(project.yaml, "--size", 20, "--quality", "fast") for _ in range(2))
    assert (first["start"], first["stop"]) == (second["start"], second["stop"])
    lengths = np.subtract(first["stop"], first["start"])
    assert lengths.tolist() == [1, 1, 1, 20, 20]


def test_at_size_channel_and_picture(project: Project) -> None:
    result = found(
        project.yaml, "--at", "2,6,0,59", "--size", "20,30", "--channel", 1, "--picture", "a.svg",
        "--quality", "fast",
    )  # fmt: skip
    assert result["start"] == [2, 1, 6, 0, 30]
    assert result["stop"] == [3, 2, 7, 20, 60]
    assert result["picture"] == "a.svg"
    assert Path("a.svg").read_text().startswith("<?xml")


def test_the_grid_and_its_lines(project: Project) -> None:
    result = found(
        project.yaml, "--size", 16, "--pvalue", "0.05", "--pvalue", "0.2",
        "--noise-scale", "0.5,1", "--patch", "0,0,0,1,1", "--iterations", 1,
    )  # fmt: skip
    assert len(result["combinations"]) == 4
    for entry in result["combinations"]:
        text = project.yaml.read_text()
        document = yaml.safe_load(text) | yaml.safe_load(entry["denoise"])
        if entry["noise_scale"] != 1:
            document |= yaml.safe_load(entry["noise"])
            assert document["noise"] == {"gain": [0.25, 0.25], "offset": [0, 0]}
        else:
            assert entry["noise"] is None
        copy = project.yaml.with_name("copy.yaml")
        copy.write_text(yaml.safe_dump(document))
        again = found(copy, "--size", 16, "--noise-scale", 1)["combinations"]
        assert again[0]["residual"] == pytest.approx(
            entry["residual"] * (1 if entry["noise_scale"] == 1 else 2), rel=1e-6
        )  # the same voxels, if the residual over another noise is the same
    table = call(project.yaml, "--size", 16, "--noise-scale", "0.5", "--quality", "fast").stdout
    assert "denoise: {quality: fast}   noise: {gain: [0.25, 0.25], offset: [0, 0]}" in table


def test_the_keys_of_the_json_are_in_the_help(project: Project) -> None:
    result = found(project.yaml, "--size", 16)
    entry = result["combinations"][0]
    words = call("--help").stdout.replace(",", " ").replace(":", " ").split()
    assert result.keys() | entry.keys() | entry["run"].keys() <= set(words)
    assert entry["run"]["blocks"] >= 1
    assert entry["seconds"] > 0


def test_noise_that_is_measured(project: Project) -> None:
    truth = embryo((2, 1, 12, 96, 96))
    other = Project(project.folder / "other")
    other.folder.mkdir()
    other.image(camera(truth, gain=3.92, black=100, read_noise=2, seed=1))
    other.write(noise="auto")
    result = found(other.yaml, "--size", 40, "--quality", "fast")
    assert result["noise_from"] == "the image"
    assert result["gain"] == pytest.approx(3.92, rel=0.1)
    assert 0.8 < result["combinations"][0]["residual"] < 1.1


def test_a_cluster_has_node_hours(project: Project) -> None:
    document = yaml.safe_load(project.yaml.read_text())
    document["cluster"] = {"kind": "slurm", "walltime": "01:00:00", "cpus": 2, "memory": 4}
    project.yaml.write_text(yaml.safe_dump(document))
    text = call(project.yaml, "--size", 16, "--quality", "fast").stdout
    assert "node-hours" in text


def test_a_run_that_would_be_refused_is_said(project: Project) -> None:
    project.write(cluster={"memory": 0.3})
    text = call(project.yaml, "--size", 16, "--quality", "fast").stdout
    assert "! fast (the YAML's): a run would be refused: not even one write unit" in text
    assert found(project.yaml, "--size", 16)["combinations"][0]["run"] is None


def test_where_there_is_no_noise_nothing_is_said_of_the_residual(project: Project) -> None:
    other = Project(project.folder / "other")
    other.folder.mkdir()
    other.image(np.zeros(SHAPE, np.uint16)).write(noise={"gain": 2, "offset": -200})
    entry = found(other.yaml, "--size", 16, "--quality", "fast")["combinations"][0]
    assert entry["residual"] is entry["correlation"] is None
    row = next(line for line in call(other.yaml).stdout.splitlines() if " MiB" in line)
    assert row.split().count("-") == 2


def test_the_captions_say_what_crop_and_run_cost(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(
        import_module("denoise5d.cli.preview"), "save_preview", lambda *given: drawn.append(given)
    )
    result = CliRunner().invoke(cli, ["preview", str(project.yaml), "--size", "16"])
    assert result.exit_code == 0
    rows = [line for line in result.stdout.splitlines() if line.count("iB") == 2]
    (_, _, _, panels, _) = drawn[0]
    for row, panel in zip(rows, panels, strict=True):
        name, crop, run = panel.caption.splitlines()
        assert row.startswith(f"  {name} ")
        for text in [*crop.split(", "), *run.removeprefix("run: ").split(", ")]:
            assert text.removesuffix(" a worker") in row


def test_the_table_comes_before_a_picture_that_cannot_be_written(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(import_module("denoise5d.cli.preview"), "save_preview", full)
    result = CliRunner().invoke(cli, ["preview", str(project.yaml), "--size", "16"])
    assert isinstance(result.exception, OSError)
    assert "best" in result.stdout
    assert "Picture" not in result.stdout


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        (["--at", "3,0,0,0"], RefusedError, r"--at must be inside the image: T is 0 to 2, got 3"),
        (["--at", "0,0,0,-1"], RefusedError, r"X is 0 to 59, got -1"),
        (["--at", "1,2,3"], click.BadParameter, r"must be whole numbers T,Z,Y,X, got 1,2,3"),
        (["--at", "a,b,c,d"], click.BadParameter, r"must be whole numbers T,Z,Y,X, got a,b,c,d"),
        (["--size", "0"], RefusedError, r"--size must be at least 1 voxel in Y and X, got 0,0"),
        (["--size", "1,2,3"], click.BadParameter, r"must be whole numbers Y,X, got 1,2,3"),
        (["--channel", "2"], RefusedError, r"--channel must be one of the image's, 0 to 1, got 2"),
        (["--noise-scale", "0"], RefusedError, r"--noise-scale must be greater than 0"),
        (["--noise-scale", "x"], click.BadParameter, r"must be numbers greater than 0, got x"),
        (["--quality", "fine"], ConfigError, r"denoise\.quality: must be fast, .*, got fine"),
        (["--quality", "fast", "--pvalue", "0.1"], ConfigError, r"must not stand beside quality"),
        (["--pvalue", "2"], ConfigError, r"denoise\.pvalue: must be less than 1, got 2"),
        (["--iterations", "1,,2"], ConfigError, r"denoise\.iterations: must be auto or a whole"),
        (["--patch", "1,1"], ConfigError, r"denoise\.patch: must have five entries"),
        (["--iterations", "1,2,3,4,5", "--pvalue", ".1,.2,.3"], RefusedError, r"at most 12 .* 15"),
        (["--picture", "a.gif"], click.BadParameter, r"must end with \.png"),
    ],
)
def test_bad_input_is_refused(
    options: list[str], kind: type[Exception], message: str, project: Project
) -> None:
    with pytest.raises(kind, match=message) as caught:
        cli.main(["preview", str(project.yaml), *options], standalone_mode=False)
    assert isinstance(caught.value, Denoise5dError | click.ClickException)
    assert caught.value.exit_code == 2
    assert list(Path().iterdir()) == []


def test_an_image_that_cannot_be_denoised_is_refused(project: Project) -> None:
    other = Project(project.folder / "other")
    other.folder.mkdir()
    data = structured(SHAPE, "float32")
    data[:, :, 3, 20, 30] = np.nan
    other.image(data).write()
    with pytest.raises(InputError, match="NaN or infinite"):
        call(other.yaml, "--at", "1,3,20,30")
    other.write(noise="auto")
    with pytest.raises(NoiseError):
        call(other.yaml)
    other.write(noise={"gain": [1, 1, 1], "offset": [0, 0, 0]})
    with pytest.raises(NoiseError, match="2, got 3"):
        call(other.yaml)
    assert load_config(other.yaml).input.path == other.input


def test_without_matplotlib_there_is_the_table(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_module("denoise5d.cli.preview"), "can_draw", lambda: False)
    text = call(project.yaml, "--size", 16).stdout
    assert "best" in text
    assert "left out: it needs matplotlib (pip install 'denoise5d[report]')" in text
    assert found(project.yaml, "--size", 16)["picture"] is None
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("count", [1, 3, 6, 12])
def test_the_picture_has_all_panels(count: int, project: Project) -> None:
    values = ",".join(f"{0.05 * (n + 1):.2f}" for n in range(count))
    call(project.yaml, "--size", 24, "--at", "1,3,25,30", "--pvalue", values)
    pixels = np.asarray(matplotlib.image.imread("run-preview.png"))[..., :3]
    coloured = np.ptp(pixels, axis=-1) > 0.15
    grey = (np.ptp(pixels, axis=-1) < 0.01) & (pixels[..., 0] > 0.02) & (pixels[..., 0] < 0.98)
    side = 24 * ((520 if count <= 3 else 340) // 24)
    assert coloured.sum() > 0.3 * count * side**2
    assert grey.sum() > 0.6 * (count + 1) * side**2
    assert max(pixels.shape) < 3200
