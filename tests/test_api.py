"""What a Python session calls: any order of axes, any type, every refusal."""

from __future__ import annotations

import doctest
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import denoise5d
from denoise5d import api, denoise, estimate_noise
from denoise5d.errors import InputError, NoiseError, RefusedError
from denoise5d.parameters import resolve_ridge

AXES = "TCZYX"
QUICK: dict[str, Any] = {"iterations": 1, "threads": 1}


def noisy(shape: tuple[int, ...], *, seed: int = 0, sigma: float = 5.0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return (rng.normal(100, sigma, shape) + 40 * rng.random(shape[-1])).astype(np.float32)


IMAGE = noisy((3, 12, 14))


@st.composite
def some_axes(draw: st.DrawFn) -> str:
    chosen = draw(st.lists(st.sampled_from(AXES), min_size=1, max_size=5, unique=True))
    return "".join(draw(st.permutations(chosen)))


@settings(deadline=None, max_examples=40)
@given(axes=some_axes(), lengths=st.tuples(*[st.integers(1, 9)] * 5), lower=st.booleans())
def test_any_order_of_axes_is_transposing_by_hand(
    axes: str, lengths: tuple[int, ...], lower: bool
) -> None:
    length = dict(zip(AXES, lengths, strict=True))
    image = noisy(tuple(length[axis] for axis in axes))
    kept = [axis for axis in AXES if axis in axes]
    stack = image.transpose([axes.index(axis) for axis in kept])
    stack = stack.reshape([length[axis] if axis in axes else 1 for axis in AXES])
    by_hand = denoise(np.ascontiguousarray(stack), axes=AXES, sigma=5, **QUICK)
    by_hand = by_hand.reshape([length[axis] for axis in kept])
    expected = by_hand.transpose([kept.index(axis) for axis in axes])

    result = denoise(image, axes=axes.lower() if lower else axes, sigma=5, **QUICK)
    assert result.shape == image.shape
    assert result.dtype == np.float32
    assert result.flags.c_contiguous
    np.testing.assert_array_equal(result, expected)


def test_it_denoises() -> None:
    image = noisy((32, 48))
    image -= image.mean(axis=0)
    result = denoise(image, axes="YX", sigma=5, threads=1)
    assert result.std() < 0.5 * image.std()


def test_a_number_for_each_channel_is_that_of_the_channel_alone() -> None:
    image = np.stack([noisy((10, 12), seed=1), noisy((10, 12), seed=2, sigma=20)])
    both = denoise(image, axes="CYX", sigma=[5, 20], **QUICK)
    for channel, sigma in enumerate((5, 20)):
        alone = denoise(image[channel], axes="YX", sigma=sigma, **QUICK)
        np.testing.assert_array_equal(both[channel], alone)


@pytest.mark.parametrize(
    "many",
    [[3.0, 3.0], (3, 3), np.array([3, 3]), np.float32(3), [3.0], np.array(3.0)],
    ids=["list", "tuple", "array", "scalar", "one for all", "array of no axes"],
)
def test_numbers_may_come_in_any_form(many: Any) -> None:
    image = noisy((2, 10, 12))
    expected = denoise(image, axes="CYX", gain=3.0, offset=-200.0, read_noise=1.5, **QUICK)
    result = denoise(image, axes="CYX", gain=many, offset=[-200.0, -200.0], **QUICK)
    np.testing.assert_array_equal(result, expected)  # read noise is half the gain unless given


def test_the_noise_is_estimated_if_nothing_is_given() -> None:
    brightness = np.linspace(5, 80, 96)[:, None] * np.ones((4, 1, 96))
    image = 3.92 * np.random.default_rng(0).poisson(brightness) + 100
    [estimate] = estimate_noise(image, axes="ZYX")
    assert estimate.model.gain == pytest.approx(3.92, rel=0.15)
    result = denoise(image, axes="ZYX", **QUICK)
    model = estimate.model
    given_it = denoise(image, axes="ZYX", gain=model.gain, offset=model.offset, **QUICK)
    np.testing.assert_array_equal(result, given_it)


def test_the_noise_is_estimated_for_each_channel() -> None:
    image = np.stack([noisy((128, 128), seed=1), noisy((128, 128), seed=2, sigma=20)], axis=-1)
    sigmas = [e.model.offset**0.5 for e in estimate_noise(image, axes="YXC")]
    assert sigmas == pytest.approx([5, 20], rel=0.25)


@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f8"])
@pytest.mark.parametrize("order", "<>")
def test_every_type_of_numbers_is_taken(kind: str, order: str) -> None:
    whole = (noisy((3, 10, 12)) / 2).round()
    expected = denoise(whole, axes="ZYX", sigma=3, **QUICK)
    result = denoise(whole.astype(order + kind), axes="ZYX", sigma=3, **QUICK)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, expected)


