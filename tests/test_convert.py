"""TIFF, OME-TIFF and ImageJ stacks become OME-Zarr, in bounded memory, or are refused in words."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import psutil
import pytest
import tifffile
import yaozarrs
from numpy.typing import NDArray

from denoise5d.convert import convert
from denoise5d.errors import InputError, LockedError, OutputError, StoppedEarlyError
from denoise5d.geometry import Box
from denoise5d.store import Image, open_image

PATIENCE_SECONDS = 60
STACK = np.random.default_rng(3).integers(0, 4000, (3, 2, 4, 20, 30)).astype("uint16")


def write_tiff(path: Path, data: NDArray[Any], axes: str = "", **options: Any) -> None:
    """Write grey planes; without axes the file does not say what they are."""
    metadata = {"axes": axes} if axes else {}
    tifffile.imwrite(path, data, photometric="minisblack", metadata=metadata, **options)


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def whole(image: Image) -> NDArray[Any]:
    return image.read(Box.whole(image.info.shape))


def converted(source: Path, **options: Any) -> Image:
    """Convert a TIFF and return the result, found valid by an independent reader."""
    target = source.with_suffix(".zarr")
    convert(source, target, **options)
    yaozarrs.validate_zarr_store(str(target))
    return open_image(target)


def contrast(image: Image) -> list[tuple[float, float]]:
    assert image.info.channels is not None
    windows = [channel["window"] for channel in image.info.channels["channels"]]
    return [(window["start"], window["end"]) for window in windows]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "zlib"},
        {"compression": "zlib", "predictor": True, "tile": (16, 16)},
        {"rowsperstrip": 7},
    ],
)
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("bigtiff", [False, True])
def test_ome_tiff(tmp_path: Path, options: dict[str, Any], byteorder: Any, bigtiff: bool) -> None:
    source = tmp_path / "cells.ome.tif"
    metadata = {
        "axes": "TCZYX",
        "PhysicalSizeX": 0.25,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": 250,
        "PhysicalSizeYUnit": "nm",
        "PhysicalSizeZ": 2.0,
        "TimeIncrement": 3.5,
        "TimeIncrementUnit": "min",
        "Channel": {"Name": ["nuclei", "membrane"]},
    }
    with tifffile.TiffWriter(source, ome=True, byteorder=byteorder, bigtiff=bigtiff) as writer:
        writer.write(STACK, metadata=metadata, photometric="minisblack", **options)
    image = converted(source)
    np.testing.assert_array_equal(whole(image), STACK)
    assert image.info.scales == (3.5, 1.0, 2.0, 250.0, 0.25)
    assert image.info.units == ("minute", None, "micrometer", "nanometer", "micrometer")
    assert image.info.name == "cells"
    assert image.info.channels is not None
    labels = [channel["label"] for channel in image.info.channels["channels"]]
    assert labels == ["nuclei", "membrane"]
    assert contrast(image) == [(STACK[:, c].min(), STACK[:, c].max()) for c in (0, 1)]


def test_ome_tiff_in_another_order_and_without_some_axes(tmp_path: Path) -> None:
    source = tmp_path / "a.ome.tif"
    data = STACK[:, :, 0].transpose(1, 0, 2, 3)
    tifffile.imwrite(source, data, metadata={"axes": "CTYX"}, photometric="minisblack")
    np.testing.assert_array_equal(whole(converted(source)), STACK[:, :, :1])


def test_ome_tiff_of_several_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The master names the planes of both files; each is read from where it is."""
    for number in (0, 1):
        write_tiff(tmp_path / f"p{number}.tif", STACK[0, number])
    planes = "".join(
        f'<TiffData IFD="{z}" FirstZ="{z}" FirstC="{c}" FirstT="0" PlaneCount="1">'
        f'<UUID FileName="p{c}.tif">urn:uuid:{c}</UUID></TiffData>'
        for c in (0, 1)
        for z in range(4)
    )
    xml = (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:0">'
        '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" '
        'SizeX="30" SizeY="20" SizeZ="4" SizeC="2" SizeT="1" PhysicalSizeZ="oops">'
        f"{planes}</Pixels></Image></OME>"
    )
    with tifffile.TiffWriter(tmp_path / "p0.tif") as writer:
        for z, plane in enumerate(STACK[0, 0]):
            text = xml if z == 0 else None
            writer.write(plane, description=text, metadata=None, contiguous=False)
    np.testing.assert_array_equal(whole(converted(tmp_path / "p0.tif")), STACK[:1])
    assert "voxel sizes and names are left out" in caplog.text  # for the size of "oops"
    (tmp_path / "p1.tif").unlink()
    with pytest.raises(InputError, match=r"page 4 \(from 0\) of 8.*no file of it could be found"):
        convert(tmp_path / "p0.tif", tmp_path / "b.zarr")


