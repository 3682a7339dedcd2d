"""The benchmarks measure what they say: cases, measures and tables on examples made by hand."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

import cases
import looks
import measures
import peers
import performance
import phantoms
import quality
import scaling
import speed
import tables
from cases import Case, Noise
from denoise5d import denoise

SMALL = {
    "2-D": (1, 1, 40, 40),
    "2-D+t": (3, 1, 32, 32),
    "3-D": (1, 6, 24, 24),
    "4-D": (3, 5, 20, 20),
}
CAMERA = cases.CAMERAS[0].noise


def white(shape: tuple[int, ...] = (4, 1, 8, 48, 48), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for group, shape in SMALL.items():
        monkeypatch.setitem(cases.SHAPES, group, shape)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without any peer."""
    monkeypatch.setattr(peers, "peer_version", lambda _: None)
    monkeypatch.setattr(tables, "peer_version", lambda _: None)


@pytest.mark.parametrize("kind", phantoms.KINDS)
def test_phantoms_are_deterministic_and_move_as_told(kind: str) -> None:
    shape = (3, 6, 28, 30)
    still, moving = (phantoms.phantom(kind, shape, seed=1, speed=s) for s in (0, 1.5))
    assert still.shape == shape
    assert still.min() >= 0
    assert still.std() > 0.002
    np.testing.assert_array_equal(still, phantoms.phantom(kind, shape, seed=1, speed=0))
    np.testing.assert_array_equal(still[0], still[-1])
    assert np.abs(moving[0] - moving[-1]).max() > 0.02
    assert np.any(still != phantoms.phantom(kind, shape, seed=2, speed=0))


def test_cases_are_of_both_purposes_and_share_no_kind() -> None:
    every = cases.all_cases()
    assert len({case.name for case in every}) == len(every)
    for group in cases.GROUPS:
        purposes = [case.purpose for case in every if case.group == group]
        assert 0.35 <= purposes.count("tune") / len(purposes) <= 0.65, group
    assert {(c.group, c.purpose) for c in cases.quick_cases()} == {
        (c.group, c.purpose) for c in every
    }
    assert set(quality.SHOWN) <= set(every)
    assert {case for case, _, _ in looks.BORDERS} <= set(every)
    assert {c.purpose for c in (*quality.SHOWN, *(c for c, _, _ in looks.BORDERS))} == {"report"}


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("group", ["2-D+t", "3-D", "4-D"])
@pytest.mark.parametrize("kind", ["membranes", "embryo"])
def test_noise_is_the_one_that_methods_are_told(group: str, kind: str) -> None:
    sample = Case(group, kind, "high", 1.0).sample()
    again = Case(group, kind, "high", 1.0).sample()
    np.testing.assert_array_equal(sample.image, again.image)
    residual = measures.stable_residual(sample.image, sample.truth, sample.noise)
    assert abs(residual.mean()) < 0.08
    assert abs(residual.var() - 1) < 0.1


def test_cut_takes_the_middle() -> None:
    values = np.arange(10 * 12).reshape(1, 1, 1, 10, 12)
    cut = cases.Sample(values, values, CAMERA).cut((0, 0, 0, 2, 3))
    np.testing.assert_array_equal(cut.image[0, 0, 0], values[0, 0, 0, 2:8, 3:9])


def test_psnr_of_a_known_error() -> None:
    truth = np.array([0.0, 100.0, 50.0, 50.0])
    assert measures.psnr(truth + 10, truth) == pytest.approx(20)


@given(scale=st.floats(0.1, 50), shift=st.floats(-100, 100))
def test_scores_do_not_depend_on_the_unit(scale: float, shift: float) -> None:
    truth, noise = white((1, 1, 2, 24, 24)), white((1, 1, 2, 24, 24), 1)
    result = truth + 0.5 * noise
    here, there = (
        measures.psnr(a, b) for a, b in ((result, truth), (scale * result, scale * truth))
    )
    assert there == pytest.approx(here)
    moved = measures.psnr(scale * result + shift, scale * truth + shift)
    assert moved == pytest.approx(here, rel=1e-6)
    assert measures.ssim(scale * result, scale * truth) == pytest.approx(
        measures.ssim(result, truth)
    )


def test_ssim_is_one_for_the_truth_and_falls_with_noise() -> None:
    truth = gaussian_filter(white(), 2)
    noisy = [measures.ssim(truth + s * white(seed=1), truth) for s in (0, 0.01, 0.1)]
    assert noisy[0] == pytest.approx(1)
    assert noisy[0] > noisy[1] > noisy[2] > 0


