"""The picture of a preview: one contrast, one scale of colours, a scale bar."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from numpy.typing import NDArray

from denoise5d.report import PreviewPanel, VoxelSize, save_preview
from denoise5d.report.preview import _round_length

VOXELS = VoxelSize(1.0, 1.0, "voxels")


def panel(shape: tuple[int, int], level: float = 50, residual: float = 0) -> PreviewPanel:
    result = np.full(shape, level, np.float32)
    result[: shape[0] // 2] = 100
    result[0] = 0
    return PreviewPanel("a\n1 s", "residual 1", result, np.full(shape, residual, np.float32))


def draw(
    path: Path, raw: NDArray[Any], panels: list[PreviewPanel], voxel: VoxelSize = VOXELS
) -> NDArray[np.float32]:
    save_preview(path, "a title", raw, panels, voxel)
    return np.asarray(matplotlib.image.imread(path))[..., :3]


def area(pixels: NDArray[np.float32], colour: tuple[float, float, float]) -> int:
    return int((np.abs(pixels - np.array(colour)).max(axis=-1) < 0.02).sum())


def test_equal_grey_levels_look_equal_in_every_panel(tmp_path: Path) -> None:
    shape = (50, 50)
    panels = [panel(shape), panel(shape), panel(shape, level=75)]
    pixels = draw(tmp_path / "a.png", np.full(shape, 50, np.uint16), panels)
    half = 500**2 // 2  # of a panel, in pixels
    assert area(pixels, (0.5, 0.5, 0.5)) == pytest.approx(4 * half, rel=0.05)
    assert area(pixels, (0.75, 0.75, 0.75)) == pytest.approx(half, rel=0.05)


def test_residuals_have_one_symmetric_scale(tmp_path: Path) -> None:
    shape = (50, 50)
    panels = [panel(shape, residual=level) for level in (-9, 9, np.nan)]
    pixels = draw(tmp_path / "a.png", np.zeros(shape), panels)
    violet, orange = (0.176, 0.0, 0.294), (0.498, 0.231, 0.031)  # the ends of the map
    for colour in (violet, orange):
        assert area(pixels, colour) == pytest.approx(500**2, rel=0.05)


@pytest.mark.parametrize(
    ("shape", "voxel"),
    [
        ((1, 1), VOXELS),
        ((3, 200), VOXELS),
        ((200, 3), VoxelSize(0.4, 0.4, "µm")),
        ((64, 64), VoxelSize(2.0, 0.5, "µm")),
        ((900, 1200), VoxelSize(1e-3, 1e-3, "mm")),
    ],
)
def test_every_shape_is_drawn(shape: tuple[int, int], voxel: VoxelSize, tmp_path: Path) -> None:
    pixels = draw(tmp_path / "a.png", np.zeros(shape), [panel(shape)] * 2, voxel)
    assert 500 < pixels.shape[1] < 3000
    assert 250 < pixels.shape[0] < 3000


def test_a_flat_crop_is_drawn(tmp_path: Path) -> None:
    flat = np.full((20, 20), 7, np.uint16)
    assert draw(tmp_path / "a.png", flat, [PreviewPanel("a", "b", flat, flat - 7.0)]).size


def test_the_scale_bar_has_a_round_length() -> None:
    assert [_round_length(most) for most in (1.0, 4.9, 5.0, 34, 0.07, 199)] == pytest.approx(
        [1, 2, 5, 20, 0.05, 100]
    )