def test_a_list_of_lists_is_taken() -> None:
    image = IMAGE[0].round().astype(int)
    expected = denoise(image, axes="YX", sigma=3, **QUICK)
    np.testing.assert_array_equal(denoise(image.tolist(), axes="YX", sigma=3, **QUICK), expected)


@pytest.mark.parametrize("kind", ["f4", ">f4", "f8", "u2"])
def test_the_input_is_not_changed(kind: str) -> None:
    image = IMAGE.astype(kind)
    before = image.copy()
    image.flags.writeable = False
    result = denoise(image, axes="ZYX", sigma=5, **QUICK)
    assert not np.shares_memory(result, image)
    np.testing.assert_array_equal(image, before)


def test_memory_may_lie_in_any_way() -> None:
    image = noisy((6, 24, 28))
    expected = denoise(image[::2, ::-2, 3:20].copy(), axes="ZYX", sigma=5, **QUICK)
    for view in (
        image[::2, ::-2, 3:20],
        np.asfortranarray(image[::2, ::-2, 3:20]),
        np.broadcast_to(image[::2, ::-2, 3:20], (3, 12, 17)),
    ):
        np.testing.assert_array_equal(denoise(view, axes="ZYX", sigma=5, **QUICK), expected)


def test_calls_from_several_threads_at_once_do_not_meet() -> None:
    images = [noisy((3, 24, 30), seed=seed, sigma=3 + seed) for seed in range(6)]

    def work(seed: int) -> NDArray[np.float32]:
        return denoise(images[seed], axes="ZYX", sigma=3 + seed, iterations=2, threads=2)

    expected = [work(seed) for seed in range(6)]
    with ThreadPoolExecutor(4) as pool:
        for one, other in zip(expected, pool.map(work, range(6)), strict=True):
            np.testing.assert_array_equal(one, other)


def test_parameters_reach_the_kernel() -> None:
    image = noisy((16, 18))
    base: dict[str, Any] = {"axes": "YX", "sigma": 5, "iterations": 2, "threads": 1}
    results = [
        denoise(image, **base | change)
        for change in ({}, {"patch": (0, 0, 0, 1, 1)}, {"iterations": 3}, {"pvalue": 0.5})
    ]
    results.append(denoise(image, **base | {"sigma": 8}))
    for i, one in enumerate(results):
        assert not any(np.array_equal(one, other) for other in results[:i])


def test_quality_is_one_word_for_the_numbers() -> None:
    image = noisy((20, 22))
    base: dict[str, Any] = {"axes": "YX", "sigma": 5, "threads": 1}
    words: dict[str, dict[str, Any]] = {"fast": {"method": "safir"}, "standard": {}}
    for quality, same in words.items():
        result = denoise(image, quality=quality, **base)
        np.testing.assert_array_equal(result, denoise(image, **base | same))
        agreed = denoise(image, quality=quality, method=same.get("method", "ridge"), **base)
        np.testing.assert_array_equal(agreed, result)
    shape = (1, 1, 1, *image.shape)
    by_hand = denoise5d.denoise_block(
        image.reshape(shape),
        padded_origin=(0, 0, 0, 0, 0),
        core=denoise5d.Box.whole(shape),
        image_shape=shape,
        noise=[denoise5d.NoiseModel.gaussian(5)],
        parameters=replace(
            denoise5d.resolve_parameters(shape, ridge=False), ridge=resolve_ridge(shape, rounds=2)
        ),
        threads=1,
    )
    best = denoise(image, quality="best", **base)
    np.testing.assert_array_equal(best, by_hand.reshape(image.shape))


