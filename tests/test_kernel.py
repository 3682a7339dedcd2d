"""The kernel against the slow reference, and bit for bit against itself."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reference
from denoise5d import build_info, denoise_block, reach, resolve_parameters
from denoise5d.errors import InputError, RefusedError
from denoise5d.geometry import BlockGrid, Box, as_index
from denoise5d.kernel import (
    ISA_VARIABLE,
    scratch_bytes,
)
from denoise5d.noise import NoiseModel
from denoise5d.parameters import (
    Parameters,
    Ridge,
    _chi_square_quantile,
    resolve_ridge,
)

CAMERA = NoiseModel.poisson_gaussian(3.92, -388.0, 2.0)
THRESHOLD = 12.0


def structured(shape, seed=0, dtype=np.uint16):
    """Edges and blobs with camera noise: nothing is constant, so weights take all values."""
    rng = np.random.default_rng(seed)
    grid = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    truth = 10 + 8 * (sum(g // 5 for g in grid) % 2) + 2 * np.sin(sum(grid) / 2)
    noisy = 3.92 * rng.poisson(truth) + 100 + 2 * rng.normal(size=shape)
    return np.clip(np.rint(noisy), 0, None).astype(dtype)


def whole(image, noise, parameters, threads=1):
    shape = as_index(image.shape)
    return denoise_block(
        image,
        padded_origin=(0, 0, 0, 0, 0),
        core=Box.whole(shape),
        image_shape=shape,
        noise=noise,
        parameters=parameters,
        threads=threads,
    )


def blockwise(image, noise, parameters, block_shape, threads=1):
    grid = BlockGrid(as_index(image.shape), block_shape, reach(parameters))
    result = np.full(image.shape, np.nan, np.float32)
    for block in grid:
        result[block.core.slices] = denoise_block(
            image[block.padded.slices],
            padded_origin=block.padded.start,
            core=block.core,
            image_shape=as_index(image.shape),
            noise=noise,
            parameters=parameters,
            threads=threads,
        )
    return result


CASES = [
    pytest.param((1, 1, 1, 9, 11), (0, 0, 0, 1, 1), [(0, 0, 0, 2, 2)], id="2-D"),
    pytest.param((3, 1, 1, 5, 6), (0, 0, 0, 1, 1), [(1, 0, 0, 1, 1)], id="2-D+t"),
    pytest.param((1, 1, 4, 5, 6), (0, 0, 1, 1, 1), [(0, 0, 1, 1, 1)], id="3-D"),
    pytest.param((3, 1, 3, 4, 5), (0, 0, 0, 1, 1), [(1, 0, 1, 1, 1)], id="4-D"),
    pytest.param((3, 1, 3, 3, 4), (1, 0, 1, 0, 0), [(1, 0, 1, 1, 1)], id="patch in t and z"),
    pytest.param((1, 1, 1, 5, 2), (0, 0, 0, 1, 1), [(0, 0, 0, 2, 1)], id="narrow"),
    pytest.param((1, 1, 1, 1, 20), (0, 0, 0, 0, 2), [(0, 0, 0, 0, 4)], id="1-D"),
]


@pytest.mark.parametrize(("shape", "patch", "windows"), CASES)
@pytest.mark.parametrize("kind", ["camera", "gaussian"])
def test_agrees_with_reference(shape, patch, windows, kind):
    image = structured(shape)
    parameters = Parameters(patch, tuple(windows), THRESHOLD, 0.1)
    four = [i for axis, i in enumerate(patch) if axis != 1]
    window = [[i for axis, i in enumerate(w) if axis != 1] for w in windows]
    if kind == "camera":
        # The inverse is tested on its own: compare what comes before it.
        noise, flat = CAMERA, reference.stabilise(image[:, 0], 3.92, -388.0)
        result = reference.stabilise_mean_inverse(
            whole(image, [noise], parameters)[:, 0], 3.92, -388.0, 2.0
        )
    else:
        noise, flat = NoiseModel.gaussian(15.0), image[:, 0] / 15.0
        result = whole(image, [noise], parameters)[:, 0] / 15.0
    expected = reference.safir(flat, four, window, THRESHOLD)
    np.testing.assert_allclose(result, expected, rtol=0, atol=2e-3)


def test_agrees_with_reference_over_iterations():
    # Lepski's rule decides by comparing: where the kernel's bounds (kept in a byte) fall on the
    # other side of a decision than the reference's, the voxel may differ.
    image = structured((1, 1, 1, 12, 13))
    windows = ((0, 0, 0, 1, 1), (0, 0, 0, 2, 2), (0, 0, 0, 3, 3))
    parameters = Parameters((0, 0, 0, 1, 1), windows, THRESHOLD, 0.1)
    result = whole(image, [NoiseModel.gaussian(15.0)], parameters)[:, 0] / 15.0
    expected = reference.safir(
        image[:, 0] / 15.0, (0, 0, 1, 1), [(0, 0, r, r) for r in (1, 2, 3)], THRESHOLD
    )
    first = reference.safir(image[:, 0] / 15.0, (0, 0, 1, 1), [(0, 0, 1, 1)], THRESHOLD)
    close = np.abs(result - expected) < 2e-3
    assert close.mean() > 0.97
    assert (np.abs(first - expected) > 0.02).mean() > 0.2  # the later iterations did something


RIDGES = [
    pytest.param((1, 1, 1, 14, 15), Ridge((0, 0, 0, 1, 1), (0, 0, 0, 3, 3), (1, 1, 1, 2, 3), 8, 1)),
    pytest.param(
        (1, 1, 1, 14, 15), Ridge((0, 0, 0, 2, 1), (0, 0, 0, 2, 4), (1, 1, 1, 3, 2), 40, 1)
    ),
    pytest.param((3, 1, 1, 8, 9), Ridge((0, 0, 0, 1, 1), (1, 0, 0, 2, 2), (1, 1, 1, 2, 2), 16, 1)),
    pytest.param((1, 1, 5, 8, 7), Ridge((0, 0, 1, 1, 1), (0, 0, 1, 2, 2), (1, 1, 2, 2, 2), 10, 1)),
    pytest.param((3, 1, 4, 7, 6), Ridge((1, 0, 1, 1, 1), (1, 0, 1, 1, 1), (1, 1, 1, 2, 3), 32, 1)),
    pytest.param((2, 1, 2, 5, 5), Ridge((0, 0, 0, 0, 0), (1, 0, 1, 2, 2), (1, 1, 1, 1, 1), 5, 1)),
    pytest.param((1, 1, 1, 11, 12), Ridge((0, 0, 0, 1, 1), (0, 0, 0, 3, 3), (1, 1, 1, 2, 3), 8, 2)),
]


@pytest.mark.parametrize(("shape", "refinement"), RIDGES)
def test_refinement_agrees_with_reference(shape, refinement):
    image = structured(shape)
    window = as_index([min(1, n - 1) if axis != 1 else 0 for axis, n in enumerate(shape)])
    pilot = Parameters((0, 0, 0, 0, 0), (window,), 3.0, 0.1)
    noise = NoiseModel.gaussian(15.0)
    result = whole(image, [noise], replace(pilot, ridge=refinement))[:, 0] / 15.0
    expected = whole(image, [noise], pilot)[:, 0] / 15.0
    four = [
        [value for axis, value in enumerate(five) if axis != 1]
        for five in (refinement.patch, refinement.search, refinement.stride)
    ]
    for _ in range(refinement.rounds):
        pilot_before = expected
        expected = reference.ridge(image[:, 0] / 15.0, expected, *four, refinement.group)
    # Where two candidates are equally near to single precision, the choice may differ.
    close = np.abs(result - expected) < 5e-3
    assert close.mean() > 0.99
    assert np.abs(expected - pilot_before).max() > 0.1  # it did something


@pytest.mark.parametrize(
    "stride", [(1, 1, 1, 4, 4), (1, 1, 1, 1, 4)], ids=["both axes", "one axis"]
)
def test_stride_that_leaves_voxels_out_is_refused(stride):
    with pytest.raises(RefusedError, match=r"stride must be at most .* \[1, 1, 1, 3, 3\]"):
        resolve_ridge((1, 1, 1, 4, 4), stride=stride)


@pytest.mark.parametrize("photons", [1.0, 2.0, 5.0, 20.0, 200.0])
@pytest.mark.parametrize("shape", [(1, 1, 1, 300, 300), (4, 1, 16, 40, 40)])
def test_constant_mean_comes_back(photons, shape):
    rng = np.random.default_rng(3)
    noisy = 3.92 * rng.poisson(photons, shape) + 100 + 2 * rng.normal(size=shape)
    image = np.rint(noisy).astype(np.uint16)
    result = whole(image, [CAMERA], resolve_parameters(as_index(shape)), threads=2)
    light = 3.92 * photons
    sampling = 4 * np.sqrt(3.92 * light + 4) / np.sqrt(image.size)
    assert abs(float(result.mean()) - 100 - light) < 0.01 * light + sampling


@pytest.mark.parametrize("read_noise", [0.0, 0.5, 2.0, 6.0])
def test_inverse_undoes_the_mean_exactly(read_noise):
    # A single voxel is its own estimate: what comes out is inverse(z), whatever z is given.
    gain = 4.0
    offset = read_noise**2 - gain * 100.0  # black level 100
    noise = NoiseModel.poisson_gaussian(gain, offset, read_noise)
    only = Parameters((0, 0, 0, 0, 0), ((0, 0, 0, 0, 0),), 1.0, 0.1)
    for photons in (0.0, 0.5, 1.0, 3.0, 10.0, 60.0, 149.0, 155.0, 300.0):
        z = reference.mean_of_stabilised(photons, read_noise / gain)
        level = ((z * gain / 2) ** 2 - 0.375 * gain**2 - offset) / gain
        image = np.full((1, 1, 1, 1, 1), level, np.float32)
        back = float(whole(image, [noise], only)[0, 0, 0, 0, 0])
        assert back == pytest.approx(100 + gain * photons, abs=gain * (2e-3 + 1e-4 * photons))


def test_inverse_is_continuous_and_increasing():
    only = Parameters((0, 0, 0, 0, 0), ((0, 0, 0, 0, 0),), 1.0, 0.1)
    # Around darkness (100) the transform itself is as steep as a root at 0; from there on up it is
    # not, and the seam between table and closed form lies at 150 photons.
    levels = np.linspace(110, 4110, 40001, dtype=np.float32).reshape(1, 1, 1, 1, -1)
    result = whole(levels, [CAMERA], only).ravel()
    steps = np.diff(result)
    assert steps.min() >= 0
    assert steps.max() < 0.15  # inputs are 0.1 apart


@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_blocks_equal_the_whole_image_bit_for_bit(data):
    shape = data.draw(st.sampled_from([(1, 2, 1, 37, 41), (5, 1, 1, 23, 29), (4, 1, 9, 19, 17)]))
    block = tuple(data.draw(st.integers(1 if n == 1 else (n + 3) // 4, n)) for n in shape)
    iterations = data.draw(st.integers(1, 2))
    image = structured(shape, seed=data.draw(st.integers(0, 3)))
    parameters = resolve_parameters(shape, iterations=iterations)
    noise = [CAMERA] * shape[1]
    expected = whole(image, noise, parameters, threads=1)
    result = blockwise(image, noise, parameters, block, threads=data.draw(st.integers(1, 3)))
    np.testing.assert_array_equal(result, expected)


def test_four_iterations_in_blocks_bit_for_bit():
    image = structured((1, 1, 1, 150, 143))
    parameters = resolve_parameters((1, 1, 1, 150, 143), iterations=4, ridge=False)
    expected = whole(image, [CAMERA], parameters, threads=2)
    result = blockwise(image, [CAMERA], parameters, (1, 1, 1, 70, 61))
    np.testing.assert_array_equal(result, expected)


def test_structured_images_are_a_test_at_all():
    image = structured((1, 1, 1, 60, 60))
    result = whole(image, [CAMERA], resolve_parameters((1, 1, 1, 60, 60), iterations=1))
    changed = np.abs(result - image) > 1
    assert changed.mean() > 0.5  # patches found partners


def test_reach_is_tight():
    # One voxel less of halo, and some voxel of a block differs from the whole image's.
    shape = (1, 1, 1, 60, 60)
    parameters = resolve_parameters(shape, iterations=1, ridge=False)
    image = structured(shape)
    expected = whole(image, [CAMERA], parameters)
    core = Box((0, 0, 0, 20, 20), (1, 1, 1, 40, 40))
    halo = reach(parameters)
    short = as_index([max(0, h - 1) for h in halo])
    for margin, same in ((halo, True), (short, False)):
        padded = core.grown(margin, shape)
        result = denoise_block(
            image[padded.slices],
            padded_origin=padded.start,
            core=core,
            image_shape=shape,
            noise=[CAMERA],
            parameters=parameters,
            threads=1,
        )
        assert np.array_equal(result, expected[core.slices]) is same


@pytest.mark.parametrize("threads", [2, 3, 76])
@pytest.mark.parametrize("shape", [(1, 1, 1, 130, 97), (3, 1, 7, 33, 35)])
def test_threads_give_the_same_bits(shape, threads):
    image = structured(shape)
    parameters = resolve_parameters(shape, iterations=2)
    expected = whole(image, [CAMERA], parameters, threads=1)
    np.testing.assert_array_equal(whole(image, [CAMERA], parameters, threads=threads), expected)


@pytest.mark.parametrize("shape", [(1, 1, 1, 130, 97), (3, 1, 7, 33, 35)])
def test_instruction_sets_give_the_same_bits(shape, monkeypatch):
    image = structured(shape)
    parameters = resolve_parameters(shape, iterations=2)
    results = []
    for name in build_info()["instruction_sets"]:
        monkeypatch.setenv(ISA_VARIABLE, name)
        assert build_info()["instruction_set"] == name
        results.append(whole(image, [CAMERA], parameters, threads=2))
    for result in results:
        np.testing.assert_array_equal(result, results[0])


def test_unknown_instruction_set_is_refused(monkeypatch):
    monkeypatch.setenv(ISA_VARIABLE, "mmx")
    with pytest.raises(RefusedError, match=r"DENOISE5D_ISA must be one of baseline.* got 'mmx'"):
        build_info()
    with pytest.raises(ValueError, match="no instruction set 'mmx' here; there are: auto baseline"):
        whole(structured((1, 1, 1, 4, 4)), [CAMERA], resolve_parameters((1, 1, 1, 4, 4)))


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4"])
def test_every_type_gives_the_same_values(dtype):
    image = np.random.default_rng(0).integers(0, 127, (1, 1, 1, 20, 22))
    parameters = resolve_parameters((1, 1, 1, 20, 22))
    noise = [NoiseModel.poisson_gaussian(1.0, 5.0)]
    expected = whole(image.astype(np.float32), noise, parameters)
    np.testing.assert_array_equal(whole(image.astype(dtype), noise, parameters), expected)


@pytest.mark.parametrize("value", [0, 7, 65535])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1, 1), (1, 1, 1, 5, 3), (2, 2, 3, 4, 5)])
def test_constant_images_stay_constant(value, shape):
    image = np.full(shape, value, np.uint16)
    parameters = resolve_parameters(shape)
    result = whole(image, [NoiseModel.gaussian(10.0)] * shape[1], parameters)
    np.testing.assert_allclose(result, value, rtol=1e-6)
    camera = whole(image, [CAMERA] * shape[1], parameters)
    assert np.isfinite(camera).all()
    np.testing.assert_allclose(camera, camera.flat[0], rtol=1e-5, atol=1e-3)


def test_bad_values_are_refused_with_number_and_place():
    image = np.ones((2, 1, 3, 8, 9), np.float32)
    image[1, 0, 2, 3, 4] = np.nan
    image[1, 0, 2, 5, 1] = -np.inf
    core = Box((4, 0, 5, 6, 7), (6, 1, 8, 14, 16))
    with pytest.raises(InputError, match=r"2 values .* first at TCZYX \(5, 0, 7, 9, 11\)"):
        denoise_block(
            image,
            padded_origin=(4, 0, 5, 6, 7),
            core=core,
            image_shape=(9, 1, 9, 20, 20),
            noise=[NoiseModel.gaussian(1.0)],
            parameters=resolve_parameters((9, 1, 9, 20, 20)),
            threads=2,
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"core": Box((0, 0, 0, 0, 0), (1, 1, 1, 9, 8))}, "core must lie inside the padded"),
        ({"core": Box((0, 0, 0, 2, 2), (1, 1, 1, 2, 8))}, "core must not be empty"),
        ({"image_shape": (1, 1, 1, 7, 8)}, "padded box must lie inside the image"),
        ({"threads": 0}, "threads must be at least 1"),
        ({"noise": [NoiseModel(1.0, 0.0, 0.0)], "padded": np.ones((1, 8, 8))}, "must be 5-D"),
    ],
)
def test_impossible_blocks_are_refused(change, message):
    arguments = {
        "padded": np.ones((1, 1, 1, 8, 8), np.uint16),
        "padded_origin": (0, 0, 0, 0, 0),
        "core": Box((0, 0, 0, 0, 0), (1, 1, 1, 8, 8)),
        "image_shape": (1, 1, 1, 8, 8),
        "noise": [CAMERA],
        "parameters": resolve_parameters((1, 1, 1, 8, 8)),
        "threads": 1,
    }
    arguments.update(change)
    with pytest.raises(ValueError, match=message):
        denoise_block(arguments.pop("padded"), **arguments)


INTERRUPTED = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a background job
import numpy as np
from denoise5d import denoise
image = np.random.default_rng(0).poisson(20, (4, 64, 512, 512)).astype(np.uint16)
print("ready", flush=True)
denoise(image, axes="TZYX", gain=1, offset=0, iterations=6, threads=2)
print("finished", flush=True)
"""


