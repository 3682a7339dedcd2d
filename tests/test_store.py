"""Reading images of all kinds, and making, filling and syncing the output."""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numcodecs  # type: ignore[import-untyped]
import numpy as np
import pytest
import yaozarrs
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from zarr.codecs import BloscCodec

from denoise5d.errors import InputError, OutputError
from denoise5d.geometry import AXES, Box, Index, as_index
from denoise5d.levels import PyramidLevel, make_levels
from denoise5d.plan import Layout
from denoise5d.store import (
    Description,
    Output,
    checksum,
    complete_channels,
    convert_dtype,
    create_level,
    create_output,
    describe_channels,
    describe_levels,
    free_bytes,
    has_windows,
    is_complete,
    is_untouched,
    limit_threads,
    listed_datasets,
    open_image,
    open_output,
    read_provenance,
    staged,
    standard_unit,
)

SHAPE: Index = (3, 2, 5, 6, 7)
UNSHARDED = Layout((1, 1, 2, 4, 4), None)
SHARDED = Layout((1, 1, 2, 4, 4), (1, 1, 4, 4, 8))
OLDER = Layout((1, 1, 2, 4, 4), None, "ome-zarr-0.4")
METADATA = {
    "ome-zarr-0.5": ["0/zarr.json", "zarr.json"],
    "ome-zarr-0.4": [".zattrs", ".zgroup", "0/.zarray", "0/.zattrs"],
}
INTEGERS = ["uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"]


def counted(shape: tuple[int, ...], dtype: str = "uint16") -> NDArray[Any]:
    """Return different values everywhere, none of them the fill value."""
    return (np.arange(np.prod(shape)).reshape(shape) % 30000 + 1).astype(dtype)


def plain(path: Path, data: NDArray[Any], **options: Any) -> Path:
    """Write a plain array."""
    chunks = options.pop("chunks", tuple(min(3, n) for n in data.shape))
    array = zarr.create_array(
        path, shape=data.shape, dtype=data.dtype, chunks=chunks, fill_value=0, **options
    )
    array[...] = data
    return path


def ome(path: Path, version: str, levels: dict[str, NDArray[Any]], **image: Any) -> Path:
    """Write an OME-Zarr image with the given entries in its multiscales and omero metadata."""
    omero = image.pop("omero", None)
    found: dict[str, Any] = {"multiscales": [{"version": version, **image}]}
    if omero is not None:
        found["omero"] = omero
    attributes = found if version == "0.4" else {"ome": {"version": version, **found}}
    zarr_format = 2 if version == "0.4" else 3
    zarr.create_group(path, zarr_format=zarr_format, attributes=attributes)  # type: ignore[arg-type]
    for name, data in levels.items():
        plain(path / name, data, zarr_format=zarr_format)
    return path


def described(shape: Index = SHAPE, dtype: str = "uint16", **more: Any) -> Description:
    return Description(name="embryo", shape=shape, dtype=np.dtype(dtype), **more)


def new_output(
    path: Path, image: Description, layout: Layout = SHARDED, dtype: str = "uint16"
) -> Output:
    create_output(path, image, layout=layout, dtype=np.dtype(dtype), provenance={"run": 1})
    return open_output(path)


def fill(output: Output, data: NDArray[Any]) -> None:
    for box in Box.whole(output.shape).tiles(output.unit):
        output.write_unit(box, data[box.slices])


def files_below(path: Path) -> list[str]:
    return sorted(p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file())


# --- reading ---------------------------------------------------------------------------------


@st.composite
def stored_images(draw: st.DrawFn) -> tuple[str, tuple[int, ...], dict[str, Any], Box]:
    """Draw axes, their lengths, ways of storing, and a box of the image."""
    axes = "".join(draw(st.permutations(AXES)))[: draw(st.integers(2, 5))]
    lengths = tuple(draw(st.lists(st.integers(1, 6), min_size=len(axes), max_size=len(axes))))
    zarr_format = draw(st.sampled_from([2, 3]))
    chunks = tuple(draw(st.integers(1, n)) for n in lengths)
    options: dict[str, Any] = {"zarr_format": zarr_format, "chunks": chunks}
    if zarr_format == 3 and draw(st.booleans()):
        options["shards"] = tuple(c * draw(st.integers(1, 3)) for c in chunks)
    shape = as_index([lengths[axes.index(a)] if a in axes else 1 for a in AXES])
    start = as_index([draw(st.integers(0, n - 1)) for n in shape])
    stop = as_index([draw(st.integers(a + 1, n)) for a, n in zip(start, shape, strict=True)])
    return axes, lengths, options, Box(start, stop)


@settings(max_examples=40, deadline=None)
@given(case=stored_images(), dtype=st.sampled_from(["u1", ">u2", "<i4", ">f4"]))
def test_a_box_is_what_slicing_gives(
    tmp_path_factory: pytest.TempPathFactory,
    case: tuple[str, tuple[int, ...], dict[str, Any], Box],
    dtype: str,
) -> None:
    axes, lengths, options, box = case
    data = counted(lengths, dtype)
    path = plain(tmp_path_factory.mktemp("image") / "a.zarr", data, **options)
    image = open_image(path, axes=axes)
    missing = tuple(range(len(axes), 5))
    expected = np.expand_dims(data, missing).transpose(
        [(axes + "".join(a for a in AXES if a not in axes)).index(a) for a in AXES]
    )
    assert image.info.shape == expected.shape
    read = image.read(box)
    assert read.flags.c_contiguous
    assert read.dtype == np.dtype(dtype).newbyteorder("=")
    assert read.dtype.isnative
    np.testing.assert_array_equal(read, expected[box.slices])


