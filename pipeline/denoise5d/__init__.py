"""Patch-based non-local denoising of 5-D microscopy images, block by block."""