def test_flicker_is_what_changes_in_time() -> None:
    truth = np.zeros((40, 1, 1, 32, 32))
    assert measures.flicker(truth + 3 * white(truth.shape), truth) == pytest.approx(3, rel=0.02)
    assert measures.flicker(truth + 5, truth) == 0


def test_brightness_finds_two_per_cent() -> None:
    truth = 100 + gaussian_filter(white(), 3) ** 2 * 1e4 + 20
    assert measures.brightness(truth, truth, 100, 4) == 0
    assert measures.brightness(100 + 1.02 * (truth - 100), truth, 100, 4) == pytest.approx(0.02)
    dark = np.full(truth.shape, 100.0)
    assert measures.brightness(dark + 1, dark, 100, 4) == pytest.approx(0.25)


def test_border_error_is_the_ratio_at_each_distance() -> None:
    truth = np.zeros((1, 1, 1, 20, 24))
    whole = truth + 1
    cut = truth + 1
    cut[..., 0, :] = 2
    curve = measures.border_error(cut, whole, truth, [3], 4)
    np.testing.assert_allclose(curve, [(4 + 1) / 2, 1, 1, 1])


def test_autocorrelation_of_white_and_of_blurred_noise() -> None:
    lags = measures.autocorrelation(white(), 3)
    assert set(lags) == {"T", "Z", "Y", "X"}
    assert max(abs(c) for row in lags.values() for c in row) < 0.02
    blurred = measures.autocorrelation(gaussian_filter(white(), (0, 0, 0, 0, 1)), 3)
    assert blurred["X"][0] == pytest.approx(np.exp(-0.25), abs=0.03)
    assert abs(blurred["Y"][0]) < 0.03


def test_lattice_pattern_is_found_where_there_is_one() -> None:
    truth, stride = np.zeros((4, 1, 8, 48, 48)), (1, 1, 2, 4, 4)
    noise = white()
    assert measures.lattice_pattern(noise, truth, stride) < 1.3
    assert measures.lattice_phase(noise, truth, stride) == pytest.approx(1, abs=0.02)
    assert measures.lattice_pattern(noise, truth, (1, 1, 1, 1, 1)) == 1
    stripes = noise.copy()
    stripes[..., ::4] += 1
    assert measures.lattice_pattern(stripes, truth, stride) > 3
    rough = noise.copy()
    rough[:, :, :, ::4] *= 2
    assert measures.lattice_phase(rough, truth, stride) == pytest.approx(
        (4 / 1.75) ** 0.5, abs=0.03
    )


@given(share=st.floats(0, 1.5))
def test_contrast_kept_is_the_share(share: float) -> None:
    truth = np.maximum(gaussian_filter(white((1, 1, 2, 40, 40)), (0, 0, 0, 1, 1)), 0)
    dim, bright = measures.contrast_kept(50 + share * truth, truth)
    assert dim == pytest.approx(share, abs=1e-9)
    assert bright == pytest.approx(share, abs=1e-9)


@pytest.mark.parametrize("noise", [CAMERA, Noise(gain=0.5, offset=-20), Noise(sigma=12)])
def test_inverse_transform_of_the_peers_is_the_kernel_s(noise: Noise) -> None:
    stabiliser = peers.Stabiliser(noise)
    black = -noise.offset / (noise.gain or 1)
    for photons in (-0.5, 0, 0.4, 3, 40, 149, 151, 900):
        flat = np.full((1, 1, 1, 9, 9), black + photons * (noise.gain or 1), np.float32)
        ours = peers.fast(flat, noise).mean()
        theirs = stabiliser.inverse(stabiliser.forward(flat)).mean()
        assert theirs == pytest.approx(ours, abs=2e-3 * (noise.gain or 1), rel=1e-5)


def test_steps_without_noise_have_the_ratio_one() -> None:
    sample = looks.stairs()
    assert looks.step_ratios(sample.truth, sample) == pytest.approx(
        [1] * len(looks.STEPS), abs=1e-4
    )


def test_defaults_are_what_is_measured() -> None:
    sample = scaling.scene((1, 1, 4, 24, 20))
    assert sample.image.shape == (1, 1, 4, 24, 20)
    default = denoise(sample.image, axes="TCZYX", threads=2, gain=CAMERA.gain, offset=CAMERA.offset)
    np.testing.assert_array_equal(peers.standard(sample.image, sample.noise), default)
    assert np.any(peers.best(sample.image, sample.noise) != default)