def test_all_orders_of_five_axes(tmp_path: Path) -> None:
    data = counted((2, 3, 4, 5, 6))
    path = plain(tmp_path / "a.zarr", data, chunks=(1, 3, 4, 5, 6))
    for order in permutations(AXES):
        image = open_image(path, axes="".join(order))
        expected = data.transpose([order.index(axis) for axis in AXES])
        box = Box((1, 0, 1, 1, 0), image.info.shape)
        np.testing.assert_array_equal(image.read(box), expected[box.slices])


def test_a_plain_array_of_five_axes_is_tczyx(tmp_path: Path) -> None:
    image = open_image(plain(tmp_path / "a.zarr", counted(SHAPE), chunks=(1, 2, 3, 4, 5)))
    info = image.info
    assert (info.axes, info.shape, info.dataset) == ("TCZYX", SHAPE, "")
    assert (info.chunks, info.shards, info.zarr_format) == ((1, 2, 3, 4, 5), None, 3)
    assert (info.scales, info.units, info.translations) == ((1.0,) * 5, (None,) * 5, None)
    assert (info.channels, info.name) == (None, "a")


def test_info_travels_to_workers(tmp_path: Path) -> None:
    info = open_image(plain(tmp_path / "a.zarr", counted(SHAPE))).info
    assert pickle.loads(pickle.dumps(info)) == info


def test_shards_are_reported_in_the_order_of_the_image(tmp_path: Path) -> None:
    path = plain(tmp_path / "a.zarr", counted((6, 8)), chunks=(3, 2), shards=(6, 4))
    info = open_image(path, axes="XT").info
    assert (info.shape, info.chunks, info.shards) == (
        (8, 1, 1, 1, 6),
        (2, 1, 1, 1, 3),
        (4, 1, 1, 1, 6),
    )


def test_names_of_dimensions_are_axes_if_they_can_be(tmp_path: Path) -> None:
    named = plain(tmp_path / "a", counted((2, 3, 4)), dimension_names=["z", "y", "x"])
    assert open_image(named).info.axes == "ZYX"
    other = plain(tmp_path / "b", counted(SHAPE), dimension_names=["a", None, "b", "y", "x"])
    assert open_image(other).info.axes == "TCZYX"


def test_a_chunk_without_a_file_is_fill(tmp_path: Path) -> None:
    path = plain(tmp_path / "a.zarr", counted(SHAPE), chunks=SHAPE)
    (path / "c/0/0/0/0/0").unlink()
    assert not open_image(path).read(Box.whole(SHAPE)).any()


def test_a_box_beyond_the_image_is_refused(tmp_path: Path) -> None:
    image = open_image(plain(tmp_path / "a.zarr", counted(SHAPE)))
    with pytest.raises(ValueError, match="not inside"):
        image.read(Box((0, 0, 0, 0, 0), (4, 2, 5, 6, 7)))


AXES_04 = [
    {"name": "c", "type": "channel"},
    {"name": "z", "type": "space", "unit": "micrometer"},
    {"name": "y", "type": "space", "unit": "µm"},
    {"name": "x", "type": "space", "unit": "micrometer"},
]


def test_ome_zarr_04_with_transformations_of_level_and_image(tmp_path: Path) -> None:
    fine, coarse = counted((2, 4, 6, 8)), counted((2, 4, 3, 4))
    transformations = [
        {"type": "scale", "scale": [1, 2, 0.5, 0.25]},
        {"type": "translation", "translation": [0, 4, 1, 0]},
    ]
    half = [{"type": "scale", "scale": [1, 2, 1, 0.5]}]
    path = ome(
        tmp_path / "a.zarr",
        "0.4",
        {"fine": fine, "coarse": coarse},
        name="cells",
        axes=AXES_04,
        datasets=[
            {"path": "fine", "coordinateTransformations": transformations},
            {"path": "coarse", "coordinateTransformations": half},
        ],
        coordinateTransformations=[{"type": "scale", "scale": [1, 10, 1, 1]}],
        omero={"channels": [{"label": "a"}, {"label": "b"}]},
    )
    info = open_image(path).info
    assert (info.axes, info.shape, info.dataset, info.zarr_format) == (
        "CZYX",
        (1, 2, 4, 6, 8),
        "fine",
        2,
    )
    assert info.scales == (1, 1, 20, 0.5, 0.25)
    assert info.translations == (0, 0, 40, 1, 0)
    assert info.units == (None, None, "micrometer", "micrometer", "micrometer")
    assert info.channels == {"channels": [{"label": "a"}, {"label": "b"}]}
    assert info.name == "cells"
    for dataset in ("coarse", "1"):  # by its path, or by its number
        second = open_image(path, dataset=dataset).info
        assert (second.dataset, second.shape) == ("coarse", (1, 2, 4, 3, 4))
        assert second.scales == (1, 1, 20, 1, 0.5)
        assert second.translations is None
    assert open_image(path / "coarse").info.scales == second.scales


def test_ome_zarr_05_with_axes_given_otherwise(tmp_path: Path) -> None:
    """Numbers stay with the axes that keep their name; the others are not guessed."""
    path = ome(
        tmp_path / "a.zarr",
        "0.5",
        {"0": counted((4, 6, 8))},
        axes=AXES_04[1:],
        datasets=[
            {
                "path": "0",
                "coordinateTransformations": [{"type": "scale", "scale": [2, 0.5, 0.25]}],
            }
        ],
    )
    info = open_image(path).info
    assert (info.axes, info.scales) == ("ZYX", (1, 1, 2, 0.5, 0.25))
    info = open_image(path, axes="tyx").info
    assert (info.axes, info.shape, info.scales) == ("TYX", (4, 1, 1, 6, 8), (1, 1, 1, 0.5, 0.25))
    assert info.units == (None, None, None, "micrometer", "micrometer")