REFUSED = [
    ({"axes": "YXX"}, InputError, "axes must be some of 'TCZYX' without repetition, got 'YXX'"),
    ({"axes": "ZYQ"}, InputError, "axes must be some of 'TCZYX' without repetition, got 'ZYQ'"),
    ({"axes": "YX"}, InputError, "axes 'YX' name 2 axes, but the image has 3"),
    ({"axes": ""}, InputError, "axes '' name 0 axes, but the image has 3"),
    ({"sigma": 0}, NoiseError, "sigma must be > 0, got 0"),
    ({"sigma": -1.5}, NoiseError, "sigma must be > 0, got -1.5"),
    ({"sigma": float("nan")}, NoiseError, "sigma must be > 0, got nan"),
    ({"sigma": float("inf")}, NoiseError, "must be finite"),
    ({"sigma": "20"}, NoiseError, "sigma must be one number or a list of numbers, got '20'"),
    ({"sigma": [[5]]}, NoiseError, "sigma must be one number or a list of numbers, got [[5]]"),
    ({"sigma": []}, NoiseError, "sigma must be one number, or one for each of 1 channels, got 0"),
    ({"sigma": [5, 6]}, NoiseError, "one for each of 1 channels, got 2"),
    ({"gain": 3}, NoiseError, "give either sigma, or gain and offset (and read_noise); got both"),
    ({"offset": 3}, NoiseError, "give either sigma, or gain and offset"),
    ({"read_noise": 3}, NoiseError, "give either sigma, or gain and offset"),
    ({"sigma": None, "gain": 3}, NoiseError, "gain and offset belong together, got no offset"),
    ({"sigma": None, "offset": 3}, NoiseError, "gain and offset belong together, got no gain"),
    ({"sigma": None, "read_noise": 3}, NoiseError, "read_noise goes with gain and offset"),
    ({"sigma": None, "gain": 0, "offset": 3}, NoiseError, "gain must be > 0, got 0"),
    ({"sigma": None, "gain": 3, "offset": [1, 2]}, NoiseError, "offset must be one number, or"),
    (
        {"sigma": None, "gain": 3, "offset": 1, "read_noise": -1},
        NoiseError,
        "read noise must be >= 0, got -1",
    ),
    ({"quality": "good"}, RefusedError, "quality must be 'fast', 'standard' or 'best', got 'good'"),
    ({"quality": "fast"}, RefusedError, "iterations must not stand beside quality; remove one"),
    (
        {"quality": "best", "iterations": None, "pvalue": 0.1},
        RefusedError,
        "pvalue must not stand beside quality",
    ),
    (
        {"quality": "fast", "iterations": None, "patch": (0, 0, 0, 1, 1)},
        RefusedError,
        "patch must not stand beside quality",
    ),
    (
        {"quality": "fast", "iterations": None, "method": "ridge"},
        RefusedError,
        "quality 'fast' contradicts method 'ridge'; remove one of the two, as fast is safir",
    ),
    (
        {"quality": "best", "iterations": None, "method": "safir"},
        RefusedError,
        "quality 'best' contradicts method 'safir'",
    ),
    ({"method": "bm3d"}, RefusedError, "method must be 'ridge' or 'safir', got 'bm3d'"),
    ({"patch": (1, 2, 2)}, RefusedError, "five radii of 0 to 8 voxels for TCZYX, got (1, 2, 2)"),
    ({"patch": (0, 0, 0, 9, 3)}, RefusedError, "five radii of 0 to 8 voxels for TCZYX, got (0, 0"),
    ({"patch": (0, 0, 0, -1, 3)}, RefusedError, "five radii of 0 to 8 voxels"),
    ({"patch": (0, 0, 0, 1.5, 3)}, RefusedError, "five radii of 0 to 8 voxels"),
    ({"patch": (0, 1, 0, 3, 3)}, RefusedError, "patch must be 0 along C"),
    ({"iterations": 0}, RefusedError, "iterations must be a whole number from 1 to 6, got 0"),
    ({"iterations": 7}, RefusedError, "iterations must be a whole number from 1 to 6, got 7"),
    ({"iterations": 2.5}, RefusedError, "iterations must be a whole number from 1 to 6, got 2.5"),
    ({"pvalue": 0}, RefusedError, "pvalue must be between 0 and 1, got 0"),
    ({"pvalue": 1}, RefusedError, "pvalue must be between 0 and 1, got 1"),
    ({"pvalue": float("nan")}, RefusedError, "pvalue must be between 0 and 1, got nan"),
    ({"threads": 0}, RefusedError, "threads must be a whole number from 1 to 4096, got 0"),
    ({"threads": 10**9}, RefusedError, "threads must be a whole number from 1 to 4096, got 10000"),
    ({"threads": 1.5}, RefusedError, "threads must be a whole number from 1 to 4096, got 1.5"),
]


