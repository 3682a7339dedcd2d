"""Runs that read files of other formats as they are, with the bits of a run on the same Zarr."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner
from pylibCZIrw import czi

from denoise5d.cli import cli
from denoise5d.errors import InputError
from denoise5d.geometry import Box
from denoise5d.prepare import open_input
from runs import Project, run, structured

DATA = structured((2, 3, 40, 50), "uint16")


def write_tiff(path: Path, **options: Any) -> None:
    metadata = {"axes": "TZYX"}
    tifffile.imwrite(path, DATA, metadata=metadata, photometric="minisblack", **options)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_a_run_on_a_tiff(project: Project) -> None:
    """Blocks are cut across its tiles; the result is that of the array in memory."""
    write_tiff(project.folder / "in.tif", tile=(16, 16), compression="zlib", predictor=True)
    project.write(input={"path": "in.tif"}, blocks={"shape": [1, 1, 2, 24, 24]}, output={
        "path": "out.zarr", "chunks": [1, 1, 1, 24, 24]})  # fmt: skip
    code, log = run(project)
    assert code == 0, log
    direct = project.result()
    project.check()
    for name in ("out.zarr", "out.zarr.denoise5d"):
        (project.folder / name).rename(project.folder / f"direct-{name}")
    project.image(DATA).write(input={"path": "in.zarr", "axes": "TZYX"})
    assert run(project)[0] == 0
    np.testing.assert_array_equal(project.result(), direct)


def test_a_run_on_a_scene_of_a_czi(project: Project) -> None:
    """Two threads of a worker read it, tile by tile, at the same time."""
    with czi.create_czi(str(project.folder / "in.czi"), compression_options="zstd1:") as writer:
        for t, z in np.ndindex(2, 3):
            for scene, values in enumerate((np.zeros_like(DATA), DATA)):
                for x in (0, 20):
                    tile = np.ascontiguousarray(values[t, z, :, x : x + 30, None])
                    at = (100 * scene + x, 0)
                    writer.write(tile, plane={"T": t, "Z": z}, location=at, scene=scene)
    project.write(
        input={"path": "in.czi", "dataset": "1"},
        blocks={"shape": [1, 1, 2, 24, 24]},
        output={"path": "out.zarr", "chunks": [1, 1, 1, 24, 24]},
    )
    code, log = run(project)
    assert code == 0, log
    whole = Box((0, 0, 0, 0, 0), (2, 1, 3, 40, 50))
    np.testing.assert_array_equal(open_input(project.config()).read(whole)[:, 0], DATA)
    project.check()


def test_what_the_yaml_says_of_the_file(project: Project) -> None:
    file = project.folder / "in.tif"
    with tifffile.TiffWriter(file) as writer:
        for number in (0, 1):
            data = DATA[number] + number
            writer.write(data, metadata={"axes": "QYX"}, photometric="minisblack")
    project.write(input={"path": "in.tif", "axes": "ZYX"})
    with pytest.raises(InputError, match=r"choose one by its number: --series, or input\.dataset"):
        open_input(project.config())
    project.write(input={"path": "in.tif", "axes": "ZYX", "dataset": "1"})
    image = open_input(project.config())
    box = Box((0, 0, 1, 7, 9), (1, 1, 3, 20, 33))
    np.testing.assert_array_equal(image.read(box)[0, 0], DATA[1, 1:3, 7:20, 9:33] + 1)


def test_another_content_is_another_input(project: Project) -> None:
    file = project.folder / "in.tif"
    write_tiff(file)
    project.write(input={"path": "in.tif"})
    first = open_input(project.config()).content_sample()
    file.touch()  # the time does not count
    assert open_input(project.config()).content_sample() == first
    tifffile.imwrite(file, DATA + 1, metadata={"axes": "TZYX"}, photometric="minisblack")
    assert open_input(project.config()).content_sample() != first


def planned(project: Project, **tiff: Any) -> str:
    """Return the plan for a TIFF whose planes are cut into small blocks."""
    data = np.zeros((4, 400, 400), "uint16")
    options = {"metadata": {"axes": "ZYX"}, "photometric": "minisblack"} | tiff
    tifffile.imwrite(project.folder / "in.tif", data, **options)
    project.write(input={"path": "in.tif"}, blocks={"shape": [1, 1, 1, 32, 32]},
                  output={"path": "out.zarr", "chunks": [1, 1, 1, 32, 32]})  # fmt: skip
    result = CliRunner().invoke(cli, ["plan", str(project.yaml)])
    assert result.exit_code == 0, result.output
    return result.output


def test_a_plan_warns_where_planes_are_decoded_again_and_again(project: Project) -> None:
    whole_planes = planned(project, compression="zlib", rowsperstrip=400)
    assert "voxels decoded for each one that is wanted" in whole_planes
    assert "`denoise5d convert` it first" in whole_planes
    assert "decoded" not in planned(project, compression="zlib", tile=(16, 16))