@pytest.mark.parametrize(
    "transformation",
    [
        {"type": "scale", "scale": [1, 2]},
        {"type": "scale", "scale": [1, "2", None]},
        {"type": "scale", "scale": [1, 0, 1]},
        {"type": "scale", "path": "elsewhere"},
        {"type": "affine", "affine": [1, 1, 1]},
        "scale",
    ],
)
def test_transformations_without_sense_are_left_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, transformation: Any
) -> None:
    datasets = [{"path": "0", "coordinateTransformations": [transformation]}]
    levels = {"0": counted((4, 6, 8))}
    path = ome(tmp_path / "a.zarr", "0.5", levels, axes=AXES_04[1:], datasets=datasets)
    assert open_image(path).info.scales == (1.0,) * 5
    assert "makes no sense" in caplog.text


def test_axes_of_version_03_are_names_alone(tmp_path: Path) -> None:
    levels = {"0": counted((4, 6))}
    path = ome(tmp_path / "a", "0.4", levels, axes=["y", "x"], datasets=[{"path": "0"}])
    assert open_image(path).info.axes == "YX"


def test_an_image_inside_a_group_is_found_by_its_name(tmp_path: Path) -> None:
    zarr.create_group(tmp_path / "plate.zarr")
    levels = {"s0": counted((4, 6))}
    axes = AXES_04[2:]
    ome(tmp_path / "plate.zarr/A/1", "0.5", levels, axes=axes, datasets=[{"path": "s0"}])
    zarr.create_group(tmp_path / "plate.zarr/A")
    with pytest.raises(InputError, match=r"input\.dataset.*It holds: A/1\."):
        open_image(tmp_path / "plate.zarr")
    info = open_image(tmp_path / "plate.zarr", dataset="A/1").info
    assert (info.dataset, info.axes) == ("A/1/s0", "YX")
    with pytest.raises(InputError, match=r"no array or image 'B'.*A/1"):
        open_image(tmp_path / "plate.zarr", dataset="B")


def bad_inputs() -> dict[str, tuple[Callable[[Path], Any], str]]:
    """Return what to make at a path, and what its error must say."""

    def text(name: str, content: str) -> Callable[[Path], Any]:
        def make(path: Path) -> None:
            plain(path, counted((4, 6)))
            (path / name).write_text(content)

        return make

    def image(**options: Any) -> Callable[[Path], Any]:
        return lambda path: ome(path, "0.5", {"0": counted((4, 6))}, **options)

    def of_type(dtype: str) -> Callable[[Path], Any]:
        return lambda path: plain(path, np.zeros(SHAPE, dtype))

    return {
        "missing": (lambda _: None, "does not exist"),
        "tiff": (lambda path: path.write_bytes(b"II*\0...."), "denoise5d convert"),
        "big tiff": (lambda path: path.write_bytes(b"MM\0+...."), "denoise5d convert"),
        "zip": (lambda path: path.write_bytes(b"PK\3\4"), "unpack"),
        "other file": (lambda path: path.write_bytes(b"GIF89a"), "must be the folder"),
        "empty folder": (lambda path: path.mkdir(), "no Zarr.*holds no arrays"),
        "folder of arrays": (
            lambda path: plain(path / "a", counted((4, 6))),
            "no Zarr.*It holds: a",
        ),
        "empty group": (lambda path: zarr.create_group(path), "input.dataset.*no arrays"),
        "broken json": (text("zarr.json", "{"), "metadata cannot be read"),
        "no json object": (text("zarr.json", "[]"), "metadata cannot be read"),
        "json without keys": (text("zarr.json", '{"node_type": "array"}'), "metadata cannot be"),
        "bool": (of_type("bool"), "bool are not taken.*float32"),
        "complex": (of_type("complex64"), "complex64 are not taken"),
        "float64": (of_type("float64"), "float64 are not taken.*astype"),
        "float16": (of_type("float16"), "float16 are not taken.*astype"),
        "one axis": (lambda path: plain(path, counted((9,))), r"2 to 5 axes.*\(9,\)"),
        "six axes": (lambda path: plain(path, counted((1,) * 6)), "2 to 5 axes"),
        "no voxels": (lambda path: plain(path, counted((0, 3)), chunks=(1, 1)), "at least 1"),
        "unknown axes": (lambda path: plain(path, counted((2, 3, 4))), r"Give input\.axes"),
        "axes of other kinds": (
            image(axes=[{"name": "angle"}, {"name": "x"}], datasets=[{"path": "0"}]),
            r"got '\?X'.*give input\.axes",
        ),
        "axes twice": (image(axes=["x", "x"], datasets=[{"path": "0"}]), "got 'XX'"),
        "too few axes": (image(axes=["x"], datasets=[{"path": "0"}]), "got 'X'"),
        "level not there": (image(axes=["y", "x"], datasets=[{"path": "1"}]), "1 is no Zarr"),
        "no levels": (image(axes=["y", "x"], datasets=[]), "no multiscales.*It holds: 0"),
    }


@pytest.mark.parametrize("case", bad_inputs())
def test_bad_inputs_are_refused_with_the_reason(tmp_path: Path, case: str) -> None:
    make, message = bad_inputs()[case]
    make(tmp_path / "in.zarr")
    with pytest.raises(InputError, match=message) as caught:
        open_image(tmp_path / "in.zarr")
    assert "in.zarr" in str(caught.value)