def test_an_imagej_hyperstack(tmp_path: Path) -> None:
    source = tmp_path / "stack.tif"
    metadata = {"axes": "TZCYX", "spacing": 1.5, "unit": "um", "finterval": 12.0}
    data = STACK.transpose(0, 2, 1, 3, 4)
    tifffile.imwrite(source, data, imagej=True, resolution=(4, 2), metadata=metadata)
    image = converted(source)
    np.testing.assert_array_equal(whole(image), STACK)
    assert image.info.scales == (12.0, 1.0, 1.5, 0.5, 0.25)
    assert image.info.units == ("second", None, "micrometer", "micrometer", "micrometer")


def test_an_imagej_stack_with_a_single_page(tmp_path: Path) -> None:
    """ImageJ writes stacks beyond 4 GiB so: one page, then all planes in one run of bytes."""
    source = tmp_path / "large.tif"
    data = STACK[0, 0]
    metadata = {"axes": "ZYX"}
    with tifffile.TiffWriter(source, imagej=True) as writer:
        writer.write(data, metadata=metadata, truncate=True)
    with tifffile.TiffFile(source) as tif:
        assert len(tif.pages) == 1
    np.testing.assert_array_equal(whole(converted(source))[0, 0], data)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint32", "int64", "float32"])
def test_types_of_voxels(tmp_path: Path, dtype: str) -> None:
    source = tmp_path / "a.tif"
    data = (STACK[0, 0].astype("int64") - 60 * (dtype[0] != "u")).astype(dtype)
    write_tiff(source, data, "ZYX")
    image = converted(source)
    assert image.info.dtype == dtype
    np.testing.assert_array_equal(whole(image)[0, 0], data)


def test_contrast_of_data_with_nan(tmp_path: Path) -> None:
    source = tmp_path / "a.tif"
    write_tiff(source, np.array([[1, np.nan], [3, 2]], "float32"), "YX")
    assert contrast(converted(source)) == [(1.0, 3.0)]
    source = tmp_path / "b.tif"
    write_tiff(source, np.full((2, 2), np.nan, "float32"), "YX")
    assert contrast(converted(source)) == [(0.0, 1.0)]


def test_axes_that_the_file_does_not_name(tmp_path: Path) -> None:
    source = tmp_path / "a.tif"
    write_tiff(source, STACK[:, 0, 0])
    with pytest.raises(
        InputError, match=r"axes QYX.*\(3, 20, 30\).*what Q is. Give axes.*--axes, or input.axes"
    ):
        convert(source, tmp_path / "b.zarr")
    np.testing.assert_array_equal(whole(converted(source, axes="tyx")), STACK[:, :1, :1])
    with pytest.raises(InputError, match=r"QYX.*each of the 3 axes.*got 'TZYX'"):
        convert(source, tmp_path / "b.zarr", axes="TZYX")
    with pytest.raises(InputError, match=r"end in YX.*got YXT"):
        convert(source, tmp_path / "b.zarr", axes="YXT")


def test_files_with_several_images(tmp_path: Path) -> None:
    source = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(source, ome=True) as writer:
        writer.write(STACK[0, 0], metadata={"axes": "ZYX", "Name": "left", "PhysicalSizeZ": 1.0})
        writer.write(STACK[0, 1], metadata={"axes": "ZYX", "Name": "right", "PhysicalSizeZ": 2.0})
    for series in (None, "2", "-1"):
        with pytest.raises(InputError, match=r"holds 2 images.*0: left ZYX.*1: right ZYX"):
            convert(source, tmp_path / "b.zarr", dataset=series)
    image = converted(source, dataset="1")
    np.testing.assert_array_equal(whole(image), STACK[:1, 1:])
    assert image.info.scales[2] == 2.0