def test_interrupt_is_answered():
    # Undisturbed this takes hours: the test ends by the interrupt or by its time limit.
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.5)  # well inside the kernel
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert "finished" not in out
    assert "KeyboardInterrupt" in err


@pytest.mark.parametrize("degrees", [1, 9, 25, 75, 147, 4913])
@pytest.mark.parametrize("probability", [0.5, 0.9, 0.999])
def test_chi_square_quantile(degrees, probability):
    from scipy import stats

    expected = stats.chi2.ppf(probability, degrees)
    assert _chi_square_quantile(probability, degrees) == pytest.approx(expected, rel=1e-9)


def test_defaults_follow_the_dimensions():
    assert resolve_parameters((1, 1, 1, 64, 64)).patch == (0, 0, 0, 3, 3)
    assert resolve_parameters((9, 1, 50, 64, 64)).windows == ((1, 0, 1, 1, 1),)
    assert len(resolve_parameters((1, 1, 1, 64, 64)).windows) == 3
    narrow = resolve_parameters((1, 1, 1, 2, 64), iterations=3)
    assert narrow.patch == (0, 0, 0, 1, 3)
    assert narrow.windows[-1] == (0, 0, 0, 1, 4)


def test_reach_is_the_sum_over_iterations():
    shape = (9, 1, 50, 640, 640)
    safir = resolve_parameters(shape, patch=(0, 0, 1, 2, 2), iterations=2, ridge=False)
    assert reach(safir) == (2, 0, 7, 11, 11)
    refined = replace(safir, ridge=resolve_ridge(shape, search=(1, 0, 1, 2, 2), rounds=2))
    assert reach(refined) == (2 + 4, 0, 7 + 8, 11 + 16, 11 + 16)


def test_scratch_is_bounded():
    parameters = resolve_parameters((17, 1, 1501, 2048, 1936))
    assert scratch_bytes(parameters, (17, 1, 300, 600, 600)) < 16 * 2**20
