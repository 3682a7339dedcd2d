"""What the denoiser is for: better pictures, with the noise given or found by itself."""

from __future__ import annotations

import numpy as np
import pytest

from denoise5d import denoise
from denoise5d.phantom import camera, embryo, filaments, texture

GAIN, OFFSET, BLACK = 3.92, -388.0, 100.0

PHANTOMS = {
    "embryo 4-D": lambda peak: embryo((5, 1, 16, 96, 96), peak=peak),
    "embryo 3-D": lambda peak: embryo((1, 1, 24, 112, 112), peak=peak),
    "embryo 2-D+t": lambda peak: embryo((12, 1, 1, 128, 128), peak=peak),
    "texture 2-D": lambda peak: texture((1, 1, 1, 288, 288), peak=peak),
    "filaments 3-D": lambda peak: filaments((1, 1, 16, 112, 112), peak=peak),
}


def psnr(result, truth):
    error = np.mean((result.astype(float) - truth) ** 2)
    return 10 * np.log10((truth.max() - truth.min()) ** 2 / error)


@pytest.mark.parametrize("peak", [20.0, 300.0])
@pytest.mark.parametrize("name", PHANTOMS)
def test_noise_found_is_as_good_as_noise_known(name, peak):
    photons = PHANTOMS[name](peak)
    image = camera(photons, seed=1)
    truth = GAIN * photons.astype(float) + BLACK
    known = psnr(denoise(image, axes="TCZYX", gain=GAIN, offset=OFFSET), truth)
    found = psnr(denoise(image, axes="TCZYX"), truth)
    assert found > known - 0.1
    pilot = psnr(denoise(image, axes="TCZYX", gain=GAIN, offset=OFFSET, method="safir"), truth)
    assert known > pilot + (
        0.5 if peak > 100 else -0.15
    )  # rough texture gains nothing at 20 photons
    assert known > psnr(image, truth) + (5 if peak < 100 else 3)