def test_progress_counts_planes(tmp_path: Path) -> None:
    source = tmp_path / "a.tif"
    write_tiff(source, STACK, "TCZYX")
    calls: list[tuple[int, int]] = []
    converted(source, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(12, 24), (24, 24)]  # a slab is a channel: 3 time points of 4 planes


# --- how it is cut into files ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "axes", "slab_bytes", "chunks", "shards"),
    [
        # all of a small stack in one file
        ((3, 20, 50, 60), "TZYX", 2**27, (1, 1, 16, 50, 60), (3, 1, 32, 50, 60)),
        # not even two planes at a time
        ((3, 20, 50, 60), "TZYX", 1, (1, 1, 1, 50, 60), (1, 1, 1, 50, 60)),
        # eight planes at a time
        ((2, 20, 50, 60), "TZYX", 8 * 3000 * 2, (1, 1, 8, 50, 60), (1, 1, 8, 50, 60)),
        # a time-lapse without z collects time points
        ((40, 50, 60), "TYX", 33 * 3000 * 2, (16, 1, 1, 50, 60), (32, 1, 1, 50, 60)),
        # planes larger than a shard
        ((2, 1100, 600), "ZYX", 2**27, (1, 1, 2, 256, 256), (1, 1, 2, 1024, 768)),
    ],
)
def test_files_hold_whole_slabs(
    tmp_path: Path,
    shape: tuple[int, ...],
    axes: str,
    slab_bytes: int,
    chunks: tuple[int, ...],
    shards: tuple[int, ...],
) -> None:
    source = tmp_path / "a.tif"
    data = (np.arange(prod(shape)) % 997).astype("uint16").reshape(shape)
    write_tiff(source, data, axes)
    image = converted(source, slab_bytes=slab_bytes)
    assert (image.info.chunks, image.info.shards) == (chunks, shards)
    np.testing.assert_array_equal(whole(image).reshape(shape), data)


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    source, plane_bytes, planes = tmp_path / "a.tif", 256 * 256 * 2, 320
    noise = np.random.default_rng(0).integers(0, 2000, (256, 256), "uint16")
    with tifffile.TiffWriter(source, ome=True) as writer:
        frames = (noise + np.uint16(z) for z in range(planes))
        shape = (planes, 256, 256)
        writer.write(frames, shape=shape, dtype="uint16", metadata={"axes": "ZYX"})
    assert source.stat().st_size > 40e6
    tracemalloc.start()
    convert(source, tmp_path / "a.zarr", slab_bytes=16 * plane_bytes)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5 * 16 * plane_bytes  # the slab, its compressed shard, and some planes
    last = open_image(tmp_path / "a.zarr").read(Box((0, 0, 319, 0, 0), (1, 1, 320, 256, 256)))
    np.testing.assert_array_equal(last[0, 0, 0], noise + np.uint16(319))


# --- what is refused -------------------------------------------------------------------------


def tiff(data: NDArray[Any], **options: Any) -> Callable[[Path], Any]:
    return lambda path: tifffile.imwrite(path, data, **options)


BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (lambda _: None, "does not exist"),
    "folder": (lambda path: path.mkdir(), "is no Zarr"),
    "empty": (lambda path: path.write_bytes(b""), "is damaged, or no TIFF"),
    "other": (lambda path: path.write_bytes(b"GIF89a" * 9), "is damaged, or no TIFF"),
    "header alone": (lambda path: path.write_bytes(b"II*\0\x08\0\0\0"), "damaged|no image"),
    "colour": (tiff(np.zeros((4, 9, 9, 3), "u1"), photometric="rgb"), "is a colour image"),
    "float64": (tiff(np.zeros((9, 9)), metadata={"axes": "YX"}), "float64 are not taken"),
    "float16": (tiff(np.zeros((9, 9), "f2"), metadata={"axes": "YX"}), "float16 are not taken"),
    "complex": (tiff(np.zeros((9, 9), "c8"), metadata={"axes": "YX"}), "complex64 are not taken"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_refused_with_the_reason(tmp_path: Path, case: str) -> None:
    make, message = BAD[case]
    make(tmp_path / "in.tif")
    with pytest.raises(InputError, match=message) as caught:
        convert(tmp_path / "in.tif", tmp_path / "out.zarr")
    assert "in.tif" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir() if path.name != "in.tif"] == []


