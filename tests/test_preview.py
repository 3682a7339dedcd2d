"""The preview: the bits of the run, the grid of variants, noise, residuals, cost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from denoise5d import preview as module
from denoise5d.budget import machine_of
from denoise5d.config import load_config
from denoise5d.crop import crop_at
from denoise5d.errors import ConfigError, PlanError, RefusedError
from denoise5d.geometry import Index
from denoise5d.identity import estimate_noise
from denoise5d.kernel import denoise_block
from denoise5d.ledger import Ledger
from denoise5d.machine import Machine
from denoise5d.noise import NoiseModel
from denoise5d.noise_survey import yaml_lines
from denoise5d.prepare import grid_header, open_input, prepare
from denoise5d.preview import Outcome, Scene, denoise_crop, noise_lines, open_scene, raw_crop
from denoise5d.preview_variants import MOST_VARIANTS, Variant, choose_variants, scaled
from denoise5d.store import convert_dtype
from runs import Project, run, structured

SHAPE: Index = (3, 2, 7, 50, 60)
HALO = [1, 0, 2, 5, 5]
"""Less than any reach: the cuts of blocks show."""


def quiet(_done: float, _total: float) -> None:
    pass


@pytest.fixture(autouse=True)
def _no_second_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MEASURED_SECONDS", 0.0)
    monkeypatch.setattr(module, "_timed", lambda denoise: (denoise(), 1.0))


def scene(project: Project, channels: tuple[int, ...] = (0, 1)) -> Scene:
    config = project.config()
    return open_scene(config, open_input(config), channels, quiet)


def own(project: Project) -> Variant:
    """Return what the YAML says, as a variant."""
    return choose_variants(project.config(), {}, [1.0])[0]


def outcomes(project: Project, **values: list[object]) -> list[Outcome]:
    config, crop = project.config(), crop_at(SHAPE, (0, 3, 25, 30), (20, 20), 1)
    return [denoise_crop(scene(project), crop, v) for v in choose_variants(config, values, [])]


CORNERS = [(0, 0, 0, 0), (2, 6, 49, 59), (1, 3, 32, 32), (0, 6, 16, 48), (2, 0, 0, 59)]
"""Corners of the image, and places where blocks of 16 and 32 voxels meet."""


# ---- the bits of a run


@pytest.mark.parametrize(
    ("dtype", "halo", "noise"),
    [("same", "exact", "auto"), ("float32", HALO, {"gain": [1, 1.2], "offset": [0, 0]})],
)
def test_the_bits_are_those_of_the_run(dtype: str, halo: Any, noise: Any, tmp_path: Path) -> None:
    project = Project(tmp_path).image(structured(SHAPE, "uint16"))
    project.write(
        output={"dtype": dtype, "chunks": [1, 1, 4, 16, 16], "shards": None},
        blocks={"shape": [3, 1, 4, 32, 32], "halo": halo},
        noise=noise,
        denoise={"method": "ridge", "iterations": 1},
    )
    before = [
        denoise_crop(scene(project), crop_at(SHAPE, place, (24, 33), c), own(project))
        for c, place in enumerate(CORNERS[:2])
    ]
    code, log = run(project)
    assert code == 0, log
    result, begun = project.result(), scene(project)
    assert begun.goes_on
    assert begun.noise_from == ("the run that has begun" if noise == "auto" else "the YAML")
    for place in CORNERS:
        for channel in range(2):
            crop = crop_at(SHAPE, place, (24, 33), channel)
            found = denoise_crop(begun, crop, own(project))
            expected = result[crop.slices][0, 0, 0]
            np.testing.assert_array_equal(found.stored, expected, strict=True)
            np.testing.assert_array_equal(
                convert_dtype(found.values, result.dtype), expected, strict=True
            )
    for channel, found in enumerate(before):  # with the same bits before the run as after it
        crop = crop_at(SHAPE, CORNERS[channel], (24, 33), channel)
        np.testing.assert_array_equal(found.stored, result[crop.slices][0, 0, 0])


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Project, NDArray[Any]]]:
    """Images that are denoised block by block with an approximate halo, and what comes of it."""
    made = {}
    for method in ("safir", "ridge"):
        project = Project(tmp_path_factory.mktemp(method)).image(structured(SHAPE, "uint16"))
        project.write(
            output={"chunks": [1, 1, 4, 16, 16], "shards": None},
            blocks={"shape": [3, 1, 4, 32, 32], "halo": HALO},
            noise={"gain": 1, "offset": 0},
            denoise={"method": method, "iterations": 2},
        )
        config = project.config()
        image = open_input(config)
        job = prepare(config, image.info, machine_of(config))
        assert not job.plan.exact_halo
        whole = np.empty(SHAPE, np.float32)
        for block in job.plan.grid:
            whole[block.core.slices] = denoise_block(
                image.read(block.padded),
                padded_origin=block.padded.start,
                core=block.core,
                image_shape=SHAPE,
                noise=[NoiseModel.poisson_gaussian(1, 0)] * 2,
                parameters=job.parameters,
                threads=2,
            )
        made[method] = project, whole
    return made


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.sampled_from(["safir", "ridge"]),
    st.tuples(*(st.integers(0, SHAPE[axis] - 1) for axis in (0, 2, 3, 4))),
    st.tuples(st.integers(1, 60), st.integers(1, 60)),
    st.integers(0, 1),
)
def test_an_approximate_halo_gives_the_bits_of_the_blocks(
    cut: dict[str, tuple[Project, NDArray[Any]]],
    method: str,
    place: tuple[int, int, int, int],
    size: tuple[int, int],
    channel: int,
) -> None:
    project, whole = cut[method]
    crop = crop_at(SHAPE, place, size, channel)
    found = denoise_crop(scene(project), crop, own(project))
    np.testing.assert_array_equal(found.values, whole[crop.slices][0, 0, 0], strict=True)


def test_the_cuts_do_show(cut: dict[str, tuple[Project, NDArray[Any]]]) -> None:
    """Otherwise the test above would prove nothing."""
    project, whole = cut["ridge"]
    copy = Project(project.folder)
    before = project.yaml.read_text()
    copy.write(noise={"gain": 1, "offset": 0}, denoise={"method": "ridge", "iterations": 2})
    crop = crop_at(SHAPE, (1, 3, 32, 32), (30, 30), 0)
    exact = denoise_crop(scene(copy), crop, own(copy)).values
    project.yaml.write_text(before)
    assert (exact != whole[crop.slices][0, 0, 0]).any()


# ---- noise


def test_noise_is_estimated_as_a_run_does(tmp_path: Path) -> None:
    project = Project(tmp_path).image(structured(SHAPE, "uint16"))
    project.write(noise="auto")
    told: list[tuple[float, float]] = []
    config = project.config()
    found = open_scene(config, open_input(config), [1], lambda *done: told.append(done))
    assert found.noise == {1: estimate_noise(open_input(config))[1].model}
    assert (found.noise_from, found.goes_on) == ("the image", False)
    assert told == [(1, 1)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.zarr", "run.yaml"]


def begun(project: Project, *, gain: float) -> None:
    """Write the ledger of a run of this YAML that began with a noise of its own."""
    config = project.config()
    image = open_input(config)
    job = prepare(config, image.info, machine_of(config))
    header = {
        "fingerprint": module.fingerprint(job, image),
        "noise": [{"gain": gain, "offset": 0.0, "read_noise": 0.5}] * 2,
        **grid_header(job.plan),
    }
    project.ledger.parent.mkdir(exist_ok=True)
    project.ledger.unlink(missing_ok=True)
    Ledger.create(project.ledger, header)


def test_the_noise_of_a_run_that_has_begun_is_taken_if_the_image_is_the_same(
    tmp_path: Path,
) -> None:
    project = Project(tmp_path).image(structured(SHAPE, "uint16"))
    project.write(noise="auto")
    begun(project, gain=7.5)
    taken = scene(project)
    assert taken.noise[1].gain == 7.5
    assert taken.goes_on
    project.write(noise="auto", denoise={"iterations": 2})  # another run of the same image
    other = scene(project)
    assert (other.noise[1].gain, other.goes_on) == (7.5, False)
    project.write(noise={"sigma": 3})
    assert scene(project).noise[0] == NoiseModel.gaussian(3)
    project.write(noise="auto")
    project.damage("c/0/0/0/0/0", (project.input / "c/0/0/0/1/1").read_bytes())
    changed = scene(project)
    assert (changed.noise_from, changed.goes_on) == ("the image", False)
    assert changed.noise[1].gain != 7.5


@pytest.mark.parametrize(
    "model",
    [
        NoiseModel.poisson_gaussian(3.92, -388),
        NoiseModel.poisson_gaussian(1 / 3, 100 / 7, 2.5),
        NoiseModel.gaussian(20 / 3),
    ],
)
@pytest.mark.parametrize("scale", [0.8, 1, 1.2345])
def test_a_scaled_noise_is_what_its_lines_give(
    model: NoiseModel, scale: float, tmp_path: Path
) -> None:
    found = scaled(model, scale)
    assert scale != 1 or found is model
    means = np.linspace(100, 900, 9)
    np.testing.assert_allclose(found.variance(means), scale**2 * model.variance(means), rtol=1e-5)
    assert found.read_noise == pytest.approx(
        (scale if model.read_noise != 0.5 * model.gain else scale**2) * model.read_noise, rel=1e-6
    )
    file = tmp_path / "a.yaml"
    paths = "input: {path: a.zarr}\noutput: {path: b.zarr}\n"
    file.write_text(f"{paths}{yaml_lines([found])}\n")
    (loaded,) = module.given_noise(load_config(file).noise, 1) or []
    if scale != 1:
        assert loaded == found


def test_a_scaled_noise_changes_the_result_but_not_the_yardstick(tmp_path: Path) -> None:
    project = Project(tmp_path).image(structured(SHAPE, "uint16"))
    project.write()
    config = project.config()
    little, usual, much = choose_variants(config, {}, [0.25, 1, 4])
    crop = crop_at(SHAPE, (0, 3, 25, 30), (40, 40), 0)
    spreads = [denoise_crop(scene(project), crop, v).spread for v in (little, usual, much)]
    assert spreads[0] < 0.8 * spreads[1] < spreads[1] < spreads[2]
    assert noise_lines(scene(project), much) == "noise:\n  gain: [16, 16]\n  offset: [0, 0]"


# ---- variants


def names(project: Project, *scales: float, **values: list[object]) -> list[str]:
    return [variant.name for variant in choose_variants(project.config(), values, scales)]


def test_without_options_every_quality_is_compared(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write(denoise={"method": "ridge"})
    assert names(project) == ["fast", "standard (the YAML's)", "best"]
    project.write(denoise={"method": "ridge", "pvalue": 0.2})
    assert names(project) == ["as in the YAML", "fast", "standard", "best"]
    first = choose_variants(project.config(), {}, [])[0]
    assert (first.of_yaml, first.lines) == (True, "denoise: {pvalue: 0.2}")
    project.write(denoise={"method": "safir"})
    assert names(project) == ["fast (the YAML's)", "standard", "best"]


def test_the_grid_is_the_product_without_repetition(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write()
    found = names(project, 1, 1.25, iterations=[1, 2], pvalue=[0.05, 0.1, 0.1])
    assert len(found) == 8
    assert found[:2] == ["iterations 1, pvalue 0.05", "iterations 1, pvalue 0.05, noise × 1.25"]
    assert names(project, 0.5) == ["noise × 0.5"]
    project.write(denoise={"method": "ridge"})
    assert choose_variants(project.config(), {}, [2])[0].lines == "denoise: {quality: standard}"
    project.write()
    patches = choose_variants(project.config(), {"patch": [(0, 0, 0, 1, 1), "auto"]}, [])
    assert [v.name for v in patches] == ["patch 0,0,0,1,1", "patch auto (the YAML's)"]
    assert patches[0].lines == "denoise: {method: safir, patch: [0, 0, 0, 1, 1]}"
    assert patches[0].denoise == replace(project.config().denoise, patch=(0, 0, 0, 1, 1))


def test_what_is_refused(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write()
    assert len(names(project, iterations=[1, 2, 3, 4], pvalue=[0.1, 0.2, 0.3])) == MOST_VARIANTS
    with pytest.raises(RefusedError, match=r"at most 12 combinations .*, got 13; give fewer"):
        names(project, *[1 + 0.1 * n for n in range(13)])
    with pytest.raises(ConfigError, match="must not stand beside quality"):
        names(project, quality=["fast"], iterations=[2])
    for scale in (0, -1, np.inf, np.nan):
        with pytest.raises(RefusedError, match="--noise-scale must be greater than 0 and finite"):
            names(project, scale)


# ---- residuals


def outcome(residual: NDArray[Any]) -> Outcome:
    nothing: Any = None
    plane = residual.astype(np.float32)
    return Outcome(nothing, plane, plane, plane, 1.0, 1, None, None, "")


def test_residuals_are_judged() -> None:
    noise = np.random.default_rng(0).normal(0, 1, (200, 200))
    white = outcome(noise)
    assert white.spread == pytest.approx(1, abs=0.02)
    assert abs(white.correlation) < 0.02
    structure = outcome(noise + 1.5 * np.sin(np.arange(200) / 6))
    assert structure.spread > 1.3
    assert structure.correlation > 0.4
    noise[:100] = np.nan
    assert outcome(noise).spread == pytest.approx(1, abs=0.02)
    nothing = outcome(np.full((5, 5), np.nan))
    assert np.isnan([nothing.spread, nothing.correlation]).all()


def test_the_residual_is_in_standard_deviations(tmp_path: Path) -> None:
    image = structured(SHAPE, "uint16")
    project = Project(tmp_path).image(image)
    project.write(noise={"gain": 2, "offset": 10})
    crop = crop_at(SHAPE, (1, 3, 25, 30), (9, 11), 1)
    found = denoise_crop(scene(project), crop, own(project))
    raw = raw_crop(scene(project), crop)
    np.testing.assert_array_equal(raw, image[crop.slices][0, 0, 0])
    values = found.values.astype(np.float64)
    np.testing.assert_allclose(
        found.residual, (raw - values) / np.sqrt(2 * values + 10), rtol=1e-5, atol=1e-6
    )


# ---- memory and cost


def test_what_a_run_would_cost(tmp_path: Path) -> None:
    project = Project(tmp_path).image(structured(SHAPE, "uint16"))
    project.write(denoise={"method": "ridge"})
    fast, standard, best = outcomes(project)
    for found in (fast, standard, best):
        assert found.job is not None
        assert found.cost is not None
        assert found.refusal == ""
        assert found.cost.worker_seconds > 1  # the whole image is more than the crop
    assert fast.memory_bytes < standard.memory_bytes < best.memory_bytes


def test_a_run_that_does_not_fit_is_named_but_the_crop_is_shown(tmp_path: Path) -> None:
    project = Project(tmp_path).image(structured(SHAPE, "uint16"))
    project.write(cluster={"memory": 0.3})
    found = outcomes(project)[0]
    assert found.job is found.cost is None
    assert "blocks.memory_factor" in found.refusal
    assert found.stored.shape == (20, 20)
    project.write(cluster={"memory": 0.3}, blocks={"halo": HALO})  # how would it be cut?
    with pytest.raises(PlanError, match=r"blocks\.memory_factor"):
        outcomes(project)


def test_a_block_that_outlasts_its_job_is_named(tmp_path: Path) -> None:
    project = Project(tmp_path).image(structured(SHAPE, "uint16"))
    project.write(
        denoise={"method": "ridge"},
        cluster={"kind": "slurm", "walltime": "00:10:00", "cpus": 1, "memory": 2}
        | {"workers": None},
    )
    assert not any(found.refusal for found in outcomes(project))
    slow = module._timed

    def hours(denoise: Any) -> Any:
        return slow(denoise)[0], 36_000.0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_timed", hours)
        assert all("cluster.walltime" in found.refusal for found in outcomes(project))


def test_a_crop_that_does_not_fit_this_machine_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(tmp_path).image(structured(SHAPE, "uint16"))
    project.write()
    variant, seen = own(project), scene(project)
    monkeypatch.setattr(module, "this_machine", lambda: Machine(1, 1000))
    with pytest.raises(PlanError, match=r"crop with its margin .* give a smaller --size"):
        denoise_crop(seen, crop_at(SHAPE, (0, 0, 0, 0), (20, 20), 0), variant)
