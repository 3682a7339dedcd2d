"""Many TIFFs are one image: by the numbers in their names, or in their natural order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner
from numpy.typing import NDArray

from denoise5d.cli import cli
from denoise5d.errors import InputError
from denoise5d.geometry import Box
from denoise5d.sources import open_source
from denoise5d.store import Image, open_image

STACK = np.random.default_rng(3).integers(0, 4000, (3, 2, 12, 20, 30)).astype("uint16")


def write(path: Path, data: NDArray[Any], **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, data, photometric="minisblack", **options)


def planes(folder: Path, pattern: str, step: int = 1, first: int = 0) -> None:
    for t, c, z in np.ndindex(STACK.shape[:3]):
        name = pattern.format(T=first + step * t, C=("GFP", "RFP")[c], Z=z)
        write(folder / name, STACK[t, c, z], compression="zlib")


def whole(image: Image) -> NDArray[Any]:
    return image.read(Box.whole(image.info.shape))


@pytest.mark.parametrize(
    ("written", "pattern"),
    [
        ("img_t{T:03d}_{C}_z{Z}.tif", "img_t{T}_{C}_z{Z}.tif"),
        ("t{T}/{C}_{Z:04d}.tiff", "t{t}/{c}_{z}.tif*"),
        ("t{T}/a{T}{C}{Z:04d}.tif", "t{T}/a{T}{C}{Z}.tif"),
    ],
)
def test_planes_by_a_pattern(tmp_path: Path, written: str, pattern: str) -> None:
    planes(tmp_path, written, first=8)
    write(tmp_path / "other.tif", STACK[0, 0, 0])
    image = open_source(tmp_path / pattern)
    np.testing.assert_array_equal(whole(image), STACK)
    box = Box((1, 1, 3, 4, 5), (3, 2, 11, 20, 9))
    np.testing.assert_array_equal(image.read(box), STACK[box.slices])
    assert image.info.channels == {"channels": [{"label": "GFP"}, {"label": "RFP"}]}


def test_stacks_by_a_pattern(tmp_path: Path) -> None:
    """A file may be more than a plane, and say what the voxels are."""
    for t, c in np.ndindex(3, 2):
        metadata = {"axes": "ZYX", "spacing": 2.0, "unit": "um"}
        path = tmp_path / f"c{c + 1}t{10 * t}.tif"
        write(path, STACK[t, c], imagej=True, metadata=metadata, resolution=(4, 2))
    image = open_source(tmp_path / "c{C}t{T}.tif")
    assert image.info.axes == "CTZYX"
    np.testing.assert_array_equal(whole(image), STACK)
    assert image.info.scales == (1.0, 1.0, 2.0, 0.5, 0.25)
    assert image.info.channels is None
    with pytest.raises(InputError, match=r"has the axis Z in itself.*names of the files have it"):
        open_source(tmp_path / "c{Z}t{T}.tif")


@pytest.mark.parametrize("source", [".", "z*.tif"])
def test_planes_in_natural_order(tmp_path: Path, source: str) -> None:
    for z in range(12):
        write(tmp_path / f"z{z}.tif", STACK[0, 0, z])
    image = open_source(tmp_path / source, axes="zyx")
    np.testing.assert_array_equal(whole(image)[0, 0], STACK[0, 0])
    assert len(image.files) == 12
    with pytest.raises(InputError, match=r"is 12 TIFFs: give axes.*such as ZYX"):
        open_source(tmp_path / source)
    with pytest.raises(InputError, match=r"give axes.*got YXZ"):
        open_source(tmp_path / source, axes="YXZ")


def test_folders_within_a_folder_need_a_pattern(tmp_path: Path) -> None:
    write(tmp_path / "t0" / "z0.tif", STACK[0, 0, 0])
    with pytest.raises(InputError, match=r"TIFFs in folders within: .*--pattern"):
        open_source(tmp_path, axes="ZYX")


def test_channels_in_natural_order(tmp_path: Path) -> None:
    for c, name in enumerate(("w1 DAPI", "w2 GFP")):
        write(tmp_path / f"{name}.TIF", STACK[0, c])
    image = open_source(tmp_path, axes="CZYX")
    np.testing.assert_array_equal(whole(image)[0], STACK[0])
    assert image.info.channels == {"channels": [{"label": "w1 DAPI"}, {"label": "w2 GFP"}]}


def test_files_that_are_missing_are_named(tmp_path: Path) -> None:
    planes(tmp_path, "t{T}_{C}_{Z:02d}.tif", step=5)
    for name in ("t5_RFP_03.tif", "t10_GFP_11.tif"):
        (tmp_path / name).unlink()
    with pytest.raises(InputError, match="2 of 72 files are missing, those of T 5, C RFP, Z 03; T"):
        open_source(tmp_path / "t{T}_{C}_{Z}.tif")
    for path in tmp_path.glob("*_07.tif"):  # a number that no file has
        path.unlink()
    with pytest.raises(InputError, match=r"8 of 72 files are missing, .*Z 7"):
        open_source(tmp_path / "t{T}_{C}_{Z}.tif")
    with pytest.raises(InputError, match=r"u\{T\}\.tif: no file has such a name"):
        open_source(tmp_path / "u{T}.tif")


def test_files_that_are_not_alike(tmp_path: Path) -> None:
    for z in range(4):
        write(tmp_path / f"z{z}.tif", STACK[0, 0, z] if z != 2 else STACK[0, 0, z, :9])
    with pytest.raises(InputError, match=r"z2\.tif must have the shape .*, got \(1, 1, 1, 9, 30\)"):
        whole(open_source(tmp_path, axes="ZYX"))
    write(tmp_path / "z2.tif", STACK[0, 0, 2].astype("uint8"))
    with pytest.raises(InputError, match=r"z2\.tif must have the dtype .*uint16, got uint8"):
        whole(open_source(tmp_path / "z{Z}.tif"))
    (tmp_path / "z2.tif").write_bytes(b"II*\0")
    with pytest.raises(InputError, match=r"z2\.tif .* damaged"):
        whole(open_source(tmp_path / "z{Z}.tif"))


def test_the_command(tmp_path: Path) -> None:
    planes(tmp_path / "in", "t{T}/{C}_{Z}.tif")
    target = tmp_path / "out.zarr"
    arguments = ["convert", str(tmp_path / "in"), str(target), "--pattern", "t{T}/{C}_{Z}.tif"]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    assert result.output.startswith(f"{target}: T 3, C 2, Z 12, Y 20, X 30; uint16")
    np.testing.assert_array_equal(whole(open_image(target)), STACK)