@pytest.mark.parametrize(("change", "error", "words"), REFUSED, ids=[str(r[0]) for r in REFUSED])
def test_every_refusal_says_why(
    change: dict[str, Any], error: type[RefusedError], words: str
) -> None:
    arguments: dict[str, Any] = {"axes": "ZYX", "sigma": 5} | QUICK | change
    with pytest.raises(RefusedError) as caught:
        denoise(IMAGE, **arguments)
    assert type(caught.value) is error
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), bool),
        np.zeros((4, 4), complex),
        np.array([["a", "b"]]),
        np.array([[None, None]]),
        np.zeros((4, 4), "M8[s]"),
    ],
    ids=lambda image: str(image.dtype),
)
@pytest.mark.parametrize("call", [denoise, estimate_noise])
def test_what_are_no_numbers_is_refused(image: NDArray[Any], call: Any) -> None:
    with pytest.raises(InputError, match="must be of integers or real numbers, got"):
        call(image, axes="YX")


def test_an_empty_image_is_refused() -> None:
    with pytest.raises(InputError, match=r"must have voxels, got the shape \(3, 0, 4\)"):
        denoise(np.zeros((3, 0, 4)), axes="ZYX", sigma=1)


@pytest.mark.parametrize("noise", [{"sigma": 5}, {}], ids=["given", "estimated"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_values_that_are_not_finite_are_counted_and_placed(
    noise: dict[str, int], bad: float
) -> None:
    image = IMAGE.astype(np.float64)
    image[1, 2, 3] = image[1, 5, 0] = bad
    with pytest.raises(InputError) as caught:
        denoise(image.transpose(2, 0, 1), axes="XZY", **noise)
    assert str(caught.value).startswith(
        "the image holds 2 values that are NaN or infinite in float32, the first at XZY (0, 1, 5)"
    )


def test_infinities_that_cancel_are_seen() -> None:
    image = IMAGE.copy()
    image[0, 0, 0], image[0, 0, 1] = np.inf, -np.inf
    with pytest.raises(InputError, match="holds 2 values"):
        denoise(image, axes="ZYX", sigma=5)


def test_a_constant_image_does_not_tell_its_noise() -> None:
    with pytest.raises(NoiseError):
        denoise(np.full((8, 32, 32), 7), axes="ZYX")


def test_the_examples_of_the_documentation_hold() -> None:
    found = doctest.testmod(api)
    assert found.attempted > 8
    assert found.failed == 0


def test_everything_public_is_described() -> None:
    for name in denoise5d.__all__:
        assert len(getattr(denoise5d, name).__doc__ or "") > 60, name