def test_a_peer_is_run_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def peer(image: np.ndarray, _: Noise) -> np.ndarray:
        calls.append(image.shape)
        return image + np.float32(len(calls))

    monkeypatch.setitem(peers.PEERS, "bm4d", ("bm4d", peer))
    image = np.ones((1, 1, 1, 4, 4), np.float32)
    runs = [
        peers.remembered(tmp_path, "bm4d", image, noise, fresh=fresh).max()
        for noise, fresh in (
            (CAMERA, False), (CAMERA, False), (Noise(sigma=1), False), (CAMERA, True),
            (CAMERA, False),
        )
    ]  # fmt: skip
    assert runs == [2, 2, 3, 4, 4]


def test_markdown() -> None:
    table = tables.markdown(["case", "dB"], [["a", 1.0], ["b", None], ["c", 3]], 1)
    assert table.splitlines() == [
        "| case | dB |",
        "|---|---:|",
        "| a | 1.0 |",
        "| b | - |",
        "| c | 3 |",
    ]


@pytest.mark.usefixtures("small", "alone")
def test_quality_without_peers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = (Case("3-D", "shells", "mid"), Case("4-D", "membranes", "low", 0.5))
    monkeypatch.setattr(quality, "all_cases", lambda: list(chosen))
    monkeypatch.setattr(quality, "SHOWN", chosen)
    borders = [(chosen[0], "y, x", (0, 0, 0, 4, 4))]
    monkeypatch.setattr(looks, "BORDERS", borders)
    monkeypatch.setattr(sys, "argv", ["quality.py", "--output", str(tmp_path)])
    quality.main()
    text = (tmp_path / "quality.md").read_text()
    assert "Not installed and left out: bm4d, ndsafir (pip install '.[bench]')" in text
    assert "| 3-D shells mid | report |" in text
    numbers = json.loads((tmp_path / "quality.json").read_text())["numbers"]
    scores = numbers["cases"][0]["scores"]
    assert set(scores) == {"noisy", "fast", "standard", "best", "paper"}
    assert scores["standard"]["psnr"] > scores["noisy"]["psnr"] + 3
    assert {"quality.png", "borders.png"} <= {file.name for file in tmp_path.iterdir()}


def record(name: str, purpose: str, **psnr: float) -> dict[str, object]:
    scores = {method: {"psnr": value, "ssim": 0.5} for method, value in psnr.items()}
    return {"name": name, "group": "3-D", "purpose": purpose, "scores": scores}


def test_verdicts_are_of_the_reporting_cases_and_the_worst_of_all() -> None:
    records = [
        record("a", "report", standard=35.0, ndsafir=32.0, bm4d=35.5),
        record("b", "report", standard=35.0, ndsafir=33.5, bm4d=35.5),
        record("c", "tune", standard=30.0, ndsafir=31.0, bm4d=20.0),
    ]
    rows = [tuple(row) for row in quality.verdicts(records)]
    assert rows == [
        ("3-D: mean at least +2 dB over ndsafir", "+2.25", "met"),
        ("3-D: mean at least +0 dB over bm4d", "-0.50", "MISSED"),
        ("standard: on no case below ndsafir", "-1.00 (c)", "MISSED"),
    ]
    assert quality.below(records)[0] == "`standard` below ndsafir: c (-1.00)."


def test_ratio_is_the_median_of_the_turns() -> None:
    rates = {"standard": [60.0, 40.0, 10.0], "bm4d": [1.0, 1.0, 10.0]}
    assert speed.ratio(rates, "standard", "bm4d") == 40
    assert speed.ratio(rates, "standard", "ndsafir 4") is None


def test_page_takes_what_has_been_measured(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (tmp_path / "quality.md").write_text("## Scores\n\n![Results](quality.png)\n")
    (tmp_path / "quality.png").write_bytes(b"png")
    rates = {"4-D": {"standard": [2e6, 4e6, 3e6]}}
    numbers = {"numbers": {"threads": 2, "voxels_per_second": rates}}
    (tmp_path / "speed.json").write_text(json.dumps(numbers))
    text = performance.assemble(tmp_path, docs).read_text()
    assert "### Scores\n\n![Results](benchmark-quality.png)" in text
    assert (docs / "benchmark-quality.png").read_bytes() == b"png"
    assert "Not measured yet." in text
    assert "| standard | 1.500 |" in text
    assert "$" not in text


def test_node_hours() -> None:
    rate = 1e6 / performance.EFFICIENCY / performance.NODE_CORES
    assert performance.node_hours(36 * 10**8, 1.0, rate) == pytest.approx(1)
