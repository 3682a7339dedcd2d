"""The noise that is found is the noise that is there, or the refusal says why not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from denoise5d.errors import NoiseError
from denoise5d.geometry import Box, Index
from denoise5d.noise import NoiseEstimate, NoiseModel, estimate_channel, sample_boxes
from denoise5d.noise_cells import Residual, trusted_mean
from denoise5d.phantom import Embryo, camera, embryo, filaments, texture

GAIN, BLACK, READ = 3.92, 100.0, 2.0
OFFSET = READ**2 - GAIN * BLACK


def largest_error(model: NoiseModel, grey: NDArray[Any], gain: float, offset: float) -> float:
    """Relative error of the variance, the largest between percentiles 1 and 99 of the truth."""
    means = np.percentile(grey, np.linspace(1, 99, 99))
    true = gain * means + offset
    return float(np.max(np.abs(model.gain * means + model.offset - true) / true))


def image_2d(shape: tuple[int, int] = (192, 192), seed: int = 0) -> NDArray[Any]:
    return camera(texture((1, 1, 1, *shape), grain=3)[:, 0], seed=seed)


# ---- the model


def test_model_gives_the_variance_of_every_mean() -> None:
    model = NoiseModel.poisson_gaussian(GAIN, OFFSET)
    np.testing.assert_allclose(model.variance(np.array([100.0, 200.0])), [4, 396])
    assert model.variance(0.0) == 0
    assert model.read_noise == pytest.approx(0.5 * GAIN)
    assert NoiseModel.poisson_gaussian(GAIN, OFFSET, 2).read_noise == 2
    assert NoiseModel.gaussian(20).variance(1e5) == pytest.approx(400)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NoiseModel(-1, 4, 0), "gain must be >= 0, got -1"),
        (lambda: NoiseModel(0, 0, 0), "offset must be > 0, got 0"),
        (lambda: NoiseModel(1, 4, -2), "read noise must be >= 0, got -2"),
        (lambda: NoiseModel(1, float("nan"), 0), "must be finite"),
        (lambda: NoiseModel.gaussian(0), "sigma must be > 0, got 0"),
        (lambda: NoiseModel.gaussian(float("nan")), "sigma must be > 0, got nan"),
        (lambda: NoiseModel.gaussian(float("inf")), "must be finite"),
        (lambda: NoiseModel.poisson_gaussian(0, 4), "give a sigma"),
    ],
)
def test_impossible_models_are_refused(make: Any, message: str) -> None:
    with pytest.raises(NoiseError, match=message):
        make()


# ---- where samples are taken


shapes = st.tuples(
    st.integers(1, 40),
    st.integers(1, 3),
    st.integers(1, 300),
    st.integers(1, 600),
    st.integers(1, 600),
)


@given(shapes, st.integers(2**16, 2**22), st.data())
@settings(max_examples=60, deadline=None)
def test_boxes_stay_inside_image_channel_and_budget(
    shape: Index, max_voxels: int, data: st.DataObject
) -> None:
    channel = data.draw(st.integers(0, shape[1] - 1))
    boxes = sample_boxes(shape, channel, max_voxels=max_voxels)
    assert boxes == sample_boxes(shape, channel, max_voxels=max_voxels)
    assert len({box.shape for box in boxes}) == 1
    assert all(Box.whole(shape).contains(box) for box in boxes)
    assert all((box.start[1], box.stop[1]) == (channel, channel + 1) for box in boxes)
    assert sum(box.voxels for box in boxes) <= max_voxels


def test_boxes_of_a_large_image_are_everywhere() -> None:
    shape: Index = (17, 1, 1501, 2048, 1936)
    boxes = sample_boxes(shape, 0)
    assert sum(box.voxels for box in boxes) > 2**23
    for axis in (0, 2, 3, 4):
        starts = np.array([box.start[axis] for box in boxes]) / shape[axis]
        share = np.histogram(starts, bins=8, range=(0, 1))[0] / len(boxes)
        assert share.min() > 0.06


def test_small_image_is_sampled_whole() -> None:
    assert sample_boxes((4, 2, 5, 50, 60), 1) == [Box((0, 1, 0, 0, 0), (4, 2, 5, 50, 60))]


# ---- the residual


@pytest.mark.parametrize("order", [2, 4])
@pytest.mark.parametrize(
    "shape",
    [(1, 1, 300, 300), (12, 1, 150, 150), (1, 20, 80, 80), (4, 10, 60, 60), (1, 2, 200, 190)],
)
def test_white_noise_keeps_its_variance(shape: tuple[int, ...], order: int) -> None:
    noise = np.random.default_rng(3).normal(7, 3, shape)
    cells = Residual.of(shape, order).cells(noise, 0, np.inf)
    assert cells.variance.mean() == pytest.approx(9, rel=0.05)
    assert cells.rough.mean() == pytest.approx(9, rel=0.08)
    assert cells.mean.mean() == pytest.approx(7, rel=0.02)
    assert abs(np.corrcoef(cells.rough, cells.variance)[0, 1]) < 0.2


def test_smooth_signal_leaves_no_residual() -> None:
    z, y, x = np.meshgrid(np.arange(12), np.arange(40), np.arange(40), indexing="ij")
    cells = Residual.of((1, 12, 40, 40), 2).cells((z * y + y * x + x + 5.0)[None], 0, np.inf)
    assert cells.variance.max() < 1e-6 * cells.mean.min() ** 2


@given(st.floats(0.01, 100), st.integers(0, 5))
@settings(max_examples=20, deadline=None)
def test_trusted_mean_scales_and_leaves_outliers_out(scale: float, outliers: int) -> None:
    values = scale * np.random.default_rng(0).normal(1, 0.1, 100)
    mixed = np.concatenate([values, np.full(outliers, 1000 * scale)])
    assert trusted_mean(mixed, 0.033)[0] == pytest.approx(scale, rel=0.03)


# ---- the estimate on phantoms with known noise

EMBRYOS = {
    "4-D": (3, 1, 16, 112, 112),
    "3-D": (1, 1, 32, 128, 128),
    "2-D+t": (10, 1, 1, 160, 160),
    "2-D": (1, 1, 1, 384, 384),
}


@pytest.mark.parametrize("peak", [20, 200, 2000])
@pytest.mark.parametrize("kind", EMBRYOS)
def test_embryo(kind: str, peak: float) -> None:
    truth = embryo(EMBRYOS[kind], peak=peak)[:, 0]
    found = estimate_channel([camera(truth, seed=11)])
    assert largest_error(found.model, GAIN * truth + BLACK, GAIN, OFFSET) < 0.1


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (texture, (1, 1, 1, 360, 360)),
        (texture, (1, 1, 24, 112, 112)),
        (filaments, (1, 1, 1, 360, 360)),
        (filaments, (12, 1, 1, 160, 160)),
        (filaments, (1, 1, 32, 128, 128)),
    ],
)
@pytest.mark.parametrize("peak", [20, 200, 1000])
def test_textures_and_filaments(make: Any, shape: Index, peak: float) -> None:
    truth = make(shape, peak=peak)[:, 0]
    found = estimate_channel([camera(truth, seed=4)])
    assert largest_error(found.model, GAIN * truth + BLACK, GAIN, OFFSET) < 0.1


def test_samples_of_an_image_stand_for_all_of_it() -> None:
    image = Embryo((9, 1, 60, 300, 300), peak=200)
    boxes = sample_boxes(image.shape, 0, max_voxels=2**21)
    truths = [image.render(box)[:, 0] for box in boxes]
    samples = [camera(truth, seed=i) for i, truth in enumerate(truths)]
    grey = np.concatenate([GAIN * truth.ravel() + BLACK for truth in truths])
    found = estimate_channel(samples)
    assert largest_error(found.model, grey, GAIN, OFFSET) < 0.1

    again = estimate_channel(samples)
    assert again.model == found.model
    np.testing.assert_array_equal(again.variances, found.variances)
    turned = estimate_channel(samples[::-1]).model
    assert turned.gain == pytest.approx(found.model.gain, rel=1e-6)
    assert turned.offset == pytest.approx(found.model.offset, rel=1e-6)


def test_constant_noise_needs_no_gain() -> None:
    truth = embryo((1, 1, 16, 128, 128))[:, 0]
    noise = np.random.default_rng(0).normal(0, 30, truth.shape)
    model = estimate_channel([(truth + noise).astype(np.float32)]).model
    assert largest_error(model, truth, 0, 900) < 0.1


def test_flat_field_is_gaussian() -> None:
    flat = np.random.default_rng(5).normal(500, 6, (1, 1, 256, 256)).astype(np.float32)
    model = estimate_channel([flat]).model
    assert model.gain == 0
    assert model.offset == pytest.approx(36, rel=0.05)


def test_photons_counted_without_black_level() -> None:
    truth = embryo((1, 1, 24, 128, 128), peak=40)[:, 0]
    counts = camera(truth, gain=1, black=0, read_noise=0, seed=2)
    assert np.mean(counts == 0) > 0.5
    assert largest_error(estimate_channel([counts]).model, truth, 1, 0) < 0.1


def test_saturated_and_empty_regions_are_left_out() -> None:
    truth = texture((1, 1, 1, 400, 400), grain=4)[:, 0]
    grey = GAIN * truth + BLACK
    ceiling = np.percentile(grey, 85)
    image = np.minimum(camera(truth, seed=3), np.uint16(ceiling))
    image[..., :60] = 0
    inside = grey[..., 60:][grey[..., 60:] < 0.9 * ceiling]
    assert largest_error(estimate_channel([image]).model, inside, GAIN, OFFSET) < 0.1


@given(st.floats(1e-4, 100), st.floats(-1000, 1000))
@settings(max_examples=5, deadline=None)
def test_units_do_not_matter(a: float, b: float) -> None:
    image = image_2d((144, 144)).astype(np.float64)
    old = estimate_channel([image])
    new = estimate_channel([a * image + b * a])
    assert new.model.gain == pytest.approx(a * old.model.gain, rel=1e-3)
    offset = a * a * (old.model.offset - old.model.gain * b)
    scale = a * a * float(old.variances.mean())
    assert new.model.offset == pytest.approx(offset, rel=1e-3, abs=1e-3 * scale)
    assert new.cells == old.cells


def test_numbers_between_zero_and_one() -> None:
    image = image_2d()
    scaled = (image / 65535).astype(np.float32)
    found, reference = estimate_channel([scaled]).model, estimate_channel([image]).model
    assert found.gain * 65535 == pytest.approx(reference.gain, rel=1e-3)


def test_estimate_carries_its_points() -> None:
    found = estimate_channel([image_2d()])
    assert isinstance(found, NoiseEstimate)
    assert found.means.shape == found.variances.shape
    assert found.means.size > 8
    assert found.cells > 200
    away = found.variances / found.model.variance(found.means) - 1
    assert 0 < found.scatter < 0.3
    assert 1.4826 * np.median(np.abs(away)) == pytest.approx(found.scatter, rel=1e-6)


# ---- refusals

NORMAL = np.random.default_rng(8).normal(size=(1, 1, 256, 256))
RAMP = np.broadcast_to(np.linspace(100, 1000, 256), NORMAL.shape)
RANDOM_PATCHES = np.kron(np.random.default_rng(9).uniform(-3, 3, (16, 16)), np.ones((16, 16)))


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (np.zeros((1, 1, 64, 64), np.uint16), "every sampled voxel has the value 0"),
        (np.full((1, 1, 64, 64), 7.5, np.float32), "every sampled voxel has the value 7.5"),
        (image_2d((32, 32)), "9 cells hold noise, at least 100"),
        (
            np.arange(12, dtype=np.uint8).reshape(1, 1, 3, 4),
            "Y or X must have 16 pixels at least, got 3 and 4",
        ),
        (np.where(RAMP < 150, 5.0 + NORMAL, 0), "cells hold noise, at least 100"),
        (np.minimum(RAMP + 5 * NORMAL, 120), "free of voxels clipped .* or saturated"),
        (np.maximum(RAMP + 50 * NORMAL, 900), "free of voxels clipped .* or saturated"),
        (RAMP + (1100 - RAMP) / 30 * NORMAL, "the variance falls with the mean"),
        (RAMP + np.exp(RANDOM_PATCHES) * NORMAL, "the variance does not follow the mean"),
    ],
)
def test_refusals_name_the_reason_and_the_way_out(image: NDArray[Any], reason: str) -> None:
    with pytest.raises(NoiseError, match=reason) as caught:
        estimate_channel([image])
    assert "give noise: {gain: ..., offset: ...} or {sigma: ...}" in str(caught.value)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_counted(bad: float) -> None:
    image = image_2d().astype(np.float32)
    image[0, 0, 3, 4:6] = bad
    with pytest.raises(NoiseError, match=r"^2 of the sampled voxels are NaN or infinite"):
        estimate_channel([image])


@pytest.mark.parametrize("samples", [[], [np.zeros((4, 4))], [np.zeros((1, 1, 0, 4))]])
def test_samples_have_four_axes(samples: list[NDArray[Any]]) -> None:
    with pytest.raises(ValueError, match="T, Z, Y, X"):
        estimate_channel(samples)


def test_clipped_background_is_not_taken_for_counts() -> None:
    truth = embryo((1, 1, 16, 128, 128), peak=300)[:, 0]
    clipped = camera(truth, gain=1, black=0, read_noise=10, seed=2)
    assert np.mean(clipped == 0) > 0.2
    with pytest.raises(NoiseError, match="free of voxels clipped"):
        estimate_channel([clipped])