@pytest.mark.parametrize("axes", ["YX", "ZYXT", "ZYY", "ZYQ", ""])
def test_axes_must_fit_the_array(tmp_path: Path, axes: str) -> None:
    path = plain(tmp_path / "a.zarr", counted((2, 3, 4)))
    with pytest.raises(InputError, match=f"each of the 3 axes.*got '{axes}'"):
        open_image(path, axes=axes)


def test_a_folder_that_may_not_be_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = plain(tmp_path / "a.zarr", counted(SHAPE))

    def refuse(self: Path) -> bool:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    monkeypatch.setattr(Path, "is_file", refuse)
    with pytest.raises(InputError, match=r"a\.zarr cannot be read: Permission denied"):
        open_image(path)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "a few bytes": lambda content: content[:3],
    "cut in half": lambda content: content[: len(content) // 2],
    "one byte short": lambda content: content[:-1],
}
WAYS: dict[str, dict[str, Any]] = {
    "v3": {},
    "v3 raw": {"compressors": None},
    "v3 blosc": {"compressors": BloscCodec(cname="lz4")},
    "shards": {"shards": (2, 2, 4, 4, 8)},
    "v2": {"zarr_format": 2},
    "v2 raw": {"zarr_format": 2, "compressors": None},
    "v2 nested": {"zarr_format": 2, "chunk_key_encoding": {"name": "v2", "separator": "/"}},
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("way", WAYS)
def test_a_damaged_chunk_is_named(tmp_path: Path, way: str, damage: str) -> None:
    data = np.random.default_rng(1).integers(0, 9999, SHAPE).astype("uint16")
    path = plain(tmp_path / "a.zarr", data, chunks=(2, 2, 2, 4, 4), **WAYS[way])
    names = {"v2": "0.0.0.1.0", "v2 raw": "0.0.0.1.0", "v2 nested": "0/0/0/1/0"}
    name = names.get(way, "c/0/0/0/1/0")
    (path / name).write_bytes(DAMAGES[damage]((path / name).read_bytes()))
    image = open_image(path)
    z = 4 if way == "shards" else 2
    with pytest.raises(InputError) as caught:
        image.read(Box.whole(SHAPE))
    x = 7 if way == "shards" else 4
    assert str(path / name) in str(caught.value)
    assert f"voxels t 0:2, c 0:2, z 0:{z}, y 4:6, x 0:{x}" in str(caught.value)
    sound = Box((0, 0, 0, 0, 0), (3, 2, 5, 4, 7))
    np.testing.assert_array_equal(image.read(sound), data[sound.slices])


def test_a_blosc_chunk_of_zarr_v2_cut_short_is_named(tmp_path: Path) -> None:
    """The codec itself does not look at the length and gives garbage."""
    data = np.random.default_rng(1).integers(0, 9999, (40, 50)).astype("uint16")
    codec = numcodecs.Blosc("lz4")
    path = plain(tmp_path / "a", data, zarr_format=2, compressors=codec, chunks=(40, 50))
    image = open_image(path, axes="YX")
    whole = Box.whole(image.info.shape)
    np.testing.assert_array_equal(image.read(whole)[0, 0, 0], data)
    os.truncate(path / "0.0", (path / "0.0").stat().st_size - 1)
    with pytest.raises(InputError, match=r"0\.0 cannot be read .*its header says"):
        image.read(whole)


def test_an_array_that_went_away_is_no_fill(tmp_path: Path) -> None:
    image = open_image(plain(tmp_path / "a.zarr", counted(SHAPE)))
    shutil.rmtree(tmp_path / "a.zarr")
    with pytest.raises(InputError, match="is gone"):
        image.read(Box.whole(SHAPE))


def test_the_sample_tells_contents_apart_not_ways_of_storing(tmp_path: Path) -> None:
    data = counted((40, 33, 29))
    chunks = (5, 9, 29)

    def sample(name: str, data: NDArray[Any], axes: str = "ZYX", **options: Any) -> str:
        path = plain(tmp_path / name, data, **({"chunks": chunks} | options))
        first = open_image(path, axes=axes).content_sample()
        assert first == open_image(path, axes=axes).content_sample()
        return first

    usual = sample("a", data)
    assert usual == sample("b", data, zarr_format=2)
    assert usual == sample("c", data, compressors=None)
    assert usual == sample("d", data.transpose(2, 0, 1), axes="XZY", chunks=(29, 5, 9))
    assert usual != sample("e", data + np.uint16(1))
    assert usual != sample("f", data.astype("int16"))
    assert usual != sample("g", data.reshape(33, 40, 29))
    assert usual != sample("h", data, axes="TYX")


def test_the_sample_reads_a_bounded_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = plain(tmp_path / "a", np.zeros((40, 40), "u1"), chunks=(2, 2), shards=(20, 20))
    image = open_image(path, axes="YX")
    boxes: list[Box] = []
    read = image.read

    def record(box: Box) -> NDArray[Any]:
        boxes.append(box)
        return read(box)

    monkeypatch.setattr(image, "read", record)
    image.content_sample()
    assert len(boxes) == 16
    assert sum(box.voxels for box in boxes) <= 16 * 4
    rows = {box.start[3] // 10 for box in boxes}
    assert rows == {0, 1, 2, 3}


def test_the_sample_of_a_single_huge_chunk_is_bounded(tmp_path: Path) -> None:
    data = np.zeros((1500, 1500), "u1")
    path = plain(tmp_path / "a", data, chunks=(1500, 1500))
    empty = open_image(path, axes="YX").content_sample()
    data[10, 10] = 1
    plain(path, data, chunks=(1500, 1500), overwrite=True)
    assert open_image(path, axes="YX").content_sample() != empty


# --- values ----------------------------------------------------------------------------------

FLOATS = st.lists(
    st.one_of(
        st.floats(width=32, allow_nan=False, allow_infinity=False),
        st.integers(-(2**64), 2**65).map(lambda value: float(np.float32(value))),
        st.integers(-600, 600).map(lambda value: value / 2),
    ),
    min_size=1,
    max_size=20,
)


@settings(deadline=None)
@given(values=FLOATS, dtype=st.sampled_from(INTEGERS))
def test_integers_are_rounded_half_to_even_and_clipped(values: list[float], dtype: str) -> None:
    limits = np.iinfo(dtype)
    expected = [min(max(round(value), limits.min), limits.max) for value in values]
    array = np.array(values, "float32")
    before = array.copy()
    result = convert_dtype(array, np.dtype(dtype))
    assert result.dtype == dtype
    assert [int(value) for value in result] == expected
    np.testing.assert_array_equal(array, before)


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_no_integer_can_hold_are_refused(dtype: str, value: float) -> None:
    with pytest.raises(ValueError, match="1 of 2 are NaN or infinite"):
        convert_dtype(np.array([1, value], "float32"), np.dtype(dtype))


def test_other_types_are_refused_and_the_right_ones_kept() -> None:
    with pytest.raises(ValueError, match="float32 or uint8, got float64"):
        convert_dtype(np.zeros(2), np.dtype("uint8"))
    with pytest.raises(ValueError, match="got uint16"):
        convert_dtype(np.zeros(2, "uint16"), np.dtype("uint8"))
    for dtype in ("uint64", "float32"):
        same = counted((4,), dtype)
        assert convert_dtype(same, np.dtype(dtype)) is same


def test_checksums_depend_on_values_shape_and_type_alone() -> None:
    data = counted((4, 6))
    digest = checksum(data)
    assert len(digest) == 16
    assert digest == checksum(np.asfortranarray(data)) == checksum(data.astype(">u2"))
    others = [data.reshape(6, 4), data.astype("int16"), data[::-1], data.ravel()]
    assert len({digest, *map(checksum, others)}) == 5


# --- the output ------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [UNSHARDED, SHARDED, OLDER])
@pytest.mark.parametrize("dtype", ["uint16", "longlong", "float32"])
def test_what_is_written_is_read(tmp_path: Path, layout: Layout, dtype: str) -> None:
    data = counted(SHAPE, dtype)
    output = new_output(tmp_path / "out.zarr", described(dtype=dtype), layout, dtype)
    assert output.unit == layout.write_unit
    fill(output, data)
    output.sync(Box.whole(SHAPE))
    box = Box((1, 0, 1, 2, 3), (3, 1, 5, 6, 7))
    np.testing.assert_array_equal(output.read(box), data[box.slices])
    read = zarr.open_array(tmp_path / "out.zarr/0", mode="r")
    assert read.dtype == dtype
    assert (read.chunks, read.shards) == (layout.chunks, layout.shards)
    np.testing.assert_array_equal(read[...], data)
    np.testing.assert_array_equal(open_image(tmp_path / "out.zarr").read(box), data[box.slices])


def test_floats_are_rounded_and_clipped_on_writing(tmp_path: Path) -> None:
    output = new_output(tmp_path / "out.zarr", described((1, 1, 1, 1, 4)), UNSHARDED)
    values = np.array([-3, 2.5, 3.5, 70000], "float32").reshape(1, 1, 1, 1, 4)
    box = Box.whole(output.shape)
    output.write_unit(box, values)
    assert output.read(box).ravel().tolist() == [0, 2, 4, 65535]


@pytest.mark.parametrize("layout", [SHARDED, OLDER])
def test_metadata_are_carried_over_and_valid(tmp_path: Path, layout: Layout) -> None:
    channels = {
        "channels": [
            {"label": "nuclei", "color": "#00ffaa", "window": {"start": 5, "end": 90, "max": None}},
            {"color": "blue", "extra": 1},
        ],
        "rdefs": {"model": "color"},
        "version": "0.4",
    }
    image = described(
        scales=(30.0, 1.0, 2.0, 0.4, 0.4),
        units=("second", None, "micrometer", "micrometer", "micrometer"),
        translations=(0.0, 0.0, 8.0, 0.0, 0.0),
        channels=channels,
    )
    path = tmp_path / "out.zarr"
    new_output(path, image, layout, dtype="float32")
    yaozarrs.validate_zarr_store(str(path))
    info = open_image(path).info
    assert (info.scales, info.units, info.translations, info.name) == (
        image.scales,
        image.units,
        image.translations,
        "embryo",
    )
    if layout is OLDER:
        ome = attributes = json.loads((path / ".zattrs").read_text())
        assert ome["multiscales"][0]["version"] == "0.4"
        names = json.loads((path / "0/.zattrs").read_text())["_ARRAY_DIMENSIONS"]
    else:
        attributes = json.loads((path / "zarr.json").read_text())["attributes"]
        ome = attributes["ome"]
        assert ome["version"] == "0.5"
        names = json.loads((path / "0/zarr.json").read_text())["dimension_names"]
    assert names == ["t", "c", "z", "y", "x"]
    assert attributes["denoise5d"] == {"run": 1}
    assert ome["omero"] == {
        "rdefs": {"model": "color"},
        "channels": [
            {
                "label": "nuclei",
                "active": True,
                "color": "00ffaa",
                "window": {"min": 0.0, "max": 65535.0, "start": 5, "end": 90},
            },
            {
                "label": "channel 1",
                "active": True,
                "extra": 1,
                "color": "FF00FF",
                "window": {"min": 0.0, "max": 65535.0, "start": 0.0, "end": 65535.0},
            },
        ],
    }


@pytest.mark.parametrize("layout", [SHARDED, OLDER])
def test_the_least_metadata_are_valid_too(tmp_path: Path, layout: Layout) -> None:
    new_output(tmp_path / "out.zarr", described(), layout)
    yaozarrs.validate_zarr_store(str(tmp_path / "out.zarr"))
    assert open_image(tmp_path / "out.zarr").info.channels is None


@pytest.mark.parametrize("layout", [SHARDED, OLDER])
@pytest.mark.parametrize("channels", [{}, {"channels": None}, {"channels": ["a", {}, {}]}])
def test_channels_are_completed_to_their_number(
    tmp_path: Path, channels: dict[str, Any], layout: Layout
) -> None:
    path = tmp_path / "out.zarr"
    new_output(path, described(dtype="float32", channels=channels), layout)
    yaozarrs.validate_zarr_store(str(path))
    found = open_image(path).info.channels
    assert found is not None
    assert [channel["label"] for channel in found["channels"]] == ["channel 0", "channel 1"]


@pytest.mark.parametrize("layout", [SHARDED, OLDER])
def test_units_that_hold_only_fill_have_no_file(tmp_path: Path, layout: Layout) -> None:
    output = new_output(tmp_path / "out.zarr", described(), layout)
    made = files_below(output.path)
    assert made == METADATA[layout.format]
    fill(output, np.zeros(SHAPE, "float32"))
    output.sync(Box.whole(SHAPE))  # neither files nor folders are there
    assert files_below(output.path) == made
    assert not output.read(Box.whole(SHAPE)).any()


@pytest.mark.parametrize("layout", [UNSHARDED, SHARDED, OLDER])
def test_a_second_attempt_replaces_what_the_first_left(tmp_path: Path, layout: Layout) -> None:
    data = counted(SHAPE)
    output = new_output(tmp_path / "out.zarr", described(), layout)
    fill(output, data)
    key = "2/1/1/1/0" if layout is OLDER else "c/2/1/1/1/0"
    file = output.path / "0" / key
    file.write_bytes(b"damaged")  # would be an error if writing read it
    leftover = file.with_name("0.0123456789abcdef.partial")
    leftover.write_bytes(b"half")
    neighbour = file.with_name("10.0123456789abcdef.partial")
    neighbour.write_bytes(b"of another unit")
    with pytest.raises(InputError, match=f"0/{key} cannot be read"):
        output.read(Box.whole(SHAPE))
    fill(output, data)
    np.testing.assert_array_equal(output.read(Box.whole(SHAPE)), data)
    assert not leftover.exists()
    assert neighbour.exists()
    fill(output, np.zeros(SHAPE, "float32"))
    assert not output.read(Box.whole(SHAPE)).any()


@pytest.mark.parametrize(
    "box",
    [
        Box((0, 0, 0, 0, 0), (1, 1, 4, 4, 7)),  # right
        Box((0, 0, 0, 0, 0), (1, 1, 4, 4, 6)),  # short of the border
        Box((0, 0, 1, 0, 0), (1, 1, 4, 4, 7)),  # begins inside
        Box((0, 0, 0, 0, 0), (2, 1, 4, 4, 7)),  # two units
        Box((0, 0, 0, 0, 0), (1, 1, 4, 4, 8)),  # beyond the border
    ],
)
def test_only_whole_write_units_are_written(tmp_path: Path, box: Box) -> None:
    output = new_output(tmp_path / "out.zarr", described(), SHARDED)
    right = box.stop == (1, 1, 4, 4, 7) and not any(box.start)
    if right:
        output.write_unit(box, np.ones(box.shape, "uint16"))
        with pytest.raises(ValueError, match="shape"):
            output.write_unit(box, np.ones((1, 1, 4, 4, 6), "uint16"))
    else:
        with pytest.raises(ValueError, match="must be a cell of the lattice"):
            output.write_unit(box, np.ones(box.shape, "uint16"))
    assert len(files_below(output.path)) == 2 + right


@pytest.fixture
def flushed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list of files and folders that are flushed from now on."""
    names: list[str] = []
    fsync = os.fsync

    def record(descriptor: int) -> None:
        names.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    return names


@pytest.mark.parametrize("layout", [SHARDED, OLDER])
def test_metadata_are_flushed_before_they_get_their_name(
    tmp_path: Path, layout: Layout, flushed: list[str]
) -> None:
    new_output(tmp_path / "out.zarr", described(), layout)
    folder = tmp_path.resolve() / ".out.zarr.incomplete"
    wanted = [folder / name for name in [*METADATA[layout.format], "0", "."]]
    assert set(flushed[:-1]) == set(map(str, wanted))
    assert flushed[-1] == str(tmp_path.resolve())


@pytest.mark.parametrize("layout", [SHARDED, OLDER])
def test_files_are_flushed_and_all_folders_above(
    tmp_path: Path, layout: Layout, flushed: list[str]
) -> None:
    output = new_output(tmp_path / "out.zarr", described(), layout)
    flushed.clear()
    fill(output, counted(SHAPE))
    written = flushed.copy()
    flushed.clear()
    output.sync(Box((1, 0, 0, 0, 0), (2, 1, 5, 6, 7)))
    folder = (tmp_path / "out.zarr/0").resolve()
    files = {Path(name).relative_to(folder).as_posix() for name in written}
    made = set(files_below(output.path)) - set(METADATA[layout.format])
    assert files == {name.removeprefix("0/") for name in made}
    names = [Path(name).relative_to(folder).as_posix() for name in flushed]
    top = "" if layout is OLDER else "c/"
    folders = {(folder / top).relative_to(folder).as_posix(), "."}
    for file in made:
        if file.startswith(f"0/{top}1/0/"):
            parents = Path(file.removeprefix("0/")).parents
            folders |= {parent.as_posix() for parent in parents}
    assert sorted(names) == sorted(folders)
    assert names[-1] == "."


def test_a_disk_that_fails_to_sync_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = new_output(tmp_path / "out.zarr", described(), SHARDED)
    fill(output, counted(SHAPE))

    def fail(code: int) -> Callable[[int], None]:
        def fsync(_: int) -> None:
            raise OSError(code, os.strerror(code))

        return fsync

    monkeypatch.setattr(os, "fsync", fail(errno.EIO))
    with pytest.raises(OutputError, match="c/0/0/0/0/0 cannot be written: Input/output error"):
        fill(output, counted(SHAPE))
    with pytest.raises(OutputError, match="cannot be written: Input/output error"):
        output.sync(Box.whole(SHAPE))
    monkeypatch.setattr(os, "fsync", fail(errno.EINVAL))  # folders of some network file systems
    output.sync(Box.whole(SHAPE))


@pytest.mark.parametrize(
    ("code", "advice"),
    [(errno.ENOSPC, "make space"), (errno.EACCES, "may write"), (errno.EROFS, "can be written")],
)
def test_a_unit_that_cannot_be_written_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, advice: str
) -> None:
    output = new_output(tmp_path / "out.zarr", described(), SHARDED)

    def fail(*_: Path) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OutputError, match=f"c/0/0/0/0/0 cannot be written.*{advice}"):
        fill(output, counted(SHAPE))
    assert files_below(output.path) == ["0/zarr.json", "zarr.json"]


def test_existing_paths_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "out.zarr"
    fill(new_output(path, described()), counted(SHAPE))
    image, layout = described(), UNSHARDED

    def create(**options: Any) -> None:
        create_output(path, image, layout=layout, dtype=np.dtype("uint8"), provenance={}, **options)

    before = files_below(path)
    with pytest.raises(OutputError, match=r"out\.zarr exists.*--overwrite"):
        create()
    assert files_below(path) == before
    create(overwrite=True)
    assert files_below(tmp_path) == ["out.zarr/0/zarr.json", "out.zarr/zarr.json"]
    assert open_output(path).dtype == np.uint8
    shutil.rmtree(path)
    plain(path, counted(SHAPE))
    with pytest.raises(OutputError, match=r"not made by denoise5d.*never replaced"):
        create(overwrite=True)
    shutil.rmtree(path)
    path.write_text("notes")
    with pytest.raises(OutputError, match="not made by denoise5d"):
        create(overwrite=True)
    assert path.read_text() == "notes"


def test_another_format_replaces_the_old_files(tmp_path: Path) -> None:
    path = tmp_path / "out.zarr"
    for layout in (SHARDED, OLDER, UNSHARDED):
        create_output(
            path,
            described(),
            layout=layout,
            dtype=np.dtype("uint16"),
            provenance={"layout": layout.format},
            overwrite=True,
        )
        assert files_below(tmp_path) == [f"out.zarr/{name}" for name in METADATA[layout.format]]
        assert read_provenance(path) == {"layout": layout.format}
        assert is_untouched(path)
        fill(open_output(path), counted(SHAPE))
        assert not is_untouched(path)


def test_an_output_through_a_link_is_made_where_it_points(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    (tmp_path / "out.zarr").symlink_to(tmp_path / "scratch/real.zarr")
    for _ in range(2):
        create_output(
            tmp_path / "out.zarr",
            described(),
            layout=SHARDED,
            dtype=np.dtype("uint8"),
            provenance={},
            overwrite=True,
        )
    assert (tmp_path / "out.zarr").is_symlink()
    assert open_output(tmp_path / "scratch/real.zarr").shape == SHAPE


@contextmanager
def no_new_folders(monkeypatch: pytest.MonkeyPatch, code: int) -> Iterator[None]:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", fail)
        yield


def test_places_where_nothing_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OutputError, match=r"the folder .*absent must exist"):
        new_output(tmp_path / "absent/out.zarr", described())
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"the folder .*file must exist"):
        new_output(tmp_path / "file/out.zarr", described())
    for code, advice in ((errno.EACCES, "may write"), (errno.EDQUOT, "quota")):
        with (
            no_new_folders(monkeypatch, code),
            pytest.raises(OutputError, match=rf"cannot be written.*{advice}"),
        ):
            new_output(tmp_path / "out.zarr", described())
    assert files_below(tmp_path) == ["file"]


@pytest.mark.parametrize("layout", [SHARDED, OLDER])
def test_a_kill_while_creating_leaves_nothing_under_the_name(
    tmp_path: Path, layout: Layout
) -> None:
    path = tmp_path / "out.zarr"
    half = tmp_path / ".out.zarr.incomplete"
    (half / "0").mkdir(parents=True)  # what a kill leaves
    (half / "0/zarr.json").write_text("{")
    with pytest.raises(OutputError, match="not an output of denoise5d"):
        open_output(path)
    new_output(path, described(), layout)
    assert open_output(path).shape == SHAPE
    assert files_below(path) == METADATA[layout.format]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.zarr"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_while_staging_keeps_the_old_store(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path = tmp_path / "out.zarr"
    new_output(path, described())

    def stop() -> None:
        with staged(path, overwrite=True) as folder:
            folder.mkdir()
            raise error

    with pytest.raises(error):
        stop()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.zarr"]
    assert open_output(path).shape == SHAPE


def test_only_our_own_stores_are_opened_for_writing(tmp_path: Path) -> None:
    plain(tmp_path / "a.zarr", counted(SHAPE))
    for path in (tmp_path / "a.zarr", tmp_path / "absent", tmp_path):
        with pytest.raises(OutputError, match="not an output of denoise5d"):
            open_output(path)
    new_output(tmp_path / "out.zarr", described())
    shutil.rmtree(tmp_path / "out.zarr/0")
    with pytest.raises(OutputError, match=r"cannot be opened.*--overwrite"):
        open_output(tmp_path / "out.zarr")


def test_free_space_is_that_of_the_nearest_folder(tmp_path: Path) -> None:
    assert 0 < free_bytes(tmp_path / "not/yet/there") <= shutil.disk_usage(tmp_path).total


@pytest.mark.parametrize(
    ("unit", "name"),
    [
        ("µm", "micrometer"),
        ("\u03bcm", "micrometer"),
        ("\\u00B5m", "micrometer"),
        (" micron ", "micrometer"),
        ("s", "second"),
        ("furlong", "furlong"),
        ("pixel", None),
        ("", None),
        (None, None),
    ],
)
def test_units_get_their_long_names(unit: object, name: str | None) -> None:
    assert standard_unit(unit) == name


def test_threads_can_be_limited() -> None:
    with zarr.config.set({"threading.max_workers": None, "async.concurrency": 10}):
        limit_threads(3)
        assert zarr.config.get("threading.max_workers") == 3
        assert zarr.config.get("async.concurrency") == 3


# ---- levels of a pyramid


@pytest.fixture(params=["ome-zarr-0.5", "ome-zarr-0.4"])
def flat(
    tmp_path: Path, request: pytest.FixtureRequest
) -> tuple[Path, Description, tuple[PyramidLevel, ...]]:
    """An output of 300 x 1000 pixels with two levels to come."""
    shape = (1, 2, 1, 300, 1000)
    image = Description(
        name="flat",
        shape=shape,
        dtype=np.dtype("uint16"),
        scales=(1.0, 1.0, 2.0, 0.5, 0.25),
        units=(None, None, "micrometer", "micrometer", "micrometer"),
        translations=(0.0, 0.0, 0.0, 10.0, 20.0),
    )
    shards = (1, 1, 1, 256, 256) if request.param == "ome-zarr-0.5" else None
    layout = Layout((1, 1, 1, 128, 128), shards, request.param)
    path = tmp_path / "flat.zarr"
    create_output(path, image, layout=layout, dtype=image.dtype, provenance={"run": 1})
    return path, image, make_levels(shape, image.scales, layout=layout, core_voxels=2**20)


def test_levels_are_named_once_they_are_described(
    flat: tuple[Path, Description, tuple[PyramidLevel, ...]],
) -> None:
    path, image, levels = flat
    for level in levels:
        create_level(path, level, image.dtype)
        output = open_output(path, level.number)
        assert (output.shape, output.dtype, output.unit) == (
            level.shape,
            image.dtype,
            level.layout.write_unit,
        )
        box = next(iter(level.grid)).core
        for unit in box.tiles(output.unit):
            output.write_unit(unit, np.full(unit.shape, level.number, "uint16"))
        output.sync(box)
        assert (output.read(box) == level.number).all()
    assert listed_datasets(path) == ["0"]

    describe_levels(path, image, levels)
    assert listed_datasets(path) == ["0", "1", "2"]
    yaozarrs.validate_zarr_store(path)
    assert read_provenance(path) == {"run": 1}
    for level in levels:
        info = open_image(path, dataset=str(level.number)).info
        assert (info.shape, info.axes, info.units) == (level.shape, "TCZYX", image.units)
        assert info.scales == level.scales(image.scales)
        assert info.translations == level.translations(image.scales, image.translations)
    assert open_image(path).info.shape == image.shape, "the finest level is the image"
    assert open_image(path).info.translations == image.translations

    before = metadata_of(path)
    describe_levels(path, image, levels)
    assert metadata_of(path) == before, "what is so already is not written"
    describe_levels(path, image, ())
    assert listed_datasets(path) == ["0"]
    yaozarrs.validate_zarr_store(path)
    assert all(b'"mean"' not in content for content, _ in metadata_of(path).values())


def metadata_of(path: Path) -> dict[str, tuple[bytes, int]]:
    """Return content and age of the files in a folder."""
    files = [inside for inside in path.iterdir() if inside.is_file()]
    return {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in files}


def test_a_level_made_anew_is_empty(
    flat: tuple[Path, Description, tuple[PyramidLevel, ...]],
) -> None:
    path, image, (level, _) = flat
    box = next(iter(level.grid[0].core.tiles(level.layout.write_unit)))
    for _ in range(2):
        create_level(path, level, image.dtype)
        output = open_output(path, 1)
        assert not output.read(box).any()
        output.write_unit(box, np.ones(box.shape, "uint16"))


def test_channels_are_described(flat: tuple[Path, Description, tuple[PyramidLevel, ...]]) -> None:
    path, image, _ = flat
    assert open_image(path).info.channels is None
    own = {"label": "nuclei", "color": "ff0000", "window": {"start": 7.0}}
    image = replace(image, channels={"channels": [own]})
    assert not has_windows(image)
    windows = [{"min": n, "max": n + 100.0, "start": n + 1, "end": n + 90} for n in (0.0, 5.0)]
    describe_channels(path, complete_channels(image, windows))
    first, second = open_image(path).info.channels["channels"]
    assert first == own | {"active": True, "window": windows[0] | {"start": 7.0}}
    assert second["label"] == "channel 1"
    assert second["color"] not in ("ff0000", "FFFFFF")
    assert second["window"] == windows[1]
    assert listed_datasets(path) == ["0"]
    assert is_complete(open_image(path).info.channels, 2, image.dtype)
    yaozarrs.validate_zarr_store(path)
    assert has_windows(replace(image, channels=complete_channels(image)))
