"""Patch-based non-local denoising of 5-D microscopy images, block by block."""

from denoise5d.api import denoise, estimate_noise
from denoise5d.geometry import Box
from denoise5d.kernel import build_info, denoise_block, reach
from denoise5d.noise import NoiseEstimate, NoiseModel
from denoise5d.parameters import Parameters, resolve_parameters

__all__ = [
    "Box",
    "NoiseEstimate",
    "NoiseModel",
    "Parameters",
    "build_info",
    "denoise",
    "denoise_block",
    "estimate_noise",
    "reach",
    "resolve_parameters",
]
