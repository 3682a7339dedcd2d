"""The picture: panels of one contrast, side by side, without bands between them."""

from __future__ import annotations

from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from numpy.typing import NDArray

from denoise5d.report import can_draw, save_comparison


def draw(path: Path, panels: dict[str, NDArray[np.float32]], **options: int) -> NDArray[np.float32]:
    """Return the pixels of the picture (rows, columns, RGB) from 0 to 1."""
    save_comparison(path, panels, **options)
    return np.asarray(matplotlib.image.imread(path))[..., :3]


def blobs(shape: tuple[int, int], *, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).gamma(2.0, 20.0, shape).astype(np.float32)


def is_white(pixels: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return where there is nothing: grey levels go from black to white, so look at bands."""
    return (pixels > 0.999).all(axis=-1)


def longest(flags: NDArray[np.bool_]) -> int:
    """Return the length of the longest run of True."""
    best = run = 0
    for flag in flags:
        run = run + 1 if flag else 0
        best = max(best, run)
    return best


def test_matplotlib_is_here() -> None:
    assert can_draw()


@pytest.mark.parametrize("shape", [(256, 288), (100, 400), (300, 120), (9, 7), (1, 5)])
@pytest.mark.parametrize("count", [1, 3])
def test_there_are_no_bands_of_nothing(tmp_path: Path, shape: tuple[int, int], count: int) -> None:
    panels = {f"panel {i}": blobs(shape, seed=i) for i in range(count)}
    white = is_white(draw(tmp_path / "a.png", panels))
    rows, columns = white.all(axis=1), white.all(axis=0)
    assert longest(rows) < 35  # a caption's height; the gap is 9
    assert longest(columns) < 50  # beside short labels of the grey levels


def test_equal_planes_look_equal(tmp_path: Path) -> None:
    plane = blobs((64, 64))
    pixels = draw(tmp_path / "a.png", {"same": plane, "as": plane.copy()}, detail=16)
    left = int(0.12 * 110), int(3.8 * 110)  # margins, panels and gaps of the drawing, in pixels
    width = int(3.5 * 110)
    first, second = (pixels[60:, start : start + width] for start in left)
    assert np.abs(first - second).mean() < 0.01


def test_the_contrast_is_that_of_the_last(tmp_path: Path) -> None:
    dim, bright = np.full((50, 50), 10, np.float32), np.full((50, 50), 10, np.float32)
    bright[::2] = 1000
    only = draw(tmp_path / "a.png", {"dim": dim, "last": bright})
    panel = only[60:400, 20:400]
    assert np.median(panel) < 0.02  # the dim panel is black beside the bright one


def test_the_detail_is_where_it_is_brightest(tmp_path: Path) -> None:
    plane = np.zeros((100, 100), np.float32)
    plane[60:80, 20:40] = 50
    pixels = draw(tmp_path / "a.png", {"plane": plane}, detail=20)
    detail = pixels[-int(3.6 * 110) : -20, 20:400]
    assert np.median(detail) > 0.98


def test_a_constant_plane_is_drawn(tmp_path: Path) -> None:
    assert draw(tmp_path / "a.png", {"flat": np.full((20, 20), 7, np.uint16)}).size
