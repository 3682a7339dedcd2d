"""Seams are found where there are any, and nowhere else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from denoise5d.geometry import BlockGrid, Box, Index, as_index
from denoise5d.kernel import denoise_block, reach
from denoise5d.noise import NoiseModel
from denoise5d.parameters import resolve_parameters
from denoise5d.seams import Seams, cut_axes, face_boxes, seam_statistics
from denoise5d.verdicts import Grade, seam_verdicts

SHAPE: Index = (1, 1, 16, 256, 256)
NO_HALO: Index = (0, 0, 0, 0, 0)
GRID = BlockGrid(SHAPE, (1, 1, 8, 64, 64), NO_HALO)
SIGMA = 10.0
Image = NDArray[Any]


@pytest.fixture(scope="module")
def image() -> Image:
    """Blobs and edges, and what little noise a good estimate leaves."""
    rng = np.random.default_rng(1)
    blobs = gaussian_filter(rng.standard_normal(SHAPE), (0, 0, 1, 3, 3))
    blobs = np.where(blobs > blobs.std(), 300.0, 100.0) + 200 * blobs / blobs.max()
    rest = gaussian_filter(rng.standard_normal(SHAPE), (0, 0, 0.7, 1, 1))
    return gaussian_filter(blobs, (0, 0, 1.5, 1, 1)) + 0.1 * SIGMA * rest / rest.std()


def look(image: Image, grid: BlockGrid = GRID, most: int = 64) -> list[Seams]:
    return [
        seam_statistics(
            grid, axis, ((box, image[box.slices], SIGMA) for box in face_boxes(grid, axis, most))
        )
        for axis in cut_axes(grid)
    ]


def test_an_image_in_one_piece_has_no_seam(image: Image) -> None:
    found = look(image)
    assert [each.axis for each in found] == ["Z", "Y", "X"]
    assert [each.faces for each in found] == [1, 3, 3]
    for each in found:
        ratio, error = each.ratio
        assert abs(ratio - 1) < 3 * error
        assert 0 < error < 0.1
        assert each.patches == 64
    z, *others = seam_verdicts(found, exact=False)
    assert z.grade is not Grade.BAD  # little is known of a single face
    for verdict in others:
        assert verdict.grade is Grade.GOOD
        assert "No seam: ratio" in verdict.words


def test_a_fraction_of_the_noise_between_blocks_is_a_seam(image: Image) -> None:
    rng = np.random.default_rng(2)
    offset = image.copy()
    for block in GRID:
        offset[block.core.slices] += 0.3 * SIGMA * rng.standard_normal()
    found = look(offset)[1:]  # along Z the image itself jumps by half of the noise
    for each, verdict in zip(found, seam_verdicts(found, exact=False), strict=True):
        assert each.ratio[0] > 1.5
        assert verdict.grade is Grade.BAD
        assert verdict.words.startswith("A seam: ratio")
        assert each.worst is not None
        assert each.worst[0] > each.ratio[0]


def test_a_tenth_of_the_noise_is_a_seam_where_the_image_is_smooth() -> None:
    rng = np.random.default_rng(1)
    smooth = gaussian_filter(rng.standard_normal(SHAPE), (0, 0, 2, 8, 8))
    rest = gaussian_filter(rng.standard_normal(SHAPE), (0, 0, 0.7, 1, 1))
    image = 100 + 3 * SIGMA * smooth / smooth.std() + 0.1 * SIGMA * rest / rest.std()
    assert all(v.grade is not Grade.BAD for v in seam_verdicts(look(image), exact=False))
    for block in GRID:
        image[block.core.slices] += 0.1 * SIGMA * rng.standard_normal()
    verdicts = seam_verdicts(look(image)[1:], exact=False)
    assert [v.grade for v in verdicts] == [Grade.BAD] * 2


def test_the_same_offsets_elsewhere_are_no_seam(image: Image) -> None:
    """What is found is at the faces: the same steps, four voxels beside them, are not."""
    elsewhere = image.copy()
    elsewhere[:, :, 4:] += 0.1 * SIGMA
    elsewhere[:, :, :, 68:] += 0.1 * SIGMA
    assert all(each.ratio[0] < 1.1 for each in look(elsewhere))


def test_planes_that_differ_by_themselves_are_hardly_ever_a_seam() -> None:
    """A single face, and structure that all its patches share: each plane has jumps of its own."""
    grid = BlockGrid(SHAPE, (1, 1, 16, 256, 128), NO_HALO)
    by_errors_alone = taken_for_seams = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        columns = gaussian_filter(rng.standard_normal(256), 2)
        image = 3 * columns / columns.std() + rng.normal(0, 0.05, SHAPE)
        (found,) = look(SIGMA * image, grid)
        ratio, error = found.ratio
        by_errors_alone += ratio - 3 * error > 1.1
        taken_for_seams += seam_verdicts([found], exact=False)[0].grade is Grade.BAD
    assert by_errors_alone >= 6
    assert taken_for_seams <= 2


def test_the_kernel_with_and_without_its_halo() -> None:
    shape: Index = (1, 1, 1, 192, 192)
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:192, :192]
    truth = 100 + 60 * np.sin(x / 7) * np.cos(y / 9)
    noisy = (truth + SIGMA * rng.standard_normal((192, 192))).astype(np.float32).reshape(shape)
    parameters = resolve_parameters(shape)

    def denoised(halo: Index) -> tuple[Image, BlockGrid]:
        grid = BlockGrid(shape, (1, 1, 1, 32, 32), halo)
        result = np.empty(shape, np.float32)
        for block in grid:
            result[block.core.slices] = denoise_block(
                noisy[block.padded.slices],
                padded_origin=block.padded.start,
                core=block.core,
                image_shape=shape,
                noise=[NoiseModel.gaussian(SIGMA)],
                parameters=parameters,
                threads=2,
            )
        return result, grid

    exact = seam_verdicts(look(*denoised(reach(parameters))), exact=True)
    assert [v.grade for v in exact] == [Grade.GOOD] * 2
    assert all("by construction there is none" in v.words for v in exact)
    approximate = seam_verdicts(look(*denoised((0, 0, 0, 1, 1))), exact=False)
    assert [v.grade for v in approximate] == [Grade.BAD] * 2


def test_a_seam_with_an_exact_halo_is_doubted_aloud(image: Image) -> None:
    offset = image.copy()
    offset[:, :, :, 64:128] += SIGMA
    verdict = seam_verdicts(look(offset), exact=True)[1]
    assert verdict.grade is Grade.DOUBT
    assert "denoise5d verify" in verdict.words


def test_an_image_of_one_value_has_no_seam() -> None:
    found = look(np.zeros(SHAPE))
    assert [each.ratio for each in found] == [(1.0, 0.0)] * 3


def test_a_single_block_has_no_cut() -> None:
    grid = BlockGrid(SHAPE, SHAPE, NO_HALO)
    assert cut_axes(grid) == []
    (verdict,) = seam_verdicts([], exact=True)
    assert verdict.grade is Grade.GOOD
    assert "no cut" in verdict.words


@pytest.mark.parametrize(("exact", "grade"), [(True, Grade.GOOD), (False, Grade.DOUBT)])
def test_blocks_too_short_to_look_beside_their_faces(exact: bool, grade: Grade) -> None:
    grid = BlockGrid((9, 1, 1, 64, 64), (1, 1, 1, 64, 64), NO_HALO)
    (found,) = look(np.zeros(grid.image_shape), grid)
    assert found.patches == 0
    with pytest.raises(ValueError, match="along T"):
        _ = found.ratio
    (verdict,) = seam_verdicts([found], exact=exact)
    assert verdict.grade is grade
    assert "cannot be measured" in verdict.words


def test_few_patches_leave_it_open() -> None:
    errors = np.full(5, 0.1)
    found = Seams("T", 1, 3, (-2, -1, 0, 1, 2), np.ones(5), errors, 0.1, None)
    assert seam_verdicts([found], exact=False)[0].grade is Grade.DOUBT


@given(
    st.tuples(*[st.integers(1, 90)] * 5),
    st.tuples(*[st.integers(1, 40)] * 5),
    st.tuples(*[st.integers(0, 12)] * 5),
    st.integers(1, 20),
)
@settings(deadline=None)
def test_boxes_have_a_face_in_their_middle_and_no_other(
    shape: tuple[int, ...], block: tuple[int, ...], halo: tuple[int, ...], most: int
) -> None:
    grid = BlockGrid(as_index(shape), as_index(block), as_index(halo))
    for axis in cut_axes(grid):
        boxes = face_boxes(grid, axis, most)
        assert len(boxes) <= most
        for box in boxes:
            assert Box.whole(grid.image_shape).contains(box)
            length = box.shape[axis]
            middle = box.start[axis] + length // 2
            assert length % 2 == 0
            assert middle % block[axis] == 0
            assert length >= 8
            assert length // 2 <= block[axis]
            assert length == boxes[0].shape[axis]
