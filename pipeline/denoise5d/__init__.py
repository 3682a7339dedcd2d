"""Patch-based non-local denoising of 5-D microscopy images, block by block."""

from denoise5d.kernel import build_info, denoise_block, reach, resolve_parameters

__all__ = ["build_info", "denoise_block", "reach", "resolve_parameters"]