def test_compression_that_takes_another_package(tmp_path: Path) -> None:
    source, target = tmp_path / "in.tif", tmp_path / "out.zarr"
    write_tiff(source, STACK[0, 0], "ZYX", compression="lzw", predictor=True, rowsperstrip=6)
    program = (
        "import sys; from pathlib import Path; sys.modules['imagecodecs'] = None\n"
        "from denoise5d.convert import convert\n"
        "convert(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    command = [sys.executable, "-c", program, str(source), str(target)]
    without = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "in.tif is compressed with LZW, which needs imagecodecs: pip install" in without.stderr
    np.testing.assert_array_equal(whole(converted(source, slab_bytes=1))[0, 0], STACK[0, 0])


def contiguous(path: Path) -> None:
    write_tiff(path, STACK[0, 0], "ZYX")


def page_by_page(path: Path) -> None:
    with tifffile.TiffWriter(path) as writer:
        for plane in STACK[0, 0]:
            writer.write(plane, metadata=None, contiguous=False, compression="zlib")


def imagej(path: Path) -> None:
    write_tiff(path, STACK[0, 0], "ZYX", imagej=True)


def single_page(path: Path) -> None:
    write_tiff(path, STACK[0, 0], "ZYX", truncate=True)


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.8, 0.95])
@pytest.mark.parametrize("write", [contiguous, page_by_page, imagej, single_page])
def test_files_cut_short_are_refused(
    tmp_path: Path, write: Callable[[Path], None], kept: float
) -> None:
    source = tmp_path / "in.tif"
    write(source)
    content = source.read_bytes()
    source.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(InputError, match=r"in\.tif.*page \d \(from 0\)"):
        convert(source, tmp_path / "out.zarr", axes="ZYX")
    assert [path.name for path in tmp_path.iterdir()] == ["in.tif"]


def test_the_page_of_the_damage_is_named(tmp_path: Path) -> None:
    source = tmp_path / "in.tif"
    page_by_page(source)
    with tifffile.TiffFile(source) as tif:
        start = tif.pages[2].dataoffsets[0]
    content = bytearray(source.read_bytes())
    content[start : start + 40] = bytes(40)
    source.write_bytes(content)
    with pytest.raises(InputError, match=r"page 2 \(from 0\) of 4 cannot be read"):
        convert(source, tmp_path / "out.zarr", axes="ZYX")
    single_page(source)
    source.write_bytes(source.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"page 3 \(from 0\) of 4 cannot be read"):
        convert(source, tmp_path / "out.zarr", axes="ZYX")


def files_of(image: Path) -> dict[Path, bytes]:
    """Return the content of every file of voxels of an image."""
    files = [path for path in (image / "0/c").rglob("*") if path.is_file()]
    return {path.relative_to(image): path.read_bytes() for path in files}


def written(image: Path) -> dict[Path, int]:
    """Return when each of them was written."""
    return {name: (image / name).stat().st_mtime_ns for name in files_of(image)}


def stop_at(planes: int) -> Callable[[int, int], None]:
    def progress(done: int, _: int) -> None:
        if done >= planes:
            raise KeyboardInterrupt

    return progress


