"""The output of a run, read by the libraries that people open OME-Zarr with."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bioio
import bioio_ome_zarr
import dask.array as da
import ngff_zarr
import numpy as np
import ome_zarr_models
import pytest
import tensorstore
import xarray as xr
import yaozarrs
import zarr
from numpy.typing import NDArray
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader

from denoise5d.geometry import AXES, Box
from denoise5d.layout import Layout
from denoise5d.store import Description, create_output, open_output
from runs import Project, structured

SHAPE = (2, 2, 3, 24, 520)
SCALES = (30.0, 1.0, 2.0, 0.4, 0.4)
UNITS = ("second", None, "micrometer", "micrometer", "micrometer")
TRANSLATIONS = (0.0, 0.0, 8.0, 0.0, 0.0)
CHANNELS = ("nuclei", "membranes")

LEVELS = [(1, 1, 1, 1, 1), (1, 1, 1, 2, 2), (1, 1, 1, 4, 4)]
"""Voxels of the image in one of each level."""

CUTS = {
    "ome-zarr-0.5": {"chunks": [1, 1, 2, 16, 64], "shards": [1, 1, 2, 32, 128]},
    "ome-zarr-0.4": {"chunks": [1, 1, 2, 16, 64], "shards": None},
}


@dataclass(frozen=True)
class Written:
    """An output, and what is in it."""

    path: Path
    format: str
    levels: list[NDArray[Any]]


@dataclass(frozen=True)
class Opened:
    """What a library says is in it; None is what it does not tell."""

    levels: Sequence[Any]
    axes: str | None = None
    scales: Sequence[Sequence[float]] | None = None
    translations: Sequence[Sequence[float]] | None = None
    units: Sequence[str | None] | None = None
    channels: Sequence[str] | None = None


@pytest.fixture(
    scope="module",
    params=[(name, dtype) for name in CUTS for dtype in ("same", "float32")],
    ids=lambda param: " ".join(param),
)
def written(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    start: Callable[..., Any],
) -> Written:
    """A small run with background, whose chunks have no files, and with all metadata."""
    output_format, dtype = request.param
    project = Project(tmp_path_factory.mktemp("opened"))
    store_input(project.input)
    output = {"format": output_format, "dtype": dtype, **CUTS[output_format]}
    start(project.write(output=output))
    expected = project.expected()
    assert expected.dtype == ("uint16" if dtype == "same" else "float32")
    assert expected.any()
    files = [path for path in (project.output / "0").rglob("*") if path.is_file()]
    if dtype == "same":  # an estimate of no light is not quite 0 before it is rounded
        assert not expected[..., :64].any()
        assert len(files) < Layout(*CUTS[output_format].values()).write_units(SHAPE)
    levels = [expected]
    for _ in LEVELS[1:]:
        levels.append(halved(levels[-1]))
    return Written(project.output, output_format, levels)


def halved(level: NDArray[Any]) -> NDArray[Any]:
    """Return means of two by two pixels, rounded to the type."""
    *planes, y, x = level.shape
    means = level.reshape(*planes, y // 2, 2, x // 2, 2).mean((-3, -1), dtype=np.float64)
    return (means if level.dtype.kind == "f" else np.rint(means)).astype(level.dtype)


def store_input(path: Path) -> None:
    data = structured(SHAPE, "uint16")
    data[..., :140] = 0
    image = Description(
        name="embryo",
        shape=SHAPE,
        dtype=data.dtype,
        scales=SCALES,
        units=UNITS,
        translations=TRANSLATIONS,
        channels={"channels": [{"label": name} for name in CHANNELS]},
    )
    create_output(path, image, layout=Layout(SHAPE), dtype=data.dtype, provenance={})
    open_output(path).write_unit(Box.whole(SHAPE), data)


# ---- one function a library


def by_zarr(path: Path) -> Opened:
    arrays = [zarr.open_array(path / name, mode="r") for name in names()]
    if arrays[0].metadata.zarr_format == 2:
        return Opened([array[...] for array in arrays])
    return Opened([array[...] for array in arrays], "".join(arrays[0].metadata.dimension_names))


def by_ome_zarr(path: Path) -> Opened:
    (node,) = Reader(parse_url(str(path), mode="r"))()
    metadata = node.metadata
    transformations = metadata["coordinateTransformations"]
    assert metadata["name"] == "embryo"
    return Opened(
        node.data,
        "".join(axis["name"] for axis in metadata["axes"]),
        [entries[0]["scale"] for entries in transformations],
        [entries[1]["translation"] for entries in transformations],
        [axis.get("unit") for axis in metadata["axes"]],
        metadata["channel_names"],
    )


def by_ngff_zarr(path: Path) -> Opened:
    found = ngff_zarr.from_ngff_zarr(str(path), validate=True)
    image = found.images[0]
    assert image.name == "embryo"
    return Opened(
        [image.data for image in found.images],
        "".join(image.dims),
        [[image.scale[dim] for dim in image.dims] for image in found.images],
        [[image.translation[dim] for dim in image.dims] for image in found.images],
        [image.axes_units[dim] for dim in image.dims],
        [channel.label for channel in found.metadata.omero.channels],
    )


def by_bioio(path: Path) -> Opened:
    image = bioio.BioImage(path)
    assert isinstance(image.reader, bioio_ome_zarr.Reader)
    units = [getattr(image.dimension_properties, axis).unit for axis in AXES]
    levels, scales = [], []
    for level in image.resolution_levels:
        image.set_resolution_level(level)
        levels.append(image.dask_data)
        scales.append(tuple(image.scale))
        assert tuple(image.physical_pixel_sizes) == scales[-1][2:]
    return Opened(
        levels,
        image.dims.order,
        scales,
        units=[None if str(unit) == "dimensionless" else str(unit) for unit in units],
        channels=image.channel_names,
    )


def by_dask(path: Path) -> Opened:
    return Opened([da.from_zarr(str(path), component=name) for name in names()])


def by_xarray(path: Path) -> Opened:
    def level(name: str) -> Any:
        others = [other for other in names() if other != name]
        dataset = xr.open_zarr(
            path, consolidated=False, mask_and_scale=False, drop_variables=others
        )
        assert "denoise5d" in dataset.attrs
        return dataset[name]

    levels = [level(name) for name in names()]
    return Opened([level.data for level in levels], "".join(levels[0].dims))


def by_tensorstore(path: Path) -> Opened:
    driver = "zarr3" if (path / "zarr.json").exists() else "zarr"
    stores = [
        tensorstore.open(
            {"driver": driver, "kvstore": {"driver": "file", "path": str(path / name)}}, read=True
        ).result()
        for name in names()
    ]
    axes = "".join(stores[0].domain.labels)
    return Opened([store.read().result() for store in stores], axes or None)


def names() -> list[str]:
    return [str(number) for number in range(len(LEVELS))]


READERS = [by_zarr, by_ome_zarr, by_ngff_zarr, by_bioio, by_dask, by_xarray, by_tensorstore]


@pytest.mark.parametrize("read", READERS, ids=lambda read: read.__name__.removeprefix("by_"))
def test_the_very_voxels_and_their_places(read: Callable[[Path], Opened], written: Written) -> None:
    found = read(written.path)
    assert len(found.levels) == len(LEVELS)
    for level, expected in zip(found.levels, written.levels, strict=True):
        np.testing.assert_array_equal(np.asarray(level), expected, strict=True)
    if found.axes is not None:
        assert found.axes.upper() == AXES
    if found.scales is not None:
        wanted = np.multiply(SCALES, LEVELS)
        np.testing.assert_allclose(found.scales, wanted, rtol=1e-12)
    if found.translations is not None:
        wanted = np.add(TRANSLATIONS, (np.array(LEVELS) - 1) / 2 * SCALES)
        np.testing.assert_allclose(found.translations, wanted, rtol=1e-12)
    if found.units is not None:
        assert tuple(found.units) == UNITS
    if found.channels is not None:
        assert tuple(found.channels) == CHANNELS


def test_every_library_tells_what_it_can(written: Written) -> None:
    """Else the comparison above would pass over metadata that nobody reads."""
    told = {read: read(written.path) for read in READERS}
    sees = {key: sum(getattr(found, key) is not None for found in told.values())
            for key in ("axes", "scales", "translations", "units", "channels")}  # fmt: skip
    axes = len(READERS) - 1 if written.format == "ome-zarr-0.5" else 4
    assert sees == {"axes": axes, "scales": 3, "translations": 2, "units": 3, "channels": 3}


def test_validators_agree(written: Written) -> None:
    yaozarrs.validate_zarr_store(written.path)
    found = ome_zarr_models.open_ome_zarr(zarr.open_group(written.path, mode="r"))
    version = written.format.removeprefix("ome-zarr-")
    assert (type(found).__name__, found.ome_zarr_version) == ("Image", version)


PAGE = (Path(__file__).parents[2] / "docs" / "output.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda text: text.split()[1])
def test_snippets_of_the_page(
    snippet: str, written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "embryo-denoised.zarr").symlink_to(written.path)
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    exec(compile(snippet, "snippet", "exec"), found)
    np.testing.assert_array_equal(np.asarray(found["volume"]), written.levels[0][0, 0], strict=True)


def test_the_page_names_what_is_there(written: Written) -> None:
    text = " ".join(PAGE.split())
    provenance = zarr.open_group(written.path, mode="r").attrs["denoise5d"]
    assert [key for key in provenance if f"`{key}`" not in text] == []
    for file in [*written.path.iterdir(), *(written.path / "0").iterdir()]:
        assert file.name in text or file.name.isdecimal()  # a level, or a chunk
    assert f"`{written.format}`" in text
    assert Path(f"{written.path}.denoise5d").is_dir()
