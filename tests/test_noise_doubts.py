"""What speaks against an estimate is told; where nothing does, nothing is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, shift

from denoise5d.noise import estimate_channel
from denoise5d.noise_doubts import cut_off, doubts, fixed_pattern, shared_noise
from denoise5d.phantom import camera, embryo, filaments, texture

DEEP = (3, 1, 16, 112, 112)


def found(image: NDArray[Any]) -> list[str]:
    """Return the doubts about an image, TZYX."""
    return doubts(estimate_channel([image]), [image])


def deep(make: Any = embryo, **options: Any) -> NDArray[Any]:
    return camera(make(DEEP)[:, 0], seed=1, **options)


# ---- nothing to be doubted


@pytest.mark.parametrize("make", [embryo, texture, filaments])
@pytest.mark.parametrize(
    "shape", [DEEP, (1, 1, 32, 128, 128), (10, 1, 1, 160, 160), (1, 1, 1, 384, 384)]
)
def test_a_sound_camera_is_not_doubted(make: Any, shape: Any) -> None:
    assert found(camera(make(shape)[:, 0], seed=5)) == []


def test_counts_without_black_level_are_not_clipped() -> None:
    counts = camera(embryo(DEEP, background=0.3)[:, 0], gain=1, black=0, read_noise=0, seed=2)
    assert np.mean(counts == 0) > 0.3
    assert [doubt for doubt in found(counts) if "clipped" in doubt] == []


def test_true_values_lie_within_the_errors() -> None:
    """Three standard errors; of sixteen estimates one at most is beyond two."""
    beyond = 0
    for seed in range(4):
        for shape in (DEEP, (1, 1, 32, 128, 128), (10, 1, 1, 160, 160), (1, 1, 1, 384, 384)):
            estimate = estimate_channel([camera(embryo(shape, seed=seed)[:, 0], seed=seed)])
            away = abs(estimate.model.gain - 3.92) / estimate.gain_error
            assert away < 3
            assert abs(estimate.model.offset + 388) / estimate.offset_error < 3
            beyond += away > 2
    assert beyond <= 1


# ---- cells without noise, or with a part of it


def test_saturation() -> None:
    (doubt,) = found(np.minimum(deep(), 400))
    assert doubt.startswith("Saturated: 3.0 % of the cells have voxels at the largest value, 400.")


def test_a_clipped_black_level() -> None:
    ramp = np.broadcast_to(np.linspace(0, 800, 256), (1, 8, 256, 256))
    (doubt,) = found(camera(ramp, gain=1, black=0, read_noise=15, seed=3))
    assert doubt.startswith("The black level is clipped: ")
    assert "at the smallest value, 0. " in doubt
    assert found(camera(ramp, gain=1, black=100, read_noise=15, seed=3)) == []


@pytest.mark.parametrize("value", [0, 50])
def test_zero_blocks(value: int) -> None:
    image = deep()
    image[..., :45, :53] = value  # not along the cells: their rims are no clipped black level
    doubt, *others = found(image)
    assert 8 < float(doubt.split(" %")[0]) < 20
    assert "hold one value only" in doubt
    assert [other for other in others if "clipped" in other] == []


# ---- noise that voxels share


@pytest.mark.parametrize(
    "change",
    [
        lambda image: shift(image, (0, 0, 0, 0.5), order=1),
        lambda image: shift(image, (0, 0, 0.3, 0.4), order=3),
        lambda image: gaussian_filter(image, (0, 0, 0.5, 0.5)),
    ],
    ids=["half a pixel", "cubic", "smoothed"],
)
@pytest.mark.parametrize("make", [embryo, filaments])
def test_resampled_images(change: Any, make: Any) -> None:
    image = deep(make)
    assert shared_noise(estimate_channel([image]).sampled) < 1.1
    changed = change(image.astype(np.float32))
    assert shared_noise(estimate_channel([changed]).sampled) > 2
    assert any("Neighbours share their noise" in doubt for doubt in found(changed))


@pytest.mark.parametrize("shape", [(112, 112), (1, 112), (112, 1)], ids=["pixels", "x", "y"])
def test_a_fixed_pattern(shape: tuple[int, int]) -> None:
    image = deep().astype(np.float32)
    ratio = fixed_pattern([image])
    assert ratio is not None
    assert ratio < 1.15
    pattern = np.random.default_rng(0).normal(0, 2, shape).astype(np.float32)
    assert any("A fixed pattern" in doubt for doubt in found(image + pattern))


def test_a_fixed_pattern_of_white_noise_is_1() -> None:
    noise = np.random.default_rng(0).normal(100, 3, (1, 12, 512, 512)).astype(np.float32)
    ratio = fixed_pattern([noise[..., :256, :], noise[..., 256:, :]])
    assert ratio == pytest.approx(0.95, abs=0.07)  # the lower quartile of cells of 1


@pytest.mark.parametrize("shape", [(1, 7, 64, 64), (3, 2, 64, 64), (1, 20, 64, 31)])
def test_a_fixed_pattern_needs_planes(shape: tuple[int, ...]) -> None:
    assert fixed_pattern([np.zeros(shape)]) is None


# ---- fits that say little


def test_a_small_image() -> None:
    image = camera(embryo((1, 1, 12, 64, 80))[:, 0], seed=1)
    assert any(doubt.startswith("The fit rests on ") for doubt in found(image))


def test_no_gain() -> None:
    flat = np.random.default_rng(5).normal(500, 6, (1, 1, 256, 256)).astype(np.float32)
    assert [doubt.split(":")[0] for doubt in found(flat)] == ["No gain is to be seen"]


def test_a_vague_gain() -> None:
    ramp = np.broadcast_to(np.linspace(300, 450, 128), (1, 1, 128, 128))
    image = camera(ramp, seed=1)
    assert any("The gain is known to within" in doubt for doubt in found(image))


def test_points_off_the_line() -> None:
    rng = np.random.default_rng(9)
    patches = np.kron(rng.uniform(-0.8, 0.8, (1, 24)), np.ones((384, 16)))
    ramp = np.broadcast_to(np.linspace(100, 4000, 384), (1, 1, 384, 384))
    image = ramp + np.sqrt(ramp * np.exp(patches)) * rng.normal(size=ramp.shape)
    assert any("off the line" in doubt for doubt in found(image.astype(np.float32)))


def test_what_is_cut_off_is_counted() -> None:
    image = np.arange(1000).reshape(1, 1, 10, 100)
    assert cut_off([image]) == ""
    assert cut_off([np.full((1, 1, 9, 9), 7)]) == ""
    low, high = np.maximum(image, 300), np.minimum(image, 899)
    assert cut_off([low]).startswith("30 % of the voxels have the smallest value, 300: a black")
    assert cut_off([high]) == "10 % of the voxels have the largest value, 899: saturation"
    assert cut_off([low, high]).count("%") == 0  # one sample's end is not that of all
    assert cut_off([np.clip(image, 300, 899)]).count("%") == 2