def test_an_interrupted_conversion_goes_on(tmp_path: Path) -> None:
    """What is done is not done again, and the result is that of a conversion in one go."""
    source, target = tmp_path / "in.tif", tmp_path / "out.zarr"
    write_tiff(source, STACK, "TCZYX", compression="zlib")
    convert(source, tmp_path / "once.zarr", slab_bytes=1)
    with pytest.raises(KeyboardInterrupt):
        convert(source, target, slab_bytes=1, progress=stop_at(10))
    assert not target.exists()
    unfinished = tmp_path / ".out.zarr.conversion"
    before = written(unfinished / "image")
    assert len(before) == 10
    with (unfinished / "slabs.jsonl").open("a") as ledger:
        ledger.write('{"slab": 11, "chan')  # torn: the machine went down here
    calls: list[tuple[int, int]] = []
    convert(source, target, slab_bytes=1, progress=lambda *call: calls.append(call))
    assert calls == [(done, 24) for done in range(11, 25)]
    assert before.items() <= written(target).items()
    assert files_of(target) == files_of(tmp_path / "once.zarr")
    assert contrast(open_image(target)) == contrast(open_image(tmp_path / "once.zarr"))
    assert not unfinished.exists()


@pytest.mark.parametrize("change", ["another file", "touched", "other axes", "other slabs"])
def test_a_conversion_of_something_else_begins_anew(tmp_path: Path, change: str) -> None:
    source, target = tmp_path / "in.tif", tmp_path / "out.zarr"
    write_tiff(source, STACK[0, 0])
    options: dict[str, Any] = {"axes": "ZYX", "slab_bytes": 1}
    with pytest.raises(KeyboardInterrupt):
        convert(source, target, **options, progress=stop_at(2))
    data = STACK[0, 0]
    if change == "another file":
        source, data = tmp_path / "other.tif", STACK[1, 1]
        write_tiff(source, data)
    elif change == "touched":
        data = STACK[1, 1]
        write_tiff(source, data)
    elif change == "other axes":
        options["axes"] = "TYX"
    else:
        options["slab_bytes"] = 10**6
    calls: list[int] = []
    convert(source, target, **options, progress=lambda done, _: calls.append(done))
    assert calls[0] == (4 if change == "other slabs" else 1)
    np.testing.assert_array_equal(whole(open_image(target)).squeeze(), data)
    assert not (tmp_path / ".out.zarr.conversion").exists()


def test_nothing_is_left_when_nothing_was_done(tmp_path: Path) -> None:
    source = tmp_path / "in.tif"
    write_tiff(source, STACK[0, 0], "ZYX")
    with (
        patch("denoise5d.convert.copied", side_effect=InputError("at once")),
        pytest.raises(InputError),
    ):
        convert(source, tmp_path / "out.zarr")
    assert [path.name for path in tmp_path.iterdir()] == ["in.tif"]


def test_only_one_conversion_at_a_time_makes_a_target(tmp_path: Path) -> None:
    source, target = tmp_path / "in.tif", tmp_path / "out.zarr"
    write_tiff(source, STACK[0, 0], "ZYX")

    def another(*_: int) -> None:
        with pytest.raises(LockedError, match="works on this output"):
            convert(source, target)

    convert(source, target, slab_bytes=1, progress=another)
    np.testing.assert_array_equal(whole(open_image(target))[0, 0], STACK[0, 0])


# --- several processes -----------------------------------------------------------------------


def test_several_processes_make_the_same_files(tmp_path: Path) -> None:
    source = tmp_path / "in.tif"
    write_tiff(source, STACK, "TCZYX", compression="zlib")
    convert(source, tmp_path / "one.zarr", slab_bytes=1)
    convert(source, tmp_path / "two.zarr", slab_bytes=1, workers=2)
    assert len(files_of(tmp_path / "one.zarr")) == 24
    assert files_of(tmp_path / "one.zarr") == files_of(tmp_path / "two.zarr")
    one, two = (open_image(tmp_path / name) for name in ("one.zarr", "two.zarr"))
    assert one.info.channels == two.info.channels


def test_an_error_in_a_process_is_told_and_the_rest_is_kept(tmp_path: Path) -> None:
    source, target = tmp_path / "in.tif", tmp_path / "out.zarr"
    with tifffile.TiffWriter(source) as writer:
        for plane in np.repeat(STACK[0, 0], 16, axis=0):
            writer.write(plane, metadata=None, contiguous=False, compression="zlib")
    with tifffile.TiffFile(source) as tif:
        start = tif.pages[60].dataoffsets[0]  # in no sample
    content = bytearray(source.read_bytes())
    content[start : start + 40] = bytes(40)
    source.write_bytes(content)
    with pytest.raises(InputError, match=r"page 60 \(from 0\) of 64 cannot be read"):
        convert(source, target, axes="ZYX", slab_bytes=1, workers=2)
    done = (tmp_path / ".out.zarr.conversion/slabs.jsonl").read_text().splitlines()
    assert len(done) > 2
    assert not target.exists()


