"""The residual's statistics tell pure noise from blur, a wrong noise, noise that is left."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from denoise5d.noise import NoiseModel
from denoise5d.residuals import ResidualStatistics, residual_statistics
from denoise5d.verdicts import Grade, residual_verdicts

MODEL = NoiseModel.poisson_gaussian(2.0, -150.0, 3.0)
"""Black level about 100."""

Floats = NDArray[np.float64]


def scene(shape: tuple[int, ...] = (2, 8, 96, 96), seed: int = 0) -> tuple[Floats, Floats]:
    """Return blobs, and the same with noise of the model."""
    rng = np.random.default_rng(seed)
    blobs = gaussian_filter(rng.standard_normal(shape), (0, 1, 2.5, 2.5), mode="wrap")
    truth = 110 + 400 * np.clip(blobs / blobs.max(), 0, 1) ** 2
    return truth, truth + np.sqrt(MODEL.variance(truth)) * rng.standard_normal(shape)


def statistics(noisy: Floats, denoised: Floats, model: NoiseModel = MODEL) -> ResidualStatistics:
    found = residual_statistics([(noisy, denoised)], model)
    assert found is not None
    return found


def grades(found: ResidualStatistics) -> dict[str, Grade]:
    return {verdict.subject: verdict.grade for verdict in residual_verdicts("", found)}


def test_pure_noise_is_right() -> None:
    truth, noisy = scene()
    found = statistics(noisy, truth)
    assert found.voxels == truth.size
    assert found.left_out == 0
    assert abs(found.mean) < 0.01
    assert found.variance == pytest.approx(1, abs=0.02)
    assert list(found.correlations) == ["T", "Z", "Y", "X"]
    assert [len(values) for values in found.correlations.values()] == [1, 3, 3, 3]
    assert all(abs(v) < 0.02 for values in found.correlations.values() for v in values)
    assert found.structure_ratios == pytest.approx(np.ones(10), abs=0.12)
    assert np.all(np.diff(found.levels) >= 0)
    assert np.all(np.diff(found.structures) >= 0)
    assert set(grades(found).values()) == {Grade.GOOD}


def test_the_histogram_is_a_density() -> None:
    truth, noisy = scene()
    found = statistics(noisy, truth)
    assert (found.density * np.diff(found.edges)).sum() == pytest.approx(1)
    middle = (found.edges[:-1] + found.edges[1:]) / 2
    assert (found.density * middle**2 * np.diff(found.edges)).sum() == pytest.approx(1, abs=0.03)


def test_what_a_blur_takes_with_it_is_found() -> None:
    truth, noisy = scene()
    found = grades(statistics(noisy, gaussian_filter(truth, (0, 0, 1.5, 1.5))))
    assert found["structure"] is Grade.BAD
    assert found["mean"] is not Grade.GOOD
    assert found["neighbours"] is not Grade.GOOD


def test_noise_that_is_left_is_found() -> None:
    truth, noisy = scene()
    assert grades(statistics(noisy, (truth + noisy) / 2))["variance"] is Grade.BAD
    smoothed = truth + 1.4 * gaussian_filter(noisy - truth, (0, 0, 0.6, 0.6))
    assert grades(statistics(noisy, smoothed))["neighbours"] is Grade.BAD


@pytest.mark.parametrize("factor", [0.6, 1.6])
def test_a_wrong_noise_is_found(factor: float) -> None:
    truth, noisy = scene()
    wrong = NoiseModel(factor * MODEL.gain, factor * MODEL.offset, MODEL.read_noise)
    assert grades(statistics(noisy, truth, wrong))["variance"] is not Grade.GOOD


def test_shifted_grey_levels_are_found() -> None:
    truth, noisy = scene()
    shifted = truth + 0.4 * np.sqrt(MODEL.variance(truth))
    found = statistics(noisy, shifted)
    assert found.mean == pytest.approx(-0.4, abs=0.02)
    assert grades(found)["mean"] is Grade.BAD


def test_noise_that_neighbours_share_is_named() -> None:
    truth, noisy = scene()
    shared = gaussian_filter(noisy - truth, (0, 0, 0.8, 0.8))
    found = statistics(truth + shared * np.std(noisy - truth) / shared.std(), truth)
    words = {v.subject: v.words for v in residual_verdicts("", found)}
    assert grades(found)["structure"] is Grade.BAD
    assert "also where all is flat" in words["structure"]


def test_parts_of_one_value_are_left_out() -> None:
    truth, noisy = scene()
    noisy[:, :, :24] = truth[:, :, :24] = 0
    found = statistics(noisy, truth)
    assert found.left_out == pytest.approx(0.25)
    assert found.variance == pytest.approx(1, abs=0.02)
    assert abs(found.correlations["Y"][0]) < 0.02


def test_several_parts_are_one_statistic() -> None:
    truth, noisy = scene((4, 8, 96, 96))
    parts = [(noisy[i : i + 2], truth[i : i + 2]) for i in (0, 2)]
    found = residual_statistics(parts, MODEL)
    assert found is not None
    assert found.voxels == truth.size
    assert found.variance == pytest.approx(statistics(noisy, truth).variance)


def test_a_plane_has_no_neighbours_in_depth_and_time() -> None:
    truth, noisy = scene((1, 1, 200, 210))
    assert list(statistics(noisy, truth).correlations) == ["Y", "X"]


@pytest.mark.parametrize("shape", [(1, 1, 3, 300), (1, 1, 300, 1), (1, 1, 4, 8), (1, 1, 1, 1)])
def test_hardly_a_voxel_says_nothing(shape: tuple[int, ...]) -> None:
    truth, noisy = scene(shape)
    assert residual_statistics([(noisy, truth)], MODEL) is None


def test_an_image_of_one_value_says_nothing() -> None:
    flat = np.full((1, 1, 64, 64), 7, np.uint16)
    assert residual_statistics([(flat, flat)], NoiseModel.gaussian(1.0)) is None
    (verdict,) = residual_verdicts(", channel 2", None)
    assert verdict.grade is Grade.DOUBT
    assert verdict.subject == "residual, channel 2"
