"""Crops: inside the image whatever is asked for, and where there is structure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from denoise5d.crop import crop_at, structure, structured_crop
from denoise5d.errors import RefusedError
from denoise5d.geometry import Box, Index
from denoise5d.noise import NoiseModel
from denoise5d.store import Image, open_image

NOISE = NoiseModel.gaussian(5)
SHAPE: Index = (3, 2, 9, 100, 80)


def quiet(_done: float, _total: float) -> None:
    pass


@st.composite
def requests(draw: st.DrawFn) -> tuple[Index, tuple[int, int, int, int], tuple[int, int], int]:
    t, c, z, y, x = (draw(st.integers(1, 40)) for _ in range(5))
    place = tuple(draw(st.integers(0, n - 1)) for n in (t, z, y, x))
    size = draw(st.integers(1, 60)), draw(st.integers(1, 60))
    return (t, c, z, y, x), place, size, draw(st.integers(0, c - 1))  # type: ignore[return-value]


@given(requests())
def test_a_crop_is_inside_has_its_size_and_holds_the_place(
    request: tuple[Index, tuple[int, int, int, int], tuple[int, int], int],
) -> None:
    shape, (t, z, y, x), size, channel = request
    crop = crop_at(shape, (t, z, y, x), size, channel)
    assert Box.whole(shape).contains(crop)
    assert crop.shape == (1, 1, 1, min(size[0], shape[3]), min(size[1], shape[4]))
    voxel = (t, channel, z, y, x)
    assert all(a <= v < b for a, v, b in zip(crop.start, voxel, crop.stop, strict=True))
    middle = [a + n // 2 for a, n in zip(crop.start[3:], crop.shape[3:], strict=True)]
    for axis, (found, wanted) in enumerate(zip(middle, (y, x), strict=True), 3):
        at_border = crop.start[axis] == 0 or crop.stop[axis] == shape[axis]
        assert found == wanted or at_border


@pytest.mark.parametrize(
    ("place", "axis", "value"),
    [
        ((3, 0, 0, 0), "T is 0 to 2", 3),
        ((0, 9, 0, 0), "Z is 0 to 8", 9),
        ((0, 0, -1, 0), "Y is 0 to 99", -1),
        ((0, 0, 0, 80), "X is 0 to 79", 80),
    ],
)
def test_a_place_outside_is_refused_with_the_range(
    place: tuple[int, int, int, int], axis: str, value: int
) -> None:
    with pytest.raises(RefusedError, match=rf"--at must be inside the image: {axis}, got {value} "):
        crop_at(SHAPE, place, (10, 10), 0)


def test_empty_crops_and_missing_channels_are_refused() -> None:
    with pytest.raises(RefusedError, match=r"--size must be at least 1 voxel .*, got 0,10"):
        crop_at(SHAPE, (0, 0, 0, 0), (0, 10), 0)
    for channel in (-1, 2):
        with pytest.raises(RefusedError, match=f"--channel .* 0 to 1, got {channel}"):
            crop_at(SHAPE, (0, 0, 0, 0), (10, 10), channel)


# ---- the most structured place


def noisy(shape: Index, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(100, 5, shape).astype(np.float32)


def stored(folder: Path, data: NDArray[Any]) -> Image:
    zarr.create_array(folder / "a.zarr", data=data, chunks=(1, 1, 1, 64, 64))
    return open_image(folder / "a.zarr")


def test_noise_is_no_structure_and_a_bright_voxel_hardly_any() -> None:
    plane = noisy((1, 1, 1, 128, 128))[0, 0, 0]
    spots = plane.copy()
    spots[::8, ::8] += 200
    hot = plane.copy()
    hot[40, 40] = 1e6
    assert structure(plane, NOISE) < 0.4
    assert structure(plane, NOISE) <= structure(hot, NOISE) < 0.5
    assert structure(spots, NOISE) > 1
    assert structure(np.full((64, 64), 7.0), NOISE) == 0
    assert structure(np.full((3, 3), 7.0), NOISE) == 0
    assert structure(np.where(plane > 110, np.nan, plane), NOISE) == 0
    masked = np.zeros((64, 64))
    assert structure(masked, NoiseModel.poisson_gaussian(2, -100)) == 0  # no noise there at all


def test_the_place_is_where_the_structure_is(tmp_path: Path) -> None:
    data = noisy((2, 2, 4, 300, 400))
    data[1, 1, 2, 150:250:8, 260:390:8] += 300
    image = stored(tmp_path, data)
    crop = structured_crop(image, (96, 96), 1, NOISE, quiet)
    assert crop.start[:3] == (1, 1, 2)
    spots = Box((1, 1, 2, 150, 260), (2, 2, 3, 250, 390))
    assert crop.within(spots).voxels > 0.5 * crop.voxels
    assert crop == structured_crop(image, (96, 96), 1, NOISE, quiet)


def test_without_structure_it_is_the_middle(tmp_path: Path) -> None:
    image = stored(tmp_path, np.full((3, 1, 5, 60, 70), 9, np.uint16))
    crop = structured_crop(image, (20, 20), 0, NOISE, quiet)
    assert crop == crop_at(image.info.shape, (1, 2, 30, 35), (20, 20), 0)


class Watched:
    """An image of any size that is never there; counts the voxels that are read."""

    def __init__(self, shape: Index) -> None:
        self.info = type("Info", (), {"shape": shape})()
        self.voxels = 0

    def read(self, box: Box) -> NDArray[Any]:
        self.voxels += box.voxels
        return np.random.default_rng(0).integers(0, 9, box.shape, np.uint16)


@pytest.mark.parametrize("size", [(32, 32), (256, 256), (900, 1200)])
def test_what_is_read_does_not_grow_with_the_image(size: tuple[int, int]) -> None:
    image: Any = Watched((400, 3, 1501, 2048, 1936))
    told: list[tuple[float, float]] = []
    structured_crop(image, size, 2, NOISE, lambda *done: told.append(done))
    assert image.voxels <= 2**24
    assert told[-1][0] == told[-1][1] == len(told)