def test_a_process_that_dies_is_told(tmp_path: Path) -> None:
    """As the system kills one that takes too much memory."""
    source, target = tmp_path / "in.tif", tmp_path / "out.zarr"
    write_tiff(source, STACK, "TCZYX")

    def kill(*_: int) -> None:
        for child in psutil.Process().children():
            with suppress(psutil.Error):  # dead already
                if "spawn_main" in " ".join(child.cmdline()):
                    child.kill()

    with pytest.raises(StoppedEarlyError, match=r"a process of the conversion died.*--workers"):
        convert(source, target, slab_bytes=1, workers=2, progress=kill)
    convert(source, target, slab_bytes=1)
    np.testing.assert_array_equal(whole(open_image(target)), STACK)


CONVERT = """
import sys
from pathlib import Path
from denoise5d.convert import convert
if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]), slab_bytes=1, workers=int(sys.argv[3]))
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_conversion_goes_on(tmp_path: Path, workers: int) -> None:
    source, target = tmp_path / "in.tif", tmp_path / "out.zarr"
    data = np.random.default_rng(1).integers(0, 999, (300, 64, 64), "uint16")
    write_tiff(source, data, "ZYX")
    script = tmp_path / "script.py"
    script.write_text(CONVERT)
    command = [sys.executable, str(script), str(source), str(target), str(workers)]
    process = subprocess.Popen(command, start_new_session=True)
    ledger = tmp_path / ".out.zarr.conversion/slabs.jsonl"
    wait_until(lambda: ledger.exists() and ledger.read_bytes().count(b"\n") > 3)
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= workers - 1
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=PATIENCE_SECONDS)
    assert alive == []  # nobody goes on writing
    assert not target.exists()
    done = ledger.read_bytes().count(b"\n") - 1
    assert 0 < done < 300
    calls: list[int] = []
    convert(source, target, slab_bytes=1, progress=lambda now, _: calls.append(now))
    assert calls == list(range(done + 1, 301))
    np.testing.assert_array_equal(whole(open_image(target))[0, 0], data)


def test_ctrl_c_reaches_only_the_parent(tmp_path: Path) -> None:
    """A terminal sends it to all: the slabs in work are finished, and nothing is said of them."""
    source, target = tmp_path / "in.tif", tmp_path / "out.zarr"
    write_tiff(source, np.zeros((70, 1024, 1024), "uint16"), "CYX")  # a slab is a channel
    command = [sys.executable, "-m", "denoise5d", "convert", str(source), str(target)]
    process = subprocess.Popen(
        [*command, "--workers", "2"], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    ledger = tmp_path / ".out.zarr.conversion/slabs.jsonl"
    wait_until(lambda: ledger.exists() and ledger.read_bytes().count(b"\n") > 1)
    os.killpg(process.pid, signal.SIGINT)
    _, text = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, "Traceback" in text) == (130, False)
    assert "the same command goes on" in text


def test_an_existing_target_is_kept_until_the_new_one_is_whole(tmp_path: Path) -> None:
    source, target = tmp_path / "in.tif", tmp_path / "out.zarr"
    contiguous(source)
    convert(source, target)
    with pytest.raises(OutputError, match="exists"):
        convert(source, target)
    source.write_bytes(source.read_bytes()[:3000])
    with pytest.raises(InputError):
        convert(source, target, overwrite=True)
    np.testing.assert_array_equal(whole(open_image(target))[0, 0], STACK[0, 0])
    write_tiff(source, STACK[1, 1], "ZYX")
    convert(source, target, overwrite=True)
    np.testing.assert_array_equal(whole(open_image(target))[0, 0], STACK[1, 1])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.tif", "out.zarr"]
