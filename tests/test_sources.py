"""Files of other formats, written by their libraries, are read box by box, with what they say."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
import yaozarrs
import zarr
from click.testing import CliRunner
from numpy.typing import NDArray
from pylibCZIrw import czi

from denoise5d.cli import cli
from denoise5d.convert import convert
from denoise5d.errors import InputError, OutputError
from denoise5d.geometry import Box
from denoise5d.sources import open_source
from denoise5d.store import Image, open_image

STACK = np.random.default_rng(3).integers(0, 4000, (3, 2, 4, 20, 30)).astype("uint16")
BOXES = [
    Box.whole((3, 2, 4, 20, 30)),
    Box((1, 0, 1, 3, 7), (3, 2, 3, 20, 8)),
    Box((2, 1, 3, 19, 29), (3, 2, 4, 20, 30)),
]


def check(image: Image, expected: NDArray[Any]) -> None:
    """Check several boxes of an image of the shape of `STACK`."""
    for box in BOXES:
        values = image.read(box)
        np.testing.assert_array_equal(values, expected[box.slices], strict=True)
        assert values.flags.c_contiguous
    assert Box.whole(image.info.shape).contains(Box((0, 0, 0, 0, 0), image.info.chunks))


def channels(image: Image, key: str) -> list[Any]:
    assert image.info.channels is not None
    return [channel.get(key) for channel in image.info.channels["channels"]]


def converted(source: Path, **options: Any) -> Image:
    target = source.with_name("converted.zarr")
    convert(source, target, **options)
    yaozarrs.validate_zarr_store(str(target))
    return open_image(target)


# --- CZI --------------------------------------------------------------------------------------


def write_czi(
    path: Path, scenes: int = 1, without: tuple[int, int, int] | None = None, **options: Any
) -> Path:
    """Write `STACK`, plus its number in each further scene; the scenes lie side by side."""
    with czi.create_czi(str(path), **options) as writer:
        for t, c, z in np.ndindex(STACK.shape[:3]):
            if (t, c, z) == without:
                continue
            for scene in range(scenes):
                plane = {"T": t, "C": c, "Z": z}
                data = STACK[t, c, z, ..., None] + np.uint16(scene)
                at = (100 + 200 * scene, 50)
                number = {"scene": scene} if scenes > 1 else {}
                writer.write(data, plane=plane, location=at, **number)
        colour = czi.Rgb8Color(np.uint8(0x11), np.uint8(0x22), np.uint8(0xEE))
        shown = czi.ChannelDisplaySettingsDataClass(True, czi.TintingMode.Color, colour, 0.0, 1.0)
        writer.write_metadata(
            "document",
            channel_names={0: "nuclei", 1: "membrane"},
            scale_x=1e-7,
            scale_y=2e-7,
            scale_z=1.5e-6,
            display_settings={0: shown},
        )
    return path


@pytest.mark.parametrize("compression", [None, "zstd1:ExplicitLevel=2", "uncompressed:"])
def test_czi(tmp_path: Path, compression: str | None) -> None:
    options = {} if compression is None else {"compression_options": compression}
    image = open_source(write_czi(tmp_path / "cells.czi", **options))
    check(image, STACK)
    assert image.info.name == "cells"
    assert image.info.scales == (1.0, 1.0, 1.5, 0.2, 0.1)
    assert image.info.units == (None, None, "micrometer", "micrometer", "micrometer")
    assert channels(image, "label") == ["nuclei", "membrane"]
    assert channels(image, "color") == ["1122EE", None]
    result = converted(tmp_path / "cells.czi")
    check(result, STACK)
    assert result.info.scales == image.info.scales
    assert channels(result, "label") == ["nuclei", "membrane"]


def test_czi_of_several_scenes(tmp_path: Path) -> None:
    source = write_czi(tmp_path / "a.czi", scenes=2)
    with pytest.raises(InputError, match=r"holds 2 images.*--series.*0: scene 0, 30 x 20; 1: sc"):
        open_source(source)
    with pytest.raises(InputError, match="got 2"):
        open_source(source, dataset="2")
    check(open_source(source, dataset="0"), STACK)
    check(open_source(source, dataset="1"), STACK + np.uint16(1))


def test_czi_mosaic(tmp_path: Path) -> None:
    """Tiles are put together where they lie."""
    source = tmp_path / "a.czi"
    with czi.create_czi(str(source)) as writer:
        for t, c, z in np.ndindex(STACK.shape[:3]):
            for x in (0, 10, 20):
                tile = np.ascontiguousarray(STACK[t, c, z, :, x : x + 10, None])
                plane = {"T": t, "C": c, "Z": z}
                writer.write(tile, plane=plane, location=(x - 7, 3))
    image = open_source(source)
    check(image, STACK)
    assert image.info.chunks == (1, 1, 1, 20, 10)


def test_czi_that_is_not_whole(tmp_path: Path) -> None:
    source = write_czi(tmp_path / "a.czi", without=(1, 1, 2))
    with pytest.raises(InputError, match=r"lacks 1 of its 24 planes, .* t 1, c 1, z 2"):
        open_source(source)
    content = write_czi(tmp_path / "b.czi").read_bytes()
    for kept in (0.3, 0.6, 0.9, 0.999):
        (tmp_path / "c.czi").write_bytes(content[: int(kept * len(content))])
        with pytest.raises(InputError, match=r"c\.czi is damaged or cut short|c\.czi lacks"):
            open_source(tmp_path / "c.czi")


def test_czi_that_is_damaged(tmp_path: Path) -> None:
    source = write_czi(tmp_path / "a.czi", compression_options="zstd0:ExplicitLevel=2")
    content = source.read_bytes()
    start = content.index(b"\x28\xb5\x2f\xfd")  # a frame of zstd
    source.write_bytes(content[:start] + bytes(40) + content[start + 40 :])
    with pytest.raises(InputError, match=r"the plane t \d, c \d, z \d .from 0. cannot be read"):
        open_source(source).read(BOXES[0])


def test_czi_of_colours(tmp_path: Path) -> None:
    source = tmp_path / "a.czi"
    with czi.create_czi(str(source)) as writer:
        writer.write(np.zeros((20, 30, 3), "uint8"))
    with pytest.raises(InputError, match=r"is a colour image \(Bgr24\)"):
        open_source(source)


# --- HDF5, BigDataViewer, Imaris --------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{}, {"chunks": (1, 2, 3, 8, 8)}, {"chunks": True, "compression": "gzip"}]
)
def test_hdf5(tmp_path: Path, options: dict[str, Any]) -> None:
    source = tmp_path / "a.h5"
    with h5py.File(source, "w") as file:
        file.create_dataset("exp/raw", data=STACK, **options)
        file["exp/raw"].attrs["element_size_um"] = (2.0, 0.5, 0.25)
    with pytest.raises(InputError, match=r"exp/raw has 5 axes .* Give axes"):
        open_source(source)
    image = open_source(source, axes="TCZYX")
    check(image, STACK)
    assert image.info.scales == (1.0, 1.0, 2.0, 0.5, 0.25)
    assert image.info.dataset == "exp/raw"
    if options.get("chunks") == (1, 2, 3, 8, 8):
        assert image.info.chunks == (1, 2, 3, 8, 8)
    check(converted(source, axes="TCZYX"), STACK)


def test_hdf5_of_another_order_and_several_datasets(tmp_path: Path) -> None:
    source = tmp_path / "a.h5"
    with h5py.File(source, "w") as file:
        data = file.create_dataset("raw", data=STACK[:, :, 2].transpose(3, 1, 0, 2))
        for dimension, label in zip(data.dims, "xcty", strict=True):
            dimension.label = label
        file.create_dataset("tagged", data=STACK[0, 0, 0])
        file["tagged"].attrs["axistags"] = '{"axes": [{"key": "y"}, {"key": "x"}]}'
        file["table"] = np.zeros(5)
    with pytest.raises(InputError, match=r"name its dataset .* raw \(30, 2, 3, 20\).* tagged \("):
        open_source(source)
    with pytest.raises(InputError, match=r"got nothing.* It holds: raw"):
        open_source(source, dataset="nothing")
    image = open_source(source, dataset="/raw")
    assert image.info.axes == "XCTY"
    box = Box((1, 0, 0, 2, 3), (3, 1, 1, 20, 9))
    np.testing.assert_array_equal(image.read(box)[:, :, 0], STACK[1:3, :1, 2, 2:20, 3:9])
    tagged = open_source(source, dataset="tagged")
    np.testing.assert_array_equal(
        tagged.read(Box.whole(tagged.info.shape))[0, 0, 0], STACK[0, 0, 0]
    )


def test_hdf5_that_is_damaged(tmp_path: Path) -> None:
    source = tmp_path / "a.h5"
    with h5py.File(source, "w") as file:
        file.create_dataset("raw", data=STACK, chunks=(1, 1, 4, 20, 30), compression="gzip")
        start = file["raw"].id.get_chunk_info(2).byte_offset
    content = source.read_bytes()
    source.write_bytes(content[:start] + bytes(50) + content[start + 50 :])
    with pytest.raises(InputError, match="dataset raw cannot be read at t 1:2, c 0:1"):
        open_source(source, axes="TCZYX").read(BOXES[0])
    source.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="damaged or cut short"):
        open_source(source, axes="TCZYX")


SETUP = """<ViewSetup><id>{id}</id><name>setup {id}</name><size>30 20 4</size>
<voxelSize><unit>um</unit><size>0.25 0.5 2.0</size></voxelSize>
<attributes><channel>{c}</channel><angle>{a}</angle><displaysettings>{id}</displaysettings>
</attributes></ViewSetup>"""

SPIM_DATA = """<?xml version="1.0" encoding="UTF-8"?>
<SpimData version="0.2"><BasePath type="relative">.</BasePath><SequenceDescription>
<ImageLoader format="{loader}"><hdf5 type="relative">a.h5</hdf5></ImageLoader>
<ViewSetups>{setups}
<Attributes name="channel"><Channel><id>0</id><name>nuclei</name></Channel>
<Channel><id>1</id><name>membrane</name></Channel></Attributes></ViewSetups>
{times}</SequenceDescription></SpimData>"""

RANGE = '<Timepoints type="range"><first>0</first><last>2</last></Timepoints>'
PATTERN = '<Timepoints type="pattern"><integerpattern>0, 1-2</integerpattern></Timepoints>'


def write_bdv(folder: Path, angles: int = 1, times: str = RANGE, loader: str = "bdv.hdf5") -> Path:
    """Write `STACK`, plus its number in each further angle, as BigDataViewer does: as int16."""
    setups = [(2 * a + c, a, c) for a in range(angles) for c in (0, 1)]
    with h5py.File(folder / "a.h5", "w") as file:
        for number, angle, c in setups:
            file[f"s{number:02d}/resolutions"] = np.ones((1, 3))
            for t in range(3):
                values = (STACK[t, c] + 40000 + angle).astype("uint16").view("int16")
                file.create_dataset(
                    f"t{t:05d}/s{number:02d}/0/cells", data=values, chunks=(4, 8, 8)
                )
    text = "".join(SETUP.format(id=number, c=c, a=angle) for number, angle, c in setups)
    source = folder / "a.xml"
    source.write_text(SPIM_DATA.format(setups=text, times=times, loader=loader))
    return source


@pytest.mark.parametrize("times", [RANGE, PATTERN])
def test_bdv(tmp_path: Path, times: str) -> None:
    source = write_bdv(tmp_path, times=times)
    image = open_source(source)
    check(image, STACK + np.uint16(40000))
    assert image.info.scales == (1.0, 1.0, 2.0, 0.5, 0.25)
    assert image.info.units[2:] == ("micrometer",) * 3
    assert channels(image, "label") == ["nuclei", "membrane"]
    assert image.info.chunks == (1, 1, 4, 8, 8)
    with pytest.raises(InputError, match=r"give its XML, a\.xml"):
        open_source(tmp_path / "a.h5")
    check(converted(source), STACK + np.uint16(40000))


def test_bdv_of_several_angles(tmp_path: Path) -> None:
    source = write_bdv(tmp_path, angles=2)
    with pytest.raises(InputError, match=r"holds 2 images.*0: angle 0.*30 x 20 x 4, 2 channels"):
        open_source(source)
    check(open_source(source, dataset="1"), STACK + np.uint16(40001))


def test_bdv_that_is_not_whole(tmp_path: Path) -> None:
    source = write_bdv(tmp_path)
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        del file["t00001/s01"]
    with pytest.raises(InputError, match=r"lacks 1 of the stacks .* t00001/s01/0/cells"):
        open_source(source)
    (tmp_path / "a.h5").unlink()
    with pytest.raises(InputError, match=r"a\.h5 does not exist, and a\.xml says"):
        open_source(source)
    with pytest.raises(InputError, match=r"'bdv\.n5'; only bdv\.hdf5 is taken"):
        open_source(write_bdv(tmp_path, loader="bdv.n5"))
    source.write_text("<SpimData version='0.2'>")
    with pytest.raises(InputError, match="is no XML of BigDataViewer, or damaged"):
        open_source(source)


def letters(text: str) -> NDArray[Any]:
    """Return a text as Imaris stores it."""
    return np.array(list(text), "S1")


def write_imaris(path: Path) -> Path:
    """Write `STACK` as Imaris does: arrays that are padded to whole chunks."""
    with h5py.File(path, "w") as file:
        for t, c in np.ndindex(STACK.shape[:2]):
            group = file.create_group(f"DataSet/ResolutionLevel 0/TimePoint {t}/Channel {c}")
            padded = np.zeros((4, 32, 32), "uint16")
            padded[:, :20, :30] = STACK[t, c]
            group.create_dataset("Data", data=padded, chunks=(2, 16, 16), compression="gzip")
            for axis, length in zip("ZYX", STACK.shape[2:], strict=True):
                group.attrs[f"ImageSize{axis}"] = letters(str(length))
        image = file.create_group("DataSetInfo/Image")
        image.attrs["Unit"] = letters("um")
        for number, (low, high) in enumerate(((5.0, 12.5), (-2.0, 8.0), (0.0, 8.0))):
            image.attrs[f"ExtMin{number}"] = letters(str(low))
            image.attrs[f"ExtMax{number}"] = letters(str(high))
        for c, (name, colour) in enumerate((("nuclei", "0 1 0"), ("membrane", "1 0.2 0"))):
            group = file.create_group(f"DataSetInfo/Channel {c}")
            group.attrs["Name"], group.attrs["Color"] = letters(name), letters(colour)
    return path


def test_imaris(tmp_path: Path) -> None:
    source = write_imaris(tmp_path / "a.ims")
    image = open_source(source)
    check(image, STACK)
    assert image.info.scales == (1.0, 1.0, 2.0, 0.5, 0.25)
    assert image.info.translations == (0.0, 0.0, 0.0, -2.0, 5.0)
    assert image.info.units[2:] == ("micrometer",) * 3
    assert channels(image, "label") == ["nuclei", "membrane"]
    assert channels(image, "color") == ["00FF00", "FF3300"]
    check(converted(source), STACK)
    image.close()
    with h5py.File(source, "r+") as file:
        del file["DataSet/ResolutionLevel 0/TimePoint 2/Channel 0"]
    with pytest.raises(InputError, match=r"not whole: it lacks .*TimePoint 2/Channel 0/Data"):
        open_source(source)


# --- memory ------------------------------------------------------------------------------------


def write_large_hdf5(folder: Path, data: NDArray[Any]) -> Path:
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("raw", data=data, chunks=(4, 128, 128))
    return folder / "a.h5"


def write_large_czi(folder: Path, data: NDArray[Any]) -> Path:
    with czi.create_czi(str(folder / "a.czi")) as writer:
        for z, plane in enumerate(data):
            writer.write(plane[..., None], plane={"Z": z})
    return folder / "a.czi"


def write_large_stacks(folder: Path, data: NDArray[Any]) -> Path:
    """Write two TIFFs of half of the image each, not compressed in one run of bytes."""
    for number, half in enumerate(np.split(data, 2)):
        options = {"compression": "zlib"} if number else {}
        tifffile.imwrite(folder / f"t{number}.tif", half, metadata={"axes": "ZYX"}, **options)
    return folder / "t{T}.tif"


@pytest.mark.parametrize("write", [write_large_hdf5, write_large_czi, write_large_stacks])
def test_reading_takes_no_second_array(
    tmp_path: Path, write: Callable[[Path, NDArray[Any]], Path]
) -> None:
    """A worker has memory for the block that it reads, and for a chunk beside it."""
    data = np.random.default_rng(0).integers(0, 99, (40, 256, 256)).astype("uint16")
    source = write(tmp_path, data)
    image = open_source(source, axes="ZYX" if source.suffix == ".h5" else None)
    tracemalloc.start()
    values = image.read(Box.whole(image.info.shape))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_array_equal(values.reshape(data.shape), data)
    assert peak < 1.25 * data.nbytes


# --- Zarr in other layouts --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zarr_format", "layout"),
    [
        (2, {"chunks": (2, 1, 4, 7, 30)}),
        (3, {"chunks": (1, 2, 1, 20, 30)}),
        (3, {"chunks": (1, 1, 2, 5, 10), "shards": (3, 1, 4, 20, 30)}),
    ],
)
def test_zarr_in_another_layout(tmp_path: Path, zarr_format: Any, layout: dict[str, Any]) -> None:
    """OME-Zarr 0.4 of any chunks becomes 0.5, with all that it says."""
    source = tmp_path / "in.zarr"
    group = zarr.create_group(source, zarr_format=zarr_format)
    group.create_array("s0", data=STACK, **layout)
    axes = [{"name": "t", "type": "time", "unit": "second"}, {"name": "c", "type": "channel"}]
    axes += [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "zyx"]
    scale = {"type": "scale", "scale": [3.0, 1.0, 2.0, 0.5, 0.25]}
    shift = {"type": "translation", "translation": [0.0, 0.0, 7.0, 0.0, 0.0]}
    levels = [{"path": "s0", "coordinateTransformations": [scale, shift]}]
    labels = [{"label": "nuclei", "color": "00FF7F"}, {"label": "membrane", "color": "FF007F"}]
    image = {"name": "cells", "axes": axes, "datasets": levels}
    ome = {"multiscales": [image | {"version": "0.4"}], "omero": {"channels": labels}}
    group.attrs.update(ome if zarr_format == 2 else {"ome": ome | {"version": "0.5"}})
    result = converted(source)
    check(result, STACK)
    before, after = open_source(source).info, result.info
    assert (after.zarr_format, after.shards is None) == (3, False)
    for key in ("name", "scales", "units", "translations"):
        assert getattr(after, key) == getattr(before, key), key
    assert after.scales == (3.0, 1.0, 2.0, 0.5, 0.25)
    assert channels(result, "label") == ["nuclei", "membrane"]
    assert channels(result, "color") == ["00FF7F", "FF007F"]


def test_what_a_zarr_says_of_its_channels_stays(tmp_path: Path) -> None:
    """Also if it says too little, or too much; what it does not say is the range of the values."""
    group = zarr.create_group(tmp_path / "in.zarr")
    group.create_array("0", data=STACK)
    window = {"min": 0, "max": 65535, "start": 100, "end": 900}
    axes = [{"name": axis} for axis in "tczyx"]
    image = {"axes": axes, "datasets": [{"path": "0"}]}
    lowest = [int(STACK[:, c].min()) for c in (0, 1)]
    for given, starts in (([{"window": window}], [100, lowest[1]]), ([{}, 7, {}], lowest)):
        group.attrs["ome"] = {"multiscales": [image], "omero": {"channels": given}}
        target = tmp_path / f"out{len(given)}.zarr"
        convert(tmp_path / "in.zarr", target)
        found = channels(open_image(target), "window")
        assert [entry["start"] for entry in found] == starts


@pytest.mark.parametrize("target", ["in.zarr", "in.zarr/more.zarr", "."])
def test_a_source_is_not_replaced(tmp_path: Path, target: str) -> None:
    source = tmp_path / "folder/in.zarr"
    zarr.create_array(source, data=STACK, attributes={"denoise5d": {}})
    with pytest.raises(OutputError, match="must not be the source"):
        convert(source, source.parent / target, overwrite=True)
    check(open_source(source), STACK)


@pytest.mark.parametrize(("name", "pieces"), [("a.h5", 6), ("a.tif", 3)])
def test_large_planes_in_pieces(tmp_path: Path, name: str, pieces: int) -> None:
    """Sources in chunks are cut in y and x, others in y where a plane is more than a slab."""
    plane = (np.arange(2100 * 1100) % 9973).astype("uint16").reshape(2100, 1100)
    if name == "a.h5":
        with h5py.File(tmp_path / name, "w") as file:
            file.create_dataset("raw", data=plane, chunks=(512, 512))
    else:
        tifffile.imwrite(tmp_path / name, plane, metadata={"axes": "YX"})
    calls: list[tuple[int, int]] = []
    image = converted(
        tmp_path / name,
        axes="YX",
        slab_bytes=10**6,
        progress=lambda done, total: calls.append((done, total)),
    )
    assert len(calls) == pieces
    assert calls[-1] == (1, 1)
    assert image.info.shards is not None
    assert image.info.shards[3:] == (1024, 1024)
    np.testing.assert_array_equal(image.read(Box.whole(image.info.shape))[0, 0, 0], plane)


def test_plain_zarr_of_another_order(tmp_path: Path) -> None:
    source = tmp_path / "in.zarr"
    zarr.create_array(source, data=STACK[:, :, 1].transpose(2, 3, 1, 0), chunks=(5, 30, 1, 3))
    with pytest.raises(InputError, match="nothing says which"):
        convert(source, tmp_path / "out.zarr")
    image = converted(source, axes="YXCT")
    np.testing.assert_array_equal(image.read(Box.whole(image.info.shape))[:, :, 0], STACK[:, :, 1])


def test_an_interrupted_rechunking_of_another_content_begins_anew(tmp_path: Path) -> None:
    """A Zarr has no time of its own: the sample of its content tells."""
    source, target = tmp_path / "in.zarr", tmp_path / "out.zarr"
    array = zarr.create_array(source, data=STACK, chunks=(1, 1, 1, 20, 30))

    def stop(done: int, _: int) -> None:
        if done > 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(source, target, slab_bytes=1, progress=stop)
    array[...] = STACK[::-1]
    convert(source, target, slab_bytes=1)
    check(open_image(target), STACK[::-1])


# --- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("write", "name", "module", "extra"),
    [
        (write_czi, "a.czi", "pylibCZIrw", "czi"),
        (write_imaris, "a.ims", "h5py", "hdf5"),
    ],
)
def test_a_reader_that_is_missing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    write: Callable[[Path], Path],
    name: str,
    module: str,
    extra: str,
) -> None:
    source = write(tmp_path / name)
    for loaded in [m for m in sys.modules if m.split(".")[0] == module]:
        monkeypatch.setitem(sys.modules, loaded, None)
    with pytest.raises(InputError, match=rf"{name} takes a reader.*'denoise5d\[{extra}\]'"):
        open_source(source)


def test_the_doctor_names_readers_and_what_brings_them(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = CliRunner().invoke(cli, ["doctor"]).output
    assert f"pylibCZIrw {version('pylibCZIrw')}, h5py {h5py.__version__}" in everything
    assert "for more" not in everything

    def without(package: str) -> str:
        if package in ("nd2", "h5py"):
            raise PackageNotFoundError(package)
        return version(package)

    monkeypatch.setattr("denoise5d.sources.readers.version", without)
    assert (
        "; pip install 'denoise5d[hdf5,nd2]' for more" in CliRunner().invoke(cli, ["doctor"]).output
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.czi", b"ZISRAWFILE" + bytes(2000), "is damaged or cut short"),
        ("a.czi", b"GIF89a", "is damaged, or no CZI in spite of its name: it begins with b'GIF"),
        ("a.ims", b"", "is damaged, or no Imaris in spite of its name"),
        ("a.h5", b"\x89HDF\r\n\x1a\n" + bytes(99), "is no HDF5 file, damaged or cut short"),
        ("a.png", b"\x89PNG", r"of no format that is known; these are Zarr, BigDataViewer, CZI"),
    ],
)
def test_files_that_are_not_taken(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        open_source(tmp_path / name)


def test_axes_are_not_given_where_the_file_names_them(tmp_path: Path) -> None:
    for source in (
        write_czi(tmp_path / "a.czi"),
        write_imaris(tmp_path / "a.ims"),
        write_bdv(tmp_path),
    ):
        with pytest.raises(InputError, match="names its axes itself"):
            open_source(source, axes="TCZYX")
