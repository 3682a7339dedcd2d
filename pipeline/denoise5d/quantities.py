"""How numbers are written for people: bytes, voxels, time, shapes."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from denoise5d.geometry import AXES


def size(count: float) -> str:
    """Write bytes with a prefix, three digits: ``94.2 MiB``."""
    for power, unit in ((4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
        if count >= 999.5 * 1024 ** (power - 1):
            return f"{_three_digits(count / 1024**power)} {unit}"
    return f"{count:.0f} bytes"


def voxels(count: float) -> str:
    """Write a number of voxels with a prefix, three digits: ``1.31 Mvoxel``."""
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= 0.9995 * factor:
            return f"{_three_digits(count / factor)} {prefix}voxel"
    return f"{count:.0f} voxel"


def grey_level(value: float) -> str:
    """Write a grey level, four digits; below ten million without an exponent: ``37300``."""
    return f"{value:.0f}" if 9999.5 <= abs(value) < 1e7 else f"{value:.4g}"


def clock(seconds: float) -> str:
    """Write a time span as ``h:mm:ss``."""
    return str(timedelta(seconds=round(seconds)))


def duration(seconds: float) -> str:
    """Write a time span in seconds up to two minutes, then as ``h:mm:ss``."""
    if seconds >= 119.5:
        return clock(seconds)
    return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"


def number(count: int, noun: str) -> str:
    """Write how many there are: ``1 block``, ``2 blocks``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def shape(lengths: Iterable[int]) -> str:
    """Write five lengths as ``T 17, C 1, Z 1501, Y 2048, X 1936``."""
    return ", ".join(f"{axis} {n}" for axis, n in zip(AXES, lengths, strict=True))


def _three_digits(value: float) -> str:
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}"
