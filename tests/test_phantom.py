"""The phantom is one image however it is rendered, and its camera does what it says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from denoise5d.geometry import Box, Index, as_index
from denoise5d.phantom import Embryo, camera, embryo, filaments, texture

SHAPE: Index = (3, 2, 12, 60, 70)
WHOLE = embryo(SHAPE, seed=4)


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    pairs = [sorted((draw(st.integers(0, n - 1)), draw(st.integers(1, n)))) for n in SHAPE]
    return Box(as_index([a for a, _ in pairs]), as_index([max(a + 1, b) for a, b in pairs]))


@given(boxes())
@settings(max_examples=15, deadline=None)
def test_every_box_is_a_part_of_the_whole(box: Box) -> None:
    part = Embryo(SHAPE, seed=4).render(box)
    assert part.shape == box.shape
    assert part.dtype == np.float32
    np.testing.assert_allclose(part, WHOLE[box.slices], rtol=1e-5)


def test_box_outside_is_refused() -> None:
    with pytest.raises(ValueError, match="not inside"):
        Embryo(SHAPE).render(Box((0, 0, 0, 0, 0), (4, 2, 12, 60, 70)))


def test_seed_decides_everything() -> None:
    np.testing.assert_array_equal(embryo(SHAPE, seed=4), WHOLE)
    assert not np.allclose(embryo(SHAPE, seed=5), WHOLE)


@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 90, 80), (4, 1, 1, 64, 64), (1, 1, 16, 64, 64), (2, 2, 10, 48, 48)]
)
def test_embryo_fills_the_middle_and_leaves_the_rest_dark(shape: Index) -> None:
    truth = embryo(shape, peak=200, background=0.2)
    assert truth.shape == shape
    assert 60 < truth.max() < 260
    assert truth.min() >= 0.2
    edge = np.concatenate([truth[..., 0, :].ravel(), truth[..., -1].ravel()])
    assert edge.max() < 5
    assert truth[..., shape[3] // 4 : -shape[3] // 4, shape[4] // 4 : -shape[4] // 4].mean() > 5


def test_channels_show_different_structures() -> None:
    nuclei, membranes = WHOLE[0, 0].ravel(), WHOLE[0, 1].ravel()
    inside = nuclei + membranes > 10
    assert np.corrcoef(nuclei[inside], membranes[inside])[0, 1] < 0.3


def test_embryo_moves_slowly() -> None:
    truth = embryo((8, 1, 1, 128, 128))[:, 0, 0]
    likeness = [np.corrcoef(truth[0].ravel(), frame.ravel())[0, 1] for frame in truth]
    assert 0.97 < likeness[1] < 0.9999
    assert likeness[7] < likeness[1]


def test_truth_is_as_smooth_as_the_optics() -> None:
    lines = embryo((1, 1, 1, 128, 128))[0, 0, 0, 32:96]
    power = np.mean(np.abs(np.fft.rfft(lines * np.hanning(128), axis=1)) ** 2, axis=0)
    assert power[48:].max() < 1e-5 * power.max()


def test_camera_has_the_noise_it_states() -> None:
    truth = np.full((1, 1, 1, 400, 400), 50, np.float32)
    grey = camera(truth, gain=3.92, black=100, read_noise=2, seed=1)
    assert grey.dtype == np.uint16
    mean = 3.92 * 50 + 100
    assert grey.mean() == pytest.approx(mean, rel=2e-3)
    assert grey.var() == pytest.approx(3.92 * mean - 388, rel=0.02)


def test_camera_clips_and_depends_on_its_seed() -> None:
    truth = np.full((2, 40, 40), 1000, np.float32)
    assert camera(truth, gain=100, seed=1).min() == 65535
    assert camera(truth * 0, black=-50, seed=1).max() == 0
    a, b = camera(truth, seed=(3, 0)), camera(truth, seed=(3, 1))
    np.testing.assert_array_equal(a, camera(truth, seed=(3, 0)))
    assert np.any(a != b)
    assert np.any(a[0] != a[1])


@pytest.mark.parametrize("kind", [texture, filaments])
@pytest.mark.parametrize("shape", [(1, 1, 1, 64, 48), (3, 1, 1, 40, 40), (2, 2, 10, 32, 32)])
def test_other_kinds_have_the_shape_and_repeat(kind: type, shape: Index) -> None:
    truth = kind(shape, seed=2, peak=100.0)
    assert truth.shape == shape
    assert truth.dtype == np.float32
    assert truth.min() >= 0
    assert 50 < truth.max() < 250
    np.testing.assert_array_equal(truth, kind(shape, seed=2, peak=100.0))
